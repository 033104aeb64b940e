"""`moegs benchmark`: tables and pictures of random Gaussians and of a real run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import TinyRuns

from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.models.expert_sources import expert_methods
from moegs_ns.reports.benchmark.steps import PARTS, WHOLE
from moegs_ns.reports.benchmark.synthetic import SyntheticModels, methods_of
from moegs_ns.scripts.benchmark import Benchmark
from moegs_ns.splatting.projection import num_bases

FAMILIES = [name for name in expert_methods() if "-" not in name]
COMPARED = [
    *("separate passes", "released way", "no CUDA graphs", "no fused kernel"),
    "experts offloaded to the host",
]
NEEDS_GPU = set(COMPARED[2:])


def written(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a table; also looks at the Markdown and the picture beside it."""
    content = json.loads((folder / f"{name}.json").read_text())
    assert content["command"] == "moegs benchmark"
    markdown = (folder / f"{name}.md").read_text()
    for row in content["rows"]:
        assert f"| {row['what']} |" in markdown and row["reason"] in markdown
    with Image.open(folder / f"{name}.png") as image:
        assert image.width > 600 and len(image.convert("P").getcolors() or ()) > 5
    return content["rows"]


def measure(**options: Any) -> None:
    with replaced_argv(["moegs", "benchmark"]):
        Benchmark(**options).main()


def assert_whole(folder: Path, experts: list[str], trainings: list[str]) -> None:
    """All rows are there, and what has no figures says why."""
    rows = written(folder, "frames")
    alone = [f"{name} alone" for name in experts]
    assert [row["what"] for row in rows] == ["whole frame", "raster alone", *alone, *COMPARED]
    has_gpu = torch.cuda.is_available()
    for row in rows:
        if row["what"] in NEEDS_GPU and not has_gpu:
            assert row["fps"] is None and row["reason"] == "there is no CUDA device"
        else:
            assert row["fps"] > 0.0 and row["n"] >= 1
            assert (row["peak_mb"] is not None) == has_gpu
        if row["what"] in COMPARED and row["fps"] is not None:
            assert row["largest_difference"] < 1e-4
    rows = written(folder, "steps")
    assert [(row["what"], row["part"]) for row in rows] == [
        (name, part) for name in trainings for part in (WHOLE, *PARTS)
    ]
    assert all(row["median_ms"] > 0.0 for row in rows)


def test_random_gaussians_of_two_families(tmp_path: Path):
    measure(
        synthetic=200, experts=("stg", "moegs-ex4dgs"), size=(24, 18), times=2, steps=10,
        output_dir=tmp_path,
    )  # fmt: skip
    assert_whole(tmp_path, ["stg", "ex4dgs"], ["router", "stg", "ex4dgs"])
    [frame, *_] = written(tmp_path, "frames")
    assert (frame["gaussians"], frame["width"], frame["height"]) == (400, 24, 18)


@torch.no_grad()
def test_experts_of_all_families_move():
    models = SyntheticModels.of(methods_of(FAMILIES), 60, (16, 12), 0, "cpu")
    assert models.mixture is not None and models.names == tuple(FAMILIES)
    assert {"stg", "ex4dgs", "ed3dgs", "4dgaussians", "freetime", "tracked"} <= set(FAMILIES)
    for own, mixed in zip(models.experts, models.mixture.mixture.experts, strict=True):
        expert = own.expert
        assert expert.num_gaussians == mixed.num_gaussians == 60
        first, last = (expert.at(torch.tensor(time)) for time in (0.1, 0.9))
        assert float((first.means - last.means).abs().max()) > 1e-4
        bases = num_bases(own.expert.config.sh_degree)
        assert first.sh.shape[1] == bases, "colours have all degrees, as at the end of a training"
        assert torch.equal(first.means, mixed.at(torch.tensor(0.1)).means)
    dynamic: Any = models.experts[FAMILIES.index("ex4dgs")].expert
    assert (dynamic.num_static, dynamic.num_dynamic) == (40, 20)


def test_one_expert_has_no_router(capsys):
    measure(synthetic=50, experts=("stg",), size=(16, 12), times=1, steps=0)
    printed = capsys.readouterr().out
    assert "whole frame" in printed and "separate passes" not in printed
    assert "no CUDA graphs" in printed and "router" not in printed


def test_a_run_is_measured(tiny_runs: TinyRuns, tmp_path: Path):
    measure(run=tiny_runs.router, times=2, steps=10, seconds=5.0, output_dir=tmp_path)
    assert_whole(tmp_path, ["stg", "4dgaussians"], ["router"])


def test_an_expert_is_measured(tiny_runs: TinyRuns, tmp_path: Path):
    run = tiny_runs.config("moegs-stg")
    measure(run=run, times=2, steps=10, seconds=5.0, output_dir=tmp_path)
    names = [row["what"] for row in written(tmp_path, "frames")]
    assert names == ["whole frame", "raster alone", "no CUDA graphs"]
    assert {row["what"] for row in written(tmp_path, "steps")} == {"stg"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "a trained run or --synthetic, got neither"),
        ({"run": Path("x"), "synthetic": 100}, "a trained run or --synthetic, got both"),
        ({"run": Path("x"), "experts": ("stg",)}, "belongs to --synthetic"),
        ({"synthetic": 100}, "methods in --experts, got none"),
        ({"synthetic": 100, "experts": ("stg", "nothing")}, "'nothing' is none; the methods are"),
        ({"synthetic": 9, "experts": ("stg",)}, "at least 10 Gaussians of each expert, got 9"),
        ({"synthetic": 100, "experts": ("stg",), "size": (0, 5)}, "--size expects .* got 0 and 5"),
        ({"synthetic": 100, "experts": ("stg",), "times": 0}, "--times expects at least 1, got 0"),
        ({"synthetic": 100, "experts": ("stg",), "steps": -1}, "--steps expects at least 0"),
        ({"synthetic": 100, "experts": ("stg",), "seconds": 0.0}, "--seconds expects a number abo"),
        ({"synthetic": 100, "experts": ("stg",), "seed": -1}, "--seed expects"),
    ],
)
def test_bad_options_end_in_a_sentence(options: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        measure(**options)
