"""The curve of pruning: what it costs at every fraction of the Gaussians that is removed."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from moegs_ns.evaluation.tables import Row
from moegs_ns.mixture.mixture import EXPERT_COLORS

CLAIM = (0.8, -0.03)
"""Removed fraction and change of PSNR (dB) of 4DGS-1K on Neural 3D Video, by its paper."""
STYLES = {0: "-", 1: "--"}
"""Of one-shot pruning without training afterwards, and of one round with it; more are dotted."""


def curve_figure(rows: Sequence[Row]) -> Figure:
    """PSNR of a pruned mixture less that of the whole one, over the fraction that was removed; a
    line for each criterion and number of rounds."""
    whole = next(row["psnr"] for row in rows if row["ratio"] == 0.0)
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.subplots()
    criteria = list(dict.fromkeys(row["criterion"] for row in rows if row["ratio"] > 0.0))
    for criterion, color in zip(criteria, EXPERT_COLORS, strict=False):
        own = [row for row in rows if row["criterion"] == criterion]
        for rounds in dict.fromkeys(row["rounds"] for row in own):
            points = sorted((r["ratio"], r["psnr"] - whole) for r in own if r["rounds"] == rounds)
            x, y = zip((0.0, 0.0), *points, strict=True)
            how = f", {rounds} round(s), trained on" if rounds else ""
            style = STYLES.get(rounds, ":")
            axes.plot(x, y, style, color=color, marker="o", ms=3, label=criterion + how)
    axes.plot(*CLAIM, "k*", label="4DGS-1K, another scene and method")
    axes.axhline(0.0, color="0.8", lw=0.8, zorder=0)
    axes.set(
        xlabel="fraction of the Gaussians removed",
        ylabel="change of PSNR on held-out views (dB)",
        title=f"Pruning a mixture of {whole:.2f} dB",
    )
    axes.legend(fontsize=8)
    return figure
