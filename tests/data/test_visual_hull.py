"""Points of what moves, where no features can be matched."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.points.files import load_points
from moegs_ns.data.points.visual_hull import moving_mask
from moegs_ns.data.rig_files import RIG, Rig, RigCamera, write_rig
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command

WIDTH, HEIGHT, FOCAL, FRAMES, RADIUS = 160, 120, 140.0, 7, 0.35


def ball(frame: int) -> np.ndarray:
    """Centre of a red ball that is thrown up; one that flew straight to a camera would stand still
    in its image."""
    return np.array([-0.3 + 0.1 * frame, 0.9 - 0.3 * frame, 0.2 - 0.1 * frame])


def wide_scene(folder: Path, num_cameras: int = 4, frames: int = FRAMES) -> Path:
    """Smooth walls, a quarter of a turn between neighbouring cameras, and a plain red ball."""
    cameras = []
    for number in range(num_cameras):
        angle = 2.0 * np.pi * number / num_cameras
        position = np.array([4.0 * np.sin(angle), -1.0, -4.0 * np.cos(angle)])
        forward = -position / np.linalg.norm(position)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        lens = Lens(fx=FOCAL, fy=FOCAL, cx=WIDTH / 2, cy=HEIGHT / 2)
        pose = np.c_[rotation, -rotation @ position]
        name = f"cam{number}"
        cameras.append(RigCamera(name, name, WIDTH, HEIGHT, lens, pose))
        (folder / name).mkdir(parents=True)
        for frame in range(frames):
            image = Image.fromarray(render(position, rotation, ball(frame), number))
            image.save(folder / name / f"{frame:03d}.png")
    write_rig(folder / RIG, Rig(tuple(cameras), "m"))
    return folder


def render(position: np.ndarray, rotation: np.ndarray, center: np.ndarray, number: int):
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    local = np.stack([(x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL, np.ones_like(x)], axis=-1)
    rays = local @ rotation
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    offset = position - center
    along = rays @ offset
    is_ball = along**2 - offset @ offset + RADIUS**2 > 0.0
    wall = np.stack([90 + 0.2 * x, 110 + 0.2 * y, 130 + 0 * x + 5 * number], axis=-1)
    return np.where(is_ball[..., None], [200, 30, 30], wall).astype(np.uint8)


def prepare(scene: Path, *options: str, parser: tuple[str, ...] = ()) -> None:
    """What a user types."""
    args = ["moegs", "prepare", "points", "--data", str(scene), *options, "rig-data", *parser]
    with replaced_argv(args):
        command.main()


def test_what_moves_is_told_from_its_background():
    background = np.full((60, 80, 3), 100, np.uint8)
    image = background.copy()
    image[20:40, 30:50, 1] = 140  # It moves, with a hole of the background's colour,
    image[29:31, 39:41] = 100
    image[5, 5] = 255  # beside a pixel of noise and a slow change of the light.
    image[:, 60:] += 10
    mask = moving_mask(image, background)
    assert mask[25:35, 35:45].all()
    assert mask.sum() == pytest.approx(400, abs=30)
    assert not mask[:10, :10].any() and not mask[:, 60:].any()


@pytest.mark.colmap
def test_a_wide_rig_gets_points_on_what_moves(tmp_path: Path, capsys):
    """Four cameras at right angles, on whose walls nothing can be recognised."""
    scene = wide_scene(tmp_path)
    prepare(scene, "--every", "3")
    points = load_points(scene / "moegs_points.npz")
    assert points.frames is not None
    for frame in (0, 3, 6):
        xyz = points.xyz[points.frames == frame]
        assert len(xyz) > 300
        radii = np.linalg.norm(xyz - ball(frame), axis=1)
        # Four cones around a ball leave corners outside of it.
        assert radii.min() > 0.8 * RADIUS
        assert np.median(radii) == pytest.approx(RADIUS, abs=0.12)
        assert radii.max() < 2.0 * RADIUS
    np.testing.assert_allclose(np.median(points.rgb, axis=0), [200, 30, 30])
    assert "of them on the visual hull of what moves" in points.origin
    shown = " ".join(capsys.readouterr().out.split())
    assert "Points by the cameras that found them: 0: " in shown
    assert "Warning" not in shown


def test_a_hull_needs_no_pycolmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "pycolmap", None)
    scene = wide_scene(tmp_path)
    prepare(scene, "--method", "hull", parser=("--held-out-cameras", "cam1"))
    points = load_points(scene / "moegs_points.npz")
    assert points.cameras == (0, 2, 3)
    assert points.frames is None and len(points.xyz) > 300
    assert "carved from 3 cameras at frame 0" in points.origin


@pytest.mark.colmap
def test_few_points_are_said_to_be_few(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    from moegs_ns.data.points import prepared
    from moegs_ns.data.points.triangulation import Triangulated

    def few(images, view, options) -> Triangulated:
        xyz = np.zeros((7, 3), np.float32)
        return Triangulated(xyz, xyz.astype(np.uint8), np.full(len(images), 7))

    monkeypatch.setattr(prepared, "triangulate", few)
    scene = wide_scene(tmp_path, frames=2)
    prepare(scene)
    shown = " ".join(capsys.readouterr().out.split())
    assert "7 points, without a visual hull, which needs cameras that stand still for 3" in shown
    assert "Warning: 7 points hardly tell where surfaces are" in shown


def test_no_hull_where_nothing_moves(tmp_path: Path):
    scene = wide_scene(tmp_path)
    for path in scene.glob("cam*/*.png"):
        path.write_bytes((path.parent / "000.png").read_bytes())
    with pytest.raises(ValueError, match=r"none was found at frame 0.* 0 of them on the visual"):
        prepare(scene, "--method", "hull")
    assert not (scene / "moegs_points.npz").exists()
