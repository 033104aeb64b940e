"""Sweeps over random mixtures: their points, the floor, the laws through them, and what fails."""

import json
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.speed import scaling, scaling_point
from benchmarks.speed.scaling import Scaling
from benchmarks.speed.scaling_growth import PowerLaw, Sweep, growth_figure, growth_rows
from benchmarks.speed.scaling_point import (
    FIGURES,
    Effort,
    Point,
    apart,
    bandwidth,
    drawn,
    floor_bytes,
    measured,
    resident_megabytes,
    row_of,
)

EFFORT = Effort(times=1, seconds=0.1, seed=0)


def point(methods: int = 2, gaussians: int = 40, width: int = 16, frames: int = 5) -> Point:
    names = ("moegs-stg", "moegs-ex4dgs", "moegs-ed3dgs")[:methods]
    return Point(names, gaussians, (width, 12), frames)


def row(own: Point, milliseconds: float, **more) -> dict:
    """What is measured of a point, made up."""
    figures = dict.fromkeys(FIGURES, 1.0) | {"median_ms": milliseconds, "floor_ms": 0.1}
    figures |= {"min_ms": milliseconds / 2, "max_ms": milliseconds * 2, "peak_mb": milliseconds}
    return own.columns | figures | {"seed": 0, "reason": ""} | more


def test_a_point_is_measured_beside_its_floor(monkeypatch):
    monkeypatch.setattr(scaling_point, "COPIED_BYTES", 2**20)
    found = measured(point(), EFFORT)
    assert set(found) == {*FIGURES, "reason"}
    assert found["gaussians"] == 80 and found["n"] >= 1 and found["spread"] >= 0.0
    assert found["min_ms"] <= found["median_ms"] <= found["max_ms"]
    assert 0.0 < found["floor_ms"] < found["median_ms"]
    assert found["floor_mb"] == pytest.approx(found["mb"] + 16 * 12 * 3 * 4 / 1e6)
    assert found["peak_mb"] is not None or found["reason"].startswith("peak_mb: ")


@torch.no_grad()
def test_the_floor_reads_gaussians_once_and_writes_the_image():
    """Twice the Gaussians, or a wider image, add what they hold; a longer clip adds nothing."""

    def least(own: Point) -> int:
        subject, views = drawn(own, EFFORT, "cpu")
        return floor_bytes(subject, views[0])

    alone = least(point(methods=1))
    assert least(point(methods=1, width=32)) - alone == 16 * 12 * 3 * 4
    assert least(point(methods=1, gaussians=80)) - alone == alone - 16 * 12 * 3 * 4
    # Position, rotation, scale, opacity and at least one colour.
    assert alone - 16 * 12 * 3 * 4 >= 40 * (3 + 4 + 3 + 1 + 3) * 4
    mixed = least(point(methods=2))
    assert mixed == least(point(methods=2, frames=50))
    assert mixed > 2 * alone - 16 * 12 * 3 * 4, "the router has weights too"


def test_a_copy_is_counted_as_read_and_written(monkeypatch):
    monkeypatch.setattr(scaling_point, "COPIED_BYTES", 1000)
    monkeypatch.setattr(scaling_point, "time_calls", lambda call, repeats: [4.0, 2.0, 8.0])
    assert bandwidth("cpu") == 1000.0


@pytest.mark.skipif(resident_megabytes("VmRSS") is None, reason="Linux tells resident memory")
def test_resident_memory_grows_with_what_is_held():
    """In a process of its own, which frees nothing meanwhile."""
    lines = (
        "import torch",
        "from benchmarks.speed.scaling_point import resident_megabytes",
        "before = resident_megabytes('VmRSS')",
        "held = torch.ones(16_000_000)",
        "print(resident_megabytes('VmRSS', less=before))",
    )
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert float(ended.stdout.split()[-1]) == pytest.approx(64.0, rel=0.2)


def test_a_process_that_is_killed_is_told():
    with pytest.raises(BrokenProcessPool):
        apart(os._exit, 9)


@pytest.mark.parametrize(
    ("error", "why"),
    [(torch.OutOfMemoryError("Tried;\nall"), "OutOfMemoryError, Tried, all"),
     (BrokenProcessPool(), "ended from outside, as is done where memory runs out")],
)  # fmt: skip
def test_a_point_that_fails_has_a_row_that_says_why(monkeypatch, error: Exception, why: str):
    def fails(*_) -> None:
        raise error

    monkeypatch.setattr(scaling_point, "apart", fails)
    found = row_of(point(), EFFORT)
    assert found["reason"].startswith("gaussians to floor_mb: ") and why in found["reason"]
    assert all(found[name] is None for name in FIGURES) and found["experts"] == 2


