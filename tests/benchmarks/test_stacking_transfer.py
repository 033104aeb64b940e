"""Rules by which a correction is carried over from copies to experts, on hand-made pixels."""

from pathlib import Path

import pytest
import torch

from benchmarks.quality.stacking_transfer import (
    COPIES_SEEN,
    COPIES_UNSEEN,
    HELD_OUT,
    SEEN,
    StackingTransfer,
    corrections,
)
from moegs_ns.evaluation.tables import Row
from moegs_ns.mixture.mixture import GateConfig
from moegs_ns.mixture.stacking import UnseenPixels, gates_of

GATES = gates_of(1.0, GateConfig())


def pixels(first: float, second: float) -> UnseenPixels:
    """Two experts with these errors of their own, logits that say nothing, and two cameras."""
    generator = torch.Generator().manual_seed(1)
    targets = torch.rand(400, 3, generator=generator).double()
    noise = torch.randn(2, 400, 3, generator=generator).double()
    errors = torch.tensor([first, second]).double()[:, None, None]
    columns = torch.randn(2, 400, 3, generator=generator).double()
    return UnseenPixels(targets + errors * noise, columns, targets, torch.arange(400) % 2)


def share_of_first(rule: str, kinds: dict[str, UnseenPixels]) -> float:
    """Gate of the first expert with the biases of a rule."""
    (correction,) = (
        each for name, form, each in corrections(kinds, GATES) if (name, form) == (rule, "biases")
    )
    return float(torch.softmax(correction.bias, 0)[0])


@pytest.fixture
def kinds() -> dict[str, UnseenPixels]:
    """Alike where they are seen, the second expert overfits; its copy is bad everywhere."""
    return {
        COPIES_UNSEEN: pixels(0.1, 0.6), COPIES_SEEN: pixels(0.1, 0.3),
        SEEN: pixels(0.1, 0.1), HELD_OUT: pixels(0.1, 0.2),
    }  # fmt: skip


def test_a_bad_copy_is_held_against_its_expert_by_one_rule_alone(kinds: dict[str, UnseenPixels]):
    best = 0.2**2 / (0.1**2 + 0.2**2)  # inverse variances
    found = {
        rule: share_of_first(rule, kinds)
        for rule in ("seen images alone", "relative", "absolute",
                     "held-out images themselves (a bound)")
    }  # fmt: skip
    assert found["held-out images themselves (a bound)"] == pytest.approx(best, abs=0.05)
    assert found["seen images alone"] == pytest.approx(0.5, abs=0.05)
    assert found["seen images alone"] < found["relative"] < found["absolute"]


def test_rules_agree_where_copies_are_the_experts(kinds: dict[str, UnseenPixels]):
    kinds[COPIES_SEEN] = kinds[SEEN]
    assert share_of_first("relative", kinds) == share_of_first("absolute", kinds)


def test_the_table_is_made_again_from_pixels(kinds: dict[str, UnseenPixels], tmp_path: Path):
    file = tmp_path / "pixels.pt"
    parts = {k: (p.images, p.columns, p.targets, p.groups) for k, p in kinds.items()}
    torch.save({"temperature": 1.0, "uniform": 0.0, "pixels": parts}, file)
    rows: list[Row] = list(StackingTransfer(pixels=file).rows())
    by_name = {(row["rule"], row["form"]): row for row in rows}
    bounds = [row["psnr"] for (rule, _), row in by_name.items() if rule.startswith("held-out")]
    assert max(bounds) == max(row["psnr"] for row in rows)
    average = by_name["absolute", "average"]
    blend = kinds[HELD_OUT].images.mean(0) - kinds[HELD_OUT].targets
    assert average["psnr"] == pytest.approx(float(-10 * blend.square().mean().log10()))
    with pytest.raises(SystemExit, match="--run and --copies"):
        list(StackingTransfer(pixels=tmp_path / "none.pt").rows())
