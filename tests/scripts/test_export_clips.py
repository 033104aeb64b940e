"""`moegs export` of a clip: PLY files of every frame and the player page, of trained runs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TinyRuns

from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.mixture.mixture import GateConfig
from moegs_ns.scripts import main as command
from moegs_ns.scripts.export import Export
from moegs_ns.scripts.fuse import Fuse

plyfile = pytest.importorskip("plyfile")


def export(run: Path, output: Path, *options: str) -> None:
    words = ["moegs", "export", str(run), "--output", str(output), *options]
    with replaced_argv(words):
        command.main()


def means_of(path: Path) -> np.ndarray:
    vertex = plyfile.PlyData.read(str(path))["vertex"]
    return np.stack([vertex[axis] for axis in "xyz"], axis=-1)


def test_a_sequence_of_an_expert(tiny_runs: TinyRuns, tmp_path: Path, capsys):
    """The cameras of the demo's scene stand upright, z up, and lean forward a little."""
    run, options = tiny_runs.config("moegs-stg"), ["--ply-sequence", "--frames", "1", "5"]
    export(run, tmp_path / "clip", *options, "--every", "2", "--up", "z")
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "3 PLY files written, frames 1 to 5 of the expert STG; up is z, -y in the files" in printed
    )
    names = sorted(path.name for path in (tmp_path / "clip").iterdir())
    assert names == [*(f"frame_{f:05d}.ply" for f in (1, 3, 5)), "sequence.json"]
    Fuse(run, tmp_path / "same.ply", time=0.2, up="as-is").main()
    turned, plain = means_of(tmp_path / "clip" / "frame_00001.ply"), means_of(tmp_path / "same.ply")
    np.testing.assert_allclose(turned, plain[:, [0, 2, 1]] * [1, -1, 1], atol=1e-5)
    capsys.readouterr()
    Fuse(run, tmp_path / "upright.ply", time=0.2).main()
    assert "the mean of the cameras', -y in the file" in " ".join(capsys.readouterr().out.split())
    difference = means_of(tmp_path / "upright.ply") - turned
    assert np.abs(difference).max() > 0 and np.median(np.abs(difference)) < 1.0


def header_of(page: Path) -> dict:
    text = page.read_text("utf8")
    found = re.search(r'id="header" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


@pytest.mark.parametrize(("kind", "set_name"), [("gates", "mixture"), ("fused", "fused set")])
def test_a_page_of_a_mixture(tiny_runs: TinyRuns, tmp_path: Path, capsys, kind, set_name):
    options = ["--html", "--max-views", "3", "--mixture", kind]
    export(tiny_runs.router, tmp_path / "clip.html", *options)
    printed = " ".join(capsys.readouterr().out.split())
    told = re.search(
        rf"clip\.html: ([\d.]+) MB, ([\d,]+) Gaussians of the {set_name} of STG", printed
    )
    assert told is not None, printed
    size = (tmp_path / "clip.html").stat().st_size / 1e6
    assert float(told.group(1)) == pytest.approx(size, abs=0.005) and size < 2
    header = header_of(tmp_path / "clip.html")
    assert header["frames"] == [0, 1, 2, 3, 4, 5] and header["fps"] > 0
    assert len(header["cameras"]) == 5
    assert [expert["name"] for expert in header["experts"]] == ["STG", "4DGaussians"]
    assert (header["gates"] is None) == (kind == "fused")
    up = torch.tensor(header["up"])
    assert float(up[2]) > 0.9 and f"{header['still'] + header['moving']:,}" == told.group(2)


def test_a_page_says_why_it_plays_the_fused_set(tiny_runs: TinyRuns, tmp_path, capsys, monkeypatch):
    opened = Export.opened

    def with_blurred_gates(self: Export):
        found = opened(self)
        found[2].mixture.gate_config = GateConfig(blur=0.02)  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(Export, "opened", with_blurred_gates)
    export(tiny_runs.router, tmp_path / "clip.html", "--html", "--max-views", "3")
    reason = "This is not the mixture itself, since logits of the gates are blurred"
    printed = " ".join(capsys.readouterr().out.split())
    assert "Gaussians of the fused set of STG" in printed and reason in printed
    assert reason in (tmp_path / "clip.html").read_text("utf8")
    assert header_of(tmp_path / "clip.html")["gates"] is None


def test_an_spz_file_is_much_smaller(tiny_runs: TinyRuns, tmp_path: Path):
    for ending in ("ply", "spz"):
        Fuse(tiny_runs.config("moegs-stg"), tmp_path / f"a.{ending}", time=0.4).main()
    sizes = [(tmp_path / f"a.{ending}").stat().st_size for ending in ("ply", "spz")]
    assert 4 * sizes[1] < sizes[0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--ply-sequence", "--html"], "got --ply-sequence and --html"),
        (["--html"], r"--output expects the name of an \.html file"),
        (["--ply-sequence", "--max-views", "0"], "--max-views expects .* at least 1, got 0"),
        (["--html", "--max-mb", "0"], "--max-mb expects a size above 0, got 0"),
        (["--ply-sequence", "--frames", "0", "6"], "frames of this clip, 0 to 5, got 0 6"),
    ],
)
def test_what_cannot_be_written(tiny_runs: TinyRuns, tmp_path: Path, options, told: str):
    with pytest.raises(ValueError, match=told):
        export(tiny_runs.config("moegs-stg"), tmp_path / "out", *options)
    assert not list(tmp_path.iterdir())


def test_a_page_needs_to_know_what_is_up(tiny_runs: TinyRuns, tmp_path: Path):
    with pytest.raises(ValueError, match="a page orbits about what is up"):
        Export(tiny_runs.router, tmp_path / "a.html", html=True, up="as-is").main()
