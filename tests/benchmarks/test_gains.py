"""The figures that tables of mixtures are made of: gain over the best expert, seed by seed."""

import pytest

from benchmarks.quality.mixtures import Pair, gain_rows
from moegs_ns.reports.scores import Score


def score(method: str, psnr: float, seed: int, seconds: float | None, oracle: float = 30.0):
    return Score(
        method=method, kind="", psnr=psnr, psnr_std=0.0, psnr_dynamic=0.0, ssim=0.0, lpips=0.0,
        gaussians=0, mb=0.0, train_seconds=seconds, fps=0.0, seed=seed, images=1, options="",
        psnr_best_expert=psnr, psnr_average=psnr - 0.25, psnr_constant=psnr, psnr_oracle=oracle,
        psnr_oracle_4=oracle, psnr_oracle_16=oracle, psnr_oracle_32=oracle,
    )  # fmt: skip


def pair(seed: int, first: float, second: float, mixture: float, method="moegs-router") -> Pair:
    experts = (score("a", first, seed, 30.0), score("b", second, seed, 70.0))
    return Pair(score(method, mixture, seed, 4.0, oracle=40.0), experts)


def test_the_gain_is_over_the_best_expert_of_the_same_seed():
    (row,) = gain_rows([pair(0, 20.0, 21.0, 21.5), pair(1, 23.0, 20.0, 24.5)])
    assert row["experts"] == "a,b"
    assert row["n"] == 2
    assert row["seeds"] == [0, 1]
    assert row["gain"] == pytest.approx(1.0)
    assert (row["gain_min"], row["gain_max"]) == (0.5, 1.5)
    assert row["gain_spread"] == pytest.approx(0.5**0.5)
    assert (row["psnr"], row["best_expert"], row["oracle"]) == (23.0, 22.0, 40.0)
    assert row["router_share"] == pytest.approx(0.04)
    assert row["average"] == pytest.approx(22.75)
    assert row["gain_over_average"] == pytest.approx(0.25)


def test_mixtures_of_other_experts_or_methods_are_rows_of_their_own():
    alone = Pair(score("moegs-router", 21.0, 0, 4.0), (score("a", 20.0, 0, None),))
    rows = gain_rows([pair(0, 20.0, 21.0, 22.0), pair(0, 20.0, 21.0, 23.0, "moegs-joint"), alone])
    assert [(row["method"], row["experts"]) for row in rows] == [
        ("moegs-router", "a,b"), ("moegs-joint", "a,b"), ("moegs-router", "a"),
    ]  # fmt: skip
    assert [row["gain"] for row in rows] == [1.0, 2.0, 1.0]


def test_what_cannot_be_told_is_missing_with_its_reason():
    (joint,) = gain_rows([pair(0, 20.0, 21.0, 23.0, "moegs-joint")])
    assert joint["router_share"] is None and "router_share: trained together" in joint["reason"]
    assert joint["gain_spread"] is None and "gain_spread: one seed" in joint["reason"]
