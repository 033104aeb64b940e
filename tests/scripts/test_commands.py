"""The `moegs` command: camera paths with time, videos, tables."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nerfstudio.cameras.camera_paths import get_path_from_json
from tiny import TinyRuns

from moegs_ns.data.camera_paths import (
    FixedCamera,
    FrozenTime,
    Orbit,
    Rig,
    camera_path_json,
    look_at,
)
from moegs_ns.evaluation.tables import markdown_table, write_results
from moegs_ns.launch.cli_args import replaced_argv, run_nerfstudio
from moegs_ns.reports.scores import Score, print_scores, score_run
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.scripts.render import Render
from moegs_ns.scripts.report import Report


@pytest.fixture
def rig() -> Rig:
    """Eight cameras on a circle of radius 2 that look at the origin."""
    angles = 2 * np.pi * np.arange(8) / 8
    positions = np.stack([2 * np.cos(angles), 2 * np.sin(angles), 0 * angles], axis=1)
    poses = np.stack([look_at(p, np.zeros(3), np.array([0.0, 0.0, 1.0])) for p in positions])
    return Rig(poses, fov=50.0, width=64, height=48)


def test_the_focus_is_where_the_cameras_look(rig: Rig):
    np.testing.assert_allclose(rig.focus, 0.0, atol=1e-9)


def test_an_orbit_circles_within_the_rig_and_looks_at_the_focus(rig: Rig):
    poses, times = Orbit(share=0.5).frames(rig, 12)
    np.testing.assert_allclose(np.linalg.norm(poses[:, :, 3], axis=1), 1.0, rtol=1e-6)
    backward = poses[:, :, 3] / np.linalg.norm(poses[:, :, 3], axis=1, keepdims=True)
    np.testing.assert_allclose(poses[:, :, 2], backward, atol=1e-9)
    np.testing.assert_allclose(times, np.linspace(0, 1, 12))


def test_poses_are_rotations(rig: Rig):
    poses, _ = Orbit().frames(rig, 5)
    rotations = poses[:, :, :3]
    eye = np.broadcast_to(np.eye(3), rotations.shape)
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), eye, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)


def test_frozen_time_moves_the_camera_only(rig: Rig):
    poses, times = FrozenTime(time=0.3).frames(rig, 6)
    assert set(times) == {0.3}
    assert np.abs(np.diff(poses[:, :, 3], axis=0)).max() > 0.1
    with pytest.raises(ValueError, match=r"time in \[0, 1\], got 2"):
        FrozenTime(time=2.0).frames(rig, 6)


def test_a_fixed_camera_moves_time_only(rig: Rig):
    poses, times = FixedCamera(camera=3).frames(rig, 6)
    np.testing.assert_array_equal(poses, np.repeat(rig.camera_to_worlds[3:4], 6, axis=0))
    np.testing.assert_allclose(times, np.linspace(0, 1, 6))
    with pytest.raises(ValueError, match="expects 0 to 7, got 8"):
        FixedCamera(camera=8).frames(rig, 6)


def test_nerfstudio_reads_the_paths_with_their_times(rig: Rig):
    cameras = get_path_from_json(camera_path_json(Orbit(), rig, 10, fps=5.0))
    assert cameras.times is not None
    np.testing.assert_allclose(cameras.times[:, 0].numpy(), np.linspace(0, 1, 10), atol=1e-6)
    focal = 0.5 * 48 / np.tan(np.radians(25.0))
    np.testing.assert_allclose(cameras.fy.numpy(), focal, rtol=1e-5)


def change(frames: np.ndarray) -> float:
    """Largest difference of a pixel between the first and the last frame, of 255."""
    return float(np.abs(frames[-1].astype(float) - frames[0]).max())


def frames_of(video: Path) -> np.ndarray:
    import av

    with av.open(str(video)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_a_video_of_a_mixture_moves(tiny_runs: TinyRuns, tmp_path: Path):
    video = tmp_path / "video.mp4"
    names, command = ("rgb", "argmax_gate", "gate_stg"), list(sys.argv)
    Render(tiny_runs.router, FixedCamera(2), video, outputs=names, labels=False).main()
    assert sys.argv == command, "whatever opens a run next would take it for this one"
    frames = frames_of(video)
    # Six frames at 12 per second, shown at 30 per second.
    assert frames.shape == (15, 36, 3 * 48, 3)
    # A hardly trained model moves a little; a camera that stands still in frozen time not at all.
    Render(tiny_runs.router, FrozenTime(share=0.0), tmp_path / "still.mp4", fps=30.0).main()
    still = frames_of(tmp_path / "still.mp4")
    assert change(frames[:, :, :48]) > change(still) + 4


def test_ns_render_takes_the_written_path(tiny_runs: TinyRuns, tmp_path: Path):
    config = tiny_runs.config("moegs-stg")
    Render(config, FrozenTime(0.5), tmp_path / "path.mp4", seconds=0.1, path_only=True).main()
    assert not (tmp_path / "path.mp4").exists()
    run_nerfstudio(
        "render",
        ["camera-path", "--load-config", str(config), "--camera-path-filename",
         str(tmp_path / "path.json"), "--output-path", str(tmp_path / "out.mp4")],
    )  # fmt: skip
    assert len(frames_of(tmp_path / "out.mp4")) == 3


def test_a_report_scores_runs_and_writes_a_table(tiny_runs: TinyRuns, tmp_path: Path):
    output = tmp_path / "table.json"
    with replaced_argv(["moegs", "report"]):
        Report((tiny_runs.config("moegs-stg"), tiny_runs.router), output).main()
    content = json.loads(output.read_text())
    assert {"command", "hardware", "commit", "date", "versions", "rows"} == set(content)
    expert, mixture = content["rows"]
    assert (expert["kind"], mixture["kind"]) == ("expert", "mixture")
    assert mixture["gaussians"] > expert["gaussians"] > 0
    assert expert["train_seconds"] > 0 and expert["fps"] > 0 and expert["images"] == 6
    assert expert["psnr_oracle"] is None and "psnr_oracle" in expert["reason"]
    assert expert["expert_seconds"] is None and "expert_seconds" in expert["reason"]
    configs = [tiny_runs.config(method) for method in ("moegs-stg", "moegs-4dgaussians")]
    records = [json.loads((path.parent / "training.json").read_text()) for path in configs]
    assert mixture["expert_seconds"] == pytest.approx(sum(each["seconds"] for each in records))
    assert "expert_seconds" not in mixture["reason"]
    assert [expert["run"], mixture["run"]] == [str(configs[0].parent), str(tiny_runs.router.parent)]
    assert output.with_suffix(".md").read_text().count("\n| moegs-") == 2


def test_a_run_is_named_as_the_user_named_it(tiny_runs: TinyRuns, monkeypatch):
    """Tables are shown to others, who need no absolute paths."""
    monkeypatch.chdir(tiny_runs.output)
    run = open_run(Path("runs/moegs-stg/first"))
    assert score_run(run).run == "runs/moegs-stg/first"


SCORE = Score(
    method="moegs-stg", kind="expert", psnr=20.0, psnr_std=1.0, psnr_dynamic=19.0, ssim=0.9,
    lpips=None, gaussians=300_000, mb=70.1, train_seconds=1234.5, fps=100.0, seed=7, images=6,
    options="budget 0.2, frames 0-66, experts stg, 4dgaussians, pruned 20% by gated-contribution",
)  # fmt: skip


def printed(capsys, *scores: Score) -> str:
    print_scores(list(scores))
    return " ".join(capsys.readouterr().out.split())


def test_the_printed_table_tells_runs_apart(capsys):
    other = replace(SCORE, method="moegs-router", kind="mixture", seed=8, options="budget [1]")
    text = printed(capsys, SCORE, other)
    assert "Held-out views (6 images)" in text
    for each in (SCORE, other):
        figures = "20.00 19.00 0.9000 300,000 70.1 1234 100.0"
        assert f"{each.method} {each.kind} {each.seed} {figures} budget" in text
    assert "by gated-contribution" in text and "budget [1]" in text


def test_the_terminal_shows_every_column(capsys):
    """Spread, conventions and the reasons for what is missing were in the file alone."""
    scored = replace(SCORE, ms_ssim=0.987, run="runs/a", reason="lpips: no weights", recipe="own")
    text = printed(capsys, scored, SCORE)
    assert "psnr_std 1 1" in text and "ms_ssim 0.987 -" in text and "lpips: no weights" in text
    assert "run runs/a" in text and "recipe own" in text
    assert "st_lpips" not in text, "nobody measured it"


def test_runs_with_other_numbers_of_images_say_so(capsys):
    text = printed(capsys, SCORE, replace(SCORE, images=9))
    assert "images)" not in text and "fps images options" in text
    assert "100.0 6 budget" in text and "100.0 9 budget" in text


def test_a_missing_figure_needs_a_reason(tmp_path: Path):
    with pytest.raises(ValueError, match="say why under 'reason'"):
        write_results(tmp_path / "a.json", [{"psnr": float("nan")}], "command")
    assert not (tmp_path / "a.json").exists()
    write_results(tmp_path / "a.json", [{"psnr": None, "reason": "no data"}], "command")
    assert json.loads((tmp_path / "a.json").read_text())["rows"][0]["psnr"] is None


def test_a_table_has_every_column_of_every_row():
    table = markdown_table([{"a": 1, "b": 0.5}, {"a": 2, "c": None}])
    assert table.splitlines() == [
        "| a | b | c |",
        "| --- | --- | --- |",
        "| 1 | 0.5 | - |",
        "| 2 | - | - |",
    ]


@pytest.mark.slow
def test_the_command_explains_itself():
    command = [sys.executable, "-W", "ignore", "-m", "moegs_ns.scripts.main", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(name in text for name in ("demo", "render", "report"))
