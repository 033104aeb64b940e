"""Mistakes in a mixture's command are refused before any expert is trained for it."""

from pathlib import Path

import pytest
import torch
from tiny import TinyRuns, train_tiny

from moegs_ns.models.expert_sources import options_by_method
from moegs_ns.runs.stored_responsibilities import StoredResponsibilities


def mix(runs: TinyRuns, output: Path, *options: str, method: str = "moegs-router", **more) -> None:
    """Name an expert that would be trained first, which takes longer than any of these tests."""
    train_tiny(
        method, runs.scene, output, *options, "--expert-budget", "100", "--experts", "stg", **more
    )


def nothing_was_trained(output: Path) -> bool:
    return not list(output.rglob("config.yml"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pipeline.model.router.kernel-size", "2"), "odd number of pixels.*got 2"),
        (("--pipeline.model.temperature", "0"), "temperature expects a number above 0"),
        (("--pipeline.model.temperature", "-1"), "temperature expects a number above 0"),
        (("--pipeline.model.temperature", "nan"), "temperature expects a number above 0"),
        (("--prune-ratio", "0.5"), "Pruning expects a trained mixture, got none"),
    ],
)
def test_options_that_make_no_mixture(tiny_runs: TinyRuns, tmp_path: Path, options, message):
    with pytest.raises(ValueError, match=message):
        mix(tiny_runs, tmp_path, *options)
    assert nothing_was_trained(tmp_path)


def test_a_volume_router_over_a_decoder(tiny_runs: TinyRuns, tmp_path: Path):
    options = ("--expert-budget", "100", "--budget", "0.01", "--experts", "stg-n3v", "stg")
    with pytest.raises(ValueError, match=r"number 1 \(STGExpert\) decodes colours per pixel"):
        train_tiny("moegs-volume-router", tiny_runs.scene, tmp_path, *options)
    assert nothing_was_trained(tmp_path)


def test_a_run_of_other_frames_beside_a_method(tiny_runs: TinyRuns, tmp_path: Path):
    short = train_tiny(
        "moegs-stg", tiny_runs.scene, tmp_path / "short", parser_options=["--frames", "0", "2"]
    )
    with pytest.raises(ValueError, match=r"frames 1 to 4, but .* trained on frames 0 to 2"):
        train_tiny(
            "moegs-router", tiny_runs.scene, tmp_path / "mixed", "--expert-budget", "100",
            "--experts", str(short), "stg", parser_options=["--frames", "1", "4"],
        )  # fmt: skip
    assert nothing_was_trained(tmp_path / "mixed")


def test_an_experts_run_is_no_mixture_to_resume(tiny_runs: TinyRuns, tmp_path: Path):
    expert = tiny_runs.config("moegs-stg").parent / "nerfstudio_models"
    with pytest.raises(ValueError, match=r"run of a mixture to resume.*'moegs-stg'"):
        train_tiny("moegs-router", tiny_runs.scene, tmp_path, "--load-dir", str(expert))


def test_options_of_experts_are_told_apart_by_method():
    every = options_by_method(["stg: --a 1", "all: --b 2"], ["ex4dgs", "stg"])
    assert every == {"moegs-stg": ["--a", "1", "--b", "2"], "moegs-ex4dgs": ["--b", "2"]}
    options = options_by_method(["stg: --a 1", "moegs-stg:--b 'c d'"], ["ex4dgs", "stg"])
    assert options == {"moegs-stg": ["--a", "1", "--b", "c d"]}
    for text in ("--a 1", "4dgaussians: --a 1"):
        with pytest.raises(
            ValueError, match=rf"got '{text}'; name one of ex4dgs, stg, or all, before"
        ):
            options_by_method([text], ["ex4dgs", "stg"])


def test_kept_responsibilities_lie_where_the_model_does():
    """`meta` stands for a GPU: models are moved before their checkpoint is read to the CPU."""
    stored = StoredResponsibilities().to("meta")
    stored.load_state_dict({"0": torch.ones(3), "1": torch.ones(2)})
    assert [value.device.type for value in stored.values] == ["meta", "meta"]
