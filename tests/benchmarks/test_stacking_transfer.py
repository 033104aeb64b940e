"""Rules by which a correction is carried over from copies to experts, on hand-made pixels."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.quality.stacking_transfer import Samples, StackingTransfer, corrections
from moegs_ns.evaluation.tables import Row
from moegs_ns.mixture.mixture import GateConfig
from moegs_ns.mixture.stacking import SampledPixels, gates_of

GATES = gates_of(1.0, GateConfig())


def pixels(first: float, second: float) -> SampledPixels:
    """Two experts with these errors of their own, logits that say nothing, and two cameras."""
    generator = torch.Generator().manual_seed(1)
    targets = torch.rand(400, 3, generator=generator).double()
    noise = torch.randn(2, 400, 3, generator=generator).double()
    errors = torch.tensor([first, second]).double()[:, None, None]
    columns = torch.randn(2, 400, 3, generator=generator).double()
    return SampledPixels(targets + errors * noise, columns, targets, torch.arange(400) % 2)


def share_of_first(rule: str, samples: Samples) -> float:
    """Gate of the first expert with the biases of a rule."""
    (correction,) = (
        each for name, form, each in corrections(samples, GATES) if (name, form) == (rule, "biases")
    )
    return float(torch.softmax(correction.bias, 0)[0])


@pytest.fixture
def samples() -> Samples:
    """Alike where they are seen, the second expert overfits; its copy is bad everywhere."""
    return Samples(
        copies_unseen=pixels(0.1, 0.6), copies_seen=pixels(0.1, 0.3),
        seen=pixels(0.1, 0.1), held_out=pixels(0.1, 0.2), temperature=1.0, uniform=0.0,
    )  # fmt: skip


def test_a_bad_copy_is_held_less_against_its_expert_by_the_relative_rule(samples: Samples):
    best = 0.2**2 / (0.1**2 + 0.2**2)  # inverse variances
    found = {
        rule: share_of_first(rule, samples)
        for rule in ("seen images alone", "relative", "absolute",
                     "held-out images themselves (a bound)")
    }  # fmt: skip
    assert found["held-out images themselves (a bound)"] == pytest.approx(best, abs=0.05)
    assert found["seen images alone"] == pytest.approx(0.5, abs=0.05)
    assert found["seen images alone"] < found["relative"] < found["absolute"]


def test_rules_agree_where_copies_are_the_experts(samples: Samples):
    same = replace(samples, copies_seen=samples.seen)
    assert share_of_first("relative", same) == share_of_first("absolute", same)


def test_the_table_is_made_again_from_pixels(samples: Samples, tmp_path: Path):
    file = tmp_path / "pixels.pt"
    samples.save(file)
    rows: list[Row] = list(StackingTransfer(pixels=file).rows())
    by_name = {(row["rule"], row["form"]): row for row in rows}
    bounds = [row["psnr"] for (rule, _), row in by_name.items() if rule.startswith("held-out")]
    assert max(bounds) == max(row["psnr"] for row in rows)
    average = by_name["absolute", "average"]
    blend = samples.held_out.images.mean(0) - samples.held_out.targets
    assert average["psnr"] == pytest.approx(float(-10 * blend.square().mean().log10()))
    with pytest.raises(SystemExit, match="--run and --copies"):
        list(StackingTransfer(pixels=tmp_path / "none.pt").rows())