def test_the_law_is_found_again():
    law = PowerLaw.fitted([(x, 3.0 * x**1.5) for x in (1.0, 10.0, 40.0, 300.0)])
    assert law is not None and law.residual == pytest.approx(1.0)
    assert (law.scale, law.exponent) == (pytest.approx(3.0), pytest.approx(1.5))
    assert law.at(4.0) == pytest.approx(24.0)
    noisy = PowerLaw.fitted([(1.0, 2.0), (10.0, 10.0), (100.0, 200.0)])
    assert noisy is not None and noisy.residual > 1.2
    assert PowerLaw.fitted([(1.0, 1.0), (2.0, 2.0), (2.0, 3.0)]) is None


def test_growth_is_that_of_the_points_that_were_measured():
    points = [point(gaussians=n) for n in (10, 100, 1000, 10000)]
    sweep = Sweep("gaussians", "Gaussians", points, lambda each: each.gaussians)
    rows = [row(each, 2.0 * each.gaussians**0.5) for each in points[:3]]
    rows.append(row(points[3], 1.0, **dict.fromkeys(FIGURES)))
    time, memory = growth_rows([sweep], rows)
    assert (time["points"], time["from"], time["to"]) == (3, 10, 1000)
    assert time["exponent"] == pytest.approx(0.5) == memory["exponent"]
    assert time["floor_exponent"] == pytest.approx(0.0, abs=1e-9)
    assert time["times_the_floor_at_last"] == pytest.approx(20.0 * 1000**0.5)
    figure = growth_figure(sweep, rows)
    assert figure is not None
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert {"measured", "power 0.50, within 0 %", "floor"} <= set(lines)
    few = growth_rows([sweep], rows[:1])[0]
    assert few["exponent"] is None and few["reason"].startswith("exponent to floor_exponent: ")
    assert growth_figure(sweep, []) is None and growth_rows([sweep], [])[0]["from"] is None


def sweeping(folder: Path, **more) -> Scaling:
    few = Scaling(
        results_dir=folder, gaussians=(10, 20, 40), experts=(1, 3), sizes=((16, 12),),
        frames=(2, 5), base_gaussians=20, base_experts=2, base_size=(16, 12), base_frames=2,
    )  # fmt: skip
    return replace(few, **more)


def test_one_quantity_is_changed_at_a_time(tmp_path: Path):
    sweeps = {sweep.name: sweep for sweep in sweeping(tmp_path).sweeps()}
    values = {name: [sweep.x(each) for each in sweep.points] for name, sweep in sweeps.items()}
    assert values == {
        "gaussians": [10, 20, 40],
        "experts": [1, 3],
        "pixels": [192],
        "frames": [2, 5],
    }
    points = {each for sweep in sweeps.values() for each in sweep.points}
    assert len(points) == 6, "the base point is in several sweeps"
    many = sweeping(tmp_path, experts=(6,)).sweeps()[1].points[0].methods
    assert many[:2] == many[4:] == ("moegs-stg", "moegs-ex4dgs")
    with pytest.raises(ValueError, match="frames of the clip expects numbers of at least 1"):
        sweeping(tmp_path, frames=(0,)).sweeps()
    with pytest.raises(ValueError, match="experts expects numbers of at least 1"):
        sweeping(tmp_path, experts=(-1,)).sweeps()


def test_a_sweep_goes_on_where_it_ended_and_a_failure_costs_no_other(tmp_path, monkeypatch):
    begun: list[Point] = []
    kept: list[int] = []
    broken = True

    def fake(own: Point, effort: Effort) -> dict:
        begun.append(own)
        path = tmp_path / "scaling.json"
        kept.append(len(json.loads(path.read_text())["rows"]) if path.is_file() else 0)
        if broken and own.gaussians == 40:
            why = {"reason": "gaussians to floor_mb: OutOfMemoryError, all is full"}
            return row(own, 1.0, **dict.fromkeys(FIGURES), **why)
        return row(own, float(own.gaussians))

    monkeypatch.setattr(scaling, "row_of", fake)
    monkeypatch.setenv("MOEGS_COMMIT", "this")
    sweeping(tmp_path).main()
    rows = json.loads((tmp_path / "scaling.json").read_text())["rows"]
    assert len(begun) == len(rows) == 6 and kept == [0, 1, 2, 3, 4, 5]
    assert [each["gaussians_each"] for each in rows if each["median_ms"] is None] == [40]
    assert "OutOfMemoryError" in (tmp_path / "scaling.md").read_text()
    assert (tmp_path / "scaling_growth.md").is_file()
    assert Image.open(tmp_path / "scaling_gaussians.png").width > 300

    begun.clear()
    kept.clear()
    broken = False
    sweeping(tmp_path, experts=(1, 3, 4)).main()
    assert kept == [6, 6], "no row is lost while a later one is measured"
    assert [(each.gaussians, len(each.methods)) for each in begun] == [(40, 2), (20, 4)]
    growth = json.loads((tmp_path / "scaling_growth.json").read_text())["rows"]
    assert growth[0]["exponent"] == pytest.approx(1.0)

    assert len(sweeping(tmp_path).earlier()) == 7
    monkeypatch.setenv("MOEGS_COMMIT", "another")
    assert sweeping(tmp_path).earlier() == [], "figures of another commit are measured anew"
