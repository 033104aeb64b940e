"""The curve of pruning on made-up rows."""

import numpy as np

from benchmarks.quality.pruning_curve import CLAIM, curve_figure


def row(criterion: str, ratio: float, psnr: float, rounds: int = 0) -> dict:
    return {"criterion": criterion, "ratio": ratio, "psnr": psnr, "rounds": rounds}


def test_lines_begin_at_the_whole_mixture_and_go_by_ratio():
    rows = [row("none", 0.0, 30.0), row("a", 0.9, 28.0), row("a", 0.5, 29.5)]
    rows += [row("b", 0.5, 29.0), row("a", 0.5, 29.75, rounds=5)]
    axes = curve_figure(rows).axes[0]
    lines = {str(line.get_label()): np.array(line.get_xydata()) for line in axes.lines}
    np.testing.assert_allclose(lines["a"], [(0.0, 0.0), (0.5, -0.5), (0.9, -2.0)])
    np.testing.assert_allclose(lines["b"], [(0.0, 0.0), (0.5, -1.0)])
    np.testing.assert_allclose(lines["a, 5 round(s), trained on"], [(0.0, 0.0), (0.5, -0.25)])
    assert [tuple(line[0]) for line in lines.values() if len(line) == 1] == [CLAIM]
    colors = {str(line.get_label()): line.get_color() for line in axes.lines}
    assert colors["a"] == colors["a, 5 round(s), trained on"] != colors["b"]
