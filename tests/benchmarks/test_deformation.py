"""The table of deformation by kernels, on a few Gaussians in Triton's interpreter."""

import pytest

from benchmarks.speed.deformation import SWITCHES, Deformation
from moegs_ns.experts import fused_decoders
from moegs_ns.experts.fourdgaussians import fused_planes


@pytest.mark.skipif(fused_planes.kernels() is None, reason="Triton comes with torch for Linux only")
@pytest.mark.parametrize("family", ["4dgaussians", "ed3dgs"])
def test_all_ways_agree(family: str, monkeypatch: pytest.MonkeyPatch):
    for switch in (fused_decoders.SWITCH, fused_planes.SWITCH):
        monkeypatch.setenv(switch, "0")
    rows = list(Deformation(gaussians=40, repeats=2).measure(family, "cpu"))
    assert [row["kernels"] for row in rows] == 2 * list(SWITCHES)[1:]
    for row in rows:
        assert row["gaussians"] == 40 and row["relative_difference"] < 1e-4
        assert row["kernel_median_ms"] > 0.0 and row["torch_median_ms"] > 0.0
    without = {row["kernels"]: row["relative_difference"] for row in rows[:3]}
    assert without["decoders"] > 0.0, "sums in another order differ"
