"""`moegs render`: what it shows, along which cameras, at which times, and how it goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from tiny import TinyRuns

from moegs_ns.data.camera_paths import Interpolate, Rig, Spiral, camera_path_json, look_at
from moegs_ns.reports import rendering
from moegs_ns.reports.rendering import shots_of_path
from moegs_ns.scripts import main as command
from moegs_ns.scripts.render import CameraPathFile, Clip, Dataset, Render


@pytest.fixture
def rig() -> Rig:
    """Four cameras on a half circle of radius 2 that look at the origin."""
    angles = np.pi * np.arange(4) / 3
    positions = np.stack([2 * np.cos(angles), 2 * np.sin(angles), 0 * angles + 0.1], axis=1)
    poses = np.stack([look_at(p, np.zeros(3), np.array([0.0, 0.0, 1.0])) for p in positions])
    return Rig(poses, fov=50.0, width=64, height=48)


class TestPaths:
    def test_interpolation_passes_the_cameras_while_time_runs(self, rig: Rig):
        poses, times = Interpolate((0, 2, 3)).frames(rig, 9)
        np.testing.assert_allclose(poses[[0, 4, 8]], rig.camera_to_worlds[[0, 2, 3]], atol=1e-6)
        np.testing.assert_allclose(times, np.linspace(0, 1, 9))
        middle = rig.camera_to_worlds[[0, 2], :, 3].mean(0)
        np.testing.assert_allclose(poses[2, :, 3], middle, atol=1e-6)
        rotations = poses[:, :, :3]
        np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-6)
        all_of_them, _ = Interpolate().frames(rig, 4)
        np.testing.assert_allclose(all_of_them, rig.camera_to_worlds, atol=1e-6)

    @pytest.mark.parametrize("cameras", [(0,), (0, 4), (-1, 2)])
    def test_interpolation_between_what_is_not_there(self, rig: Rig, cameras):
        with pytest.raises(ValueError, match=r"at least two of 0 to 3, got"):
            Interpolate(cameras).frames(rig, 5)

    def test_a_spiral_goes_out_and_comes_back(self, rig: Rig):
        poses, times = Spiral(turns=1.0, share=0.5).frames(rig, 33)
        away = np.linalg.norm(poses[:, :, 3] - rig.positions.mean(0), axis=1)
        np.testing.assert_allclose(away[[0, -1]], 0.0, atol=1e-9)
        assert away.argmax() in range(8, 25) and away.max() > 0.2
        np.testing.assert_allclose(times, np.linspace(0, 1, 33))

    def test_a_part_of_the_clip(self, rig: Rig):
        clip = Clip(num_frames=11, fps=10.0, frames=(2, 6))
        assert clip.span == (0.2, 0.6) and clip.seconds == 0.5
        content = camera_path_json(Spiral(), rig, 5, 10.0, clip.span)
        times = [frame["render_time"] for frame in content["camera_path"]]
        np.testing.assert_allclose(times, [0.2, 0.3, 0.4, 0.5, 0.6])

    def test_the_viewer_gets_key_frames_with_times(self, rig: Rig):
        """Its Load Path reads nothing else of a file."""
        content = camera_path_json(Spiral(), rig, 40, 10.0)
        keys = content["keyframes"]
        assert [keys[0]["render_time"], keys[-1]["render_time"]] == [0.0, 1.0]
        assert keys[0]["matrix"] == content["camera_path"][0]["camera_to_world"]
        assert all(key["override_time_enabled"] for key in keys) and len(keys) == 16
        lasting = content["default_transition_sec"] * (len(keys) - 1)
        assert lasting == pytest.approx(content["seconds"])


def of_times(*times: float | None, chosen: bool = False) -> dict[str, Any]:
    pose = torch.eye(4).flatten().tolist()
    known = [{} if time is None else {"render_time": time} for time in times]
    frames = [{"camera_to_world": pose, "fov": 50.0, "aspect": 1.0, **time} for time in known]
    keys = [{"override_time_enabled": chosen, "render_time": 0.0}] * 2
    sizes = {"render_width": 24, "render_height": 18, "seconds": 1.0}
    return {"camera_type": "perspective", "camera_path": frames, "keyframes": keys, **sizes}


@pytest.mark.parametrize(
    ("content", "times"),
    [
        (of_times(None, None, None), [0.5, 0.75, 1.0]),
        (of_times(0.0, 0.0, 0.0), [0.5, 0.75, 1.0]),
        (of_times(0.3, 0.3, 0.3, chosen=True), [0.3, 0.3, 0.3]),
        (of_times(0.0, 0.1, 0.9), [0.0, 0.1, 0.9]),
    ],
)
def test_a_path_without_times_of_its_own_shows_the_clip(content, times):
    """The Render tab stores 0 for every frame unless Override Time is on."""
    found = shots_of_path(content, (0.5, 1.0)).cameras.times
    assert found is not None
    np.testing.assert_allclose(found[:, 0].numpy(), times, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speed": 0.0}, "--speed expects a number above 0"),
        ({"speed": 2.0, "seconds": 1.0}, "--seconds and --speed both say"),
        ({"output_path": Path("a.avi")}, r"name of a \.mp4 file, or of a folder"),
        ({"outputs": ("mixtur",)}, "among mixture, stg, 4dgaussians, gates.*got 'mixtur'"),
        ({"outputs": ("truth",)}, "among mixture, .*, opacity, got 'truth'"),
        ({"frames": (3, 9)}, "a first and a last frame from 0 to 5, got 3 9"),
        ({"path": Dataset(), "seconds": 1.0}, "--seconds means nothing for this path"),
        ({"path": Dataset(cameras=(4,))}, "expects held-out cameras, which are 0, got 4"),
        ({"path": Dataset(), "frames": (7, 9)}, "no held-out images of the frames 7 to 9"),
    ],
)
def test_mistakes(tiny_runs: TinyRuns, tmp_path: Path, options, said):
    options = {"output_path": tmp_path / "a.mp4"} | options
    with pytest.raises(ValueError, match=said):
        Render(tiny_runs.router, **options).main()
    assert not list(tmp_path.glob("*.mp4*"))


def test_recorded_images_beside_what_is_made_of_them(tiny_runs: TinyRuns, tmp_path: Path):
    """Pictures of a folder, in the order of time, are kept by the next call."""
    from PIL import Image

    folder = tmp_path / "held_out"
    render = Render(
        tiny_runs.router, Dataset(), folder, outputs=("truth", "Mixture", "error"), frames=(1, 3)
    )
    render.main()
    pictures = sorted(folder.glob("*.png"))
    assert [path.name for path in pictures] == [f"frame_{i:05d}.png" for i in range(3)]
    first = np.asarray(Image.open(pictures[0]))
    strip = first.shape[0] - 36
    assert first.shape[1] == 3 * 48 and strip > 0 and first[:strip].std() > 5, "labels"
    truth, mixture, error = np.split(first[strip:].astype(float), 3, axis=1)
    assert np.abs(truth - mixture).mean() > 1 and error.std() > 1
    # What is there stays, what is missing comes back as it was.
    missing, kept = pictures[1].read_bytes(), pictures[0].stat().st_mtime_ns
    pictures[1].unlink()
    render.main()
    assert pictures[1].read_bytes() == missing and pictures[0].stat().st_mtime_ns == kept
    # Other frames are never mixed with these.
    with pytest.raises(ValueError, match=r"holds others; name another --output"):
        Render(tiny_runs.router, Dataset(), folder, outputs=("truth",)).main()


def test_a_video_that_was_stopped_goes_on(tiny_runs: TinyRuns, tmp_path: Path, monkeypatch):
    rendered: list[int] = []
    picture = rendering.Renderer.picture

    def counted(self, index: int, **options):
        if len(rendered) == 4:
            raise KeyboardInterrupt
        rendered.append(index)
        return picture(self, index, **options)

    monkeypatch.setattr(rendering.Renderer, "picture", counted)
    render = Render(tiny_runs.config("moegs-stg"), output_path=tmp_path / "v.mp4", fps=12.0)
    with pytest.raises(KeyboardInterrupt):
        render.main()
    assert {path.name for path in tmp_path.iterdir()} == {"v.json", "v.mp4.frames"}
    rendered.pop()
    rendered.pop()
    render.main()
    assert rendered == [0, 1, 4, 5], "the first four are kept"
    assert {path.name for path in tmp_path.iterdir()} == {"v.json", "v.mp4"}


def test_runs_are_named_as_everywhere():
    for words in (["--load-config", "RUN"], ["--load-config=RUN"], ["RUN"]):
        args = command.as_spelled_now(["render", *words, "--output", "a.mp4", "path:spiral"])
        parsed: Any = tyro.cli(command.Command, args=args)
        assert parsed.run == Path("RUN") and isinstance(parsed.path, Spiral)
    assert command.as_spelled_now(["recipe", "--load-config"]) == ["train", "--load-config"]


def test_a_path_from_a_file(tmp_path: Path):
    words = ["render", "RUN", "--outputs", "rgb", "depth", "--output", "a.mp4", "path:file"]
    parsed: Any = tyro.cli(command.Command, args=[*words, "--path.file", "b.json"])
    assert parsed.path == CameraPathFile(Path("b.json")) and parsed.outputs == ("rgb", "depth")


def test_the_camera_path_is_read_before_the_run_is_loaded(tiny_runs: TinyRuns, tmp_path: Path):
    (tmp_path / "none.json").write_text(json.dumps({"camera_path": []}))
    path = CameraPathFile(tmp_path / "none.json")
    with pytest.raises(ValueError, match="Expected a camera path"):
        Render(tiny_runs.router, path, tmp_path / "a.mp4").main()


@pytest.mark.parametrize("wrong", [{"seconds": -1.0}, {"render_width": 0}, {"seconds": None}])
def test_numbers_of_a_path_are_checked_before_anything_is_drawn(
    wrong: dict[str, Any], rig: Rig, tiny_runs: TinyRuns, tmp_path: Path
):
    content = camera_path_json(Interpolate(), rig, num_frames=3, fps=10.0)
    (tmp_path / "path.json").write_text(json.dumps(content | wrong))
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Render(tiny_runs.router, CameraPathFile(tmp_path / "path.json"), tmp_path / "a.mp4").main()
    assert not (tmp_path / "a.mp4").exists()
