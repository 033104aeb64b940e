"""The benchmark of the four commands, with the long ones replaced."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_lines import parse
from wedge import wedge_scene

from benchmarks.quality import from_videos
from benchmarks.quality.from_videos import FromVideos, panoptic_rig
from benchmarks.trainings import Scene
from moegs_ns.data.frames.videos import read_video_header
from moegs_ns.data.rig_files import RIG, Rig, read_rig, write_rig
from moegs_ns.launch.jobs import TrainingJob


def test_both_calibrations_are_trained_with_on_the_same_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scene = wedge_scene(tmp_path / "scene", num_frames=2, num_cameras=4)
    commands: list[list[str]] = []
    jobs: list[TrainingJob] = []

    def run(args: list[str], log: Path) -> int:
        commands.append(args[1:])
        data = Path(args[args.index("--data") + 1])
        data.mkdir(parents=True, exist_ok=True)
        if args[2] == "calibrate":
            # Twice as large, with one focal length that is off by a tenth.
            given, _ = panoptic_rig(scene, tmp_path / "made" / "videos")
            cameras = [_larger(camera) for camera in given.cameras]
            lens = cameras[1].lens
            assert lens is not None
            lens = replace(lens, fx=1.1 * lens.fx, fy=1.1 * lens.fy)
            cameras[1] = replace(cameras[1], lens=lens)
            write_rig(data / RIG, Rig(tuple(cameras)))
        if args[2] == "points":
            np.savez(data / "moegs_points.npz", xyz=np.zeros((9, 3)), rgb=np.zeros((9, 3)))
        return 0

    def report(job: TrainingJob, index: int) -> dict:
        jobs.append(job)
        return {"method": job.method, "psnr": 20.0 + len(jobs)}

    monkeypatch.setattr(from_videos, "run_module", run)
    monkeypatch.setattr(from_videos, "train_and_report", report)
    benchmark = FromVideos(
        scene=Scene(scene, "panoptic-data"),
        work=tmp_path / "made",
        results_dir=tmp_path,
        budget=0.2,
    )
    rows = list(benchmark.rows())
    assert [command[1] for command in commands] == ["rig", "calibrate", "points", "points"]
    assert commands[0][2:6] == [f"{tmp_path}/made/videos/cam0{n}.mp4" for n in range(4)]
    assert read_video_header(tmp_path / "made" / "videos" / "cam03.mp4")[:2] == (160, 120)
    own, given = rows
    assert own is not None and given is not None
    assert (own["calibration"], own["psnr"], own["points"]) == ("own", 21.0, 9)
    assert own["calibrated_cameras"] == 4
    assert own["center_cm_worst"] == pytest.approx(0.0, abs=1e-6)
    assert own["focal_percent_worst"] == pytest.approx(10.0)
    assert own["focal_percent_median"] == pytest.approx(0.0, abs=1e-9)
    assert {"rig_s", "calibrate_s", "points_s"} <= set(own)
    assert (given["calibration"], given["psnr"]) == ("given", 22.0)
    for job, name in zip(jobs, ("own", "given"), strict=True):
        config = parse(*job.args())
        parser = config.pipeline.datamanager.dataparser
        assert config.data == tmp_path / "made" / name
        assert parser.held_out_cameras == ("cam02",)
    # The rig of the given calibration reads the same videos.
    files = [camera.file for camera in read_rig(tmp_path / "made" / "given" / RIG).cameras]
    assert files == [f"{tmp_path}/made/videos/cam0{n}.mp4" for n in range(4)]


def test_a_command_that_fails_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(from_videos, "run_module", lambda *_, **__: 1)
    benchmark = FromVideos(scene=Scene(tmp_path, "panoptic-data"), work=tmp_path / "made")
    with pytest.raises(RuntimeError, match=r"moegs prepare calibrate failed; see .*prepare\.log"):
        benchmark.command("calibrate", "--data", tmp_path)


def _larger(camera):
    pose = camera.world_to_camera.copy()
    pose[:, 3] *= 2.0
    return replace(camera, world_to_camera=pose)
