"""`moegs prepare points --moving` on a ball whose way is known."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from moegs_ns.data.dataparsers.rig import RigDataParserConfig
from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.points.files import PointCloud, load_points
from moegs_ns.data.points.moving_hull import MovingSurface, Rig, moving_surface
from moegs_ns.data.points.seed_motion import displacements
from moegs_ns.data.points.visual_hull import moving_mask
from moegs_ns.data.rig_files import RIG, RigCamera, write_rig
from moegs_ns.data.rig_files import Rig as RigFile
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.models.base import initial_points
from moegs_ns.scene import SceneInfo
from moegs_ns.scripts import main as command

WIDTH, HEIGHT, FOCAL = 160, 120, 140.0
CAMERAS, FRAMES, FPS, RADIUS = 8, 11, 25.0, 0.25
VELOCITY = np.array([4.0, -2.0, 1.5])
"""World units per second: 7 pixels a frame, three quarters of the ball's radius."""


def ball(frame: float) -> np.ndarray:
    """Its centre."""
    return np.array([-0.8, 0.4, -0.3]) + VELOCITY / FPS * frame


def pose_of(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and centre of a camera of a ring."""
    angle = 2.0 * np.pi * number / CAMERAS
    position = np.array([4.0 * np.sin(angle), -1.0, -4.0 * np.cos(angle)])
    forward = -position / np.linalg.norm(position)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward]), position


def drawn(number: int, center: np.ndarray, seed: int) -> np.ndarray:
    """A checked ball before a wall with a pattern, and noise."""
    rotation, position = pose_of(number)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    local = np.stack([(x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL, np.ones_like(x)], axis=-1)
    rays = local @ rotation
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    offset = position - center
    along = rays @ offset
    inside = along**2 - offset @ offset + RADIUS**2
    surface = offset + rays * (-along - np.sqrt(np.maximum(inside, 0.0)))[..., None]
    is_light = np.sin(12.0 * surface).prod(-1) > 0.0
    pattern = 30.0 * np.sin(0.35 * x) * np.cos(0.3 * y)
    wall = np.stack([90 + pattern, 120 - pattern, 130 + 0.3 * x], axis=-1)
    colour = np.where(is_light[..., None], [230.0, 60.0, 20.0], [190.0, 20.0, 60.0])
    image = np.where((inside > 0.0)[..., None], colour, wall)
    noise = np.random.default_rng(seed).normal(0.0, 2.0, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def make_scene(folder: Path) -> Path:
    cameras = []
    for number in range(CAMERAS):
        rotation, position = pose_of(number)
        lens = Lens(fx=FOCAL, fy=FOCAL, cx=WIDTH / 2, cy=HEIGHT / 2)
        pose, name = np.c_[rotation, -rotation @ position], f"cam{number}"
        cameras.append(RigCamera(name, name, WIDTH, HEIGHT, lens, pose, fps=FPS))
        (folder / name).mkdir(parents=True)
        for frame in range(FRAMES):
            image = drawn(number, ball(frame), 100 * number + frame)
            if number == 2 and frame == 5:
                image[70:85, 10:30] = [250, 250, 20]  # Something that no other camera sees.
            Image.fromarray(image).save(folder / name / f"{frame:03d}.png")
    write_rig(folder / RIG, RigFile(tuple(cameras), "m"))
    return folder


def prepare(scene: Path, *options: str, parser: tuple[str, ...] = ()) -> None:
    """What a user types."""
    given = ["--data", str(scene), "--method", "hull", *options, "rig-data", *parser]
    with replaced_argv(["moegs", "prepare", "points", *given]):
        command.main()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(tmp_path_factory.mktemp("ball"))


@pytest.fixture(scope="module")
def seeds(scene: Path) -> PointCloud:
    prepare(scene, "--moving", "--overwrite")
    return load_points(scene / "moegs_points.npz")


def test_seeds_lie_on_the_ball_at_every_key_frame(seeds: PointCloud):
    assert seeds.moving_frames is not None
    assert set(seeds.moving_frames.tolist()) == {0, 5, 10}
    for frame in (0, 5, 10):
        xyz = seeds.xyz[seeds.moving_frames == frame]
        assert len(xyz) > 100
        away = xyz - ball(frame)
        radii = np.linalg.norm(away, axis=1)
        # Eight cones leave small corners outside, and cells are a tenth of the radius.
        assert radii.max() < 1.35 * RADIUS and np.median(radii) == pytest.approx(RADIUS, abs=0.03)
        assert np.linalg.norm(away.mean(0)) < 0.15 * RADIUS
        # On all sides of it, in its colours, and on nothing else.
        assert (np.sign(away[:, None]) == OCTANTS).all(-1).any(0).all()
    assert seeds.rgb[:, 0].min() > 150 and seeds.rgb[:, 1:].max() < 100


OCTANTS = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)


def test_velocities_are_those_of_the_ball(seeds: PointCloud):
    """Also at the last frame, which has none after it."""
    assert seeds.velocities is not None and seeds.moving_frames is not None
    for frame in (0, 5, 10):
        found = seeds.velocities[seeds.moving_frames == frame]
        error = np.linalg.norm(found - VELOCITY, axis=1) / np.linalg.norm(VELOCITY)
        assert np.median(error) < 0.1 and np.percentile(error, 90) < 0.2


def test_the_run_tells_counts_and_shows_a_picture(scene: Path, seeds: PointCloud, capsys):
    prepare(scene, "--moving", "--overwrite", "--fewer", "--key-frames-every", "10")
    shown = " ".join(capsys.readouterr().out.split())
    assert seeds.moving_frames is not None
    counts = [int((seeds.moving_frames == frame).sum()) for frame in (0, 10)]
    assert f"Moving seeds by key frame: 0: {counts[0]:,}, 10: {counts[1]:,}." in shown
    assert f"and {sum(counts)} seeds of what moves at 2 key frames" in shown
    assert "got no seed" not in shown
    picture = np.array(Image.open(scene / "moegs_points_moving.png"))
    assert picture.shape == (2 * 300, 4 * 400, 3)
    # Yellow seeds where the first camera sees the ball, purple ways to the right of them.
    rotation, position = pose_of(0)
    local = rotation @ (ball(0) - position)
    column, row = (2.5 * (FOCAL * local[:2] / local[2] + [WIDTH / 2, HEIGHT / 2])).astype(int)
    is_yellow = (picture[:300, :400] == [255, 255, 0]).all(-1)
    places = np.argwhere(is_yellow)
    np.testing.assert_allclose(places.mean(0), [row, column], atol=6)


def test_cameras_are_said_to_show_the_seeds_that_are_kept(scene: Path, capsys):
    prepare(scene, "--moving", "--overwrite", "--fewer", "--seeds-per-key-frame", "80")
    shown = " ".join(capsys.readouterr().out.split())
    [listed] = re.findall(r"Points by the cameras that found them: ([^.]*)\.", shown)
    counts = [int(count) for count in re.findall(r"\d+: (\d+)", listed)]
    kept = len(load_points(scene / "moegs_points.npz").xyz)
    assert len(counts) == CAMERAS and kept <= 3 * 90
    # A camera sees one side of the ball.
    assert all(kept / 5 < count < kept for count in counts)


def test_what_one_camera_sees_is_said_to_have_no_seed(scene: Path, capsys):
    prepare(scene, "--moving", "--overwrite")
    shown = " ".join(capsys.readouterr().out.split())
    assert "Warning: something that moves got no seed in 1 of 3 key frames; the largest is" in shown
    assert re.search(
        r"camera 2 at frame 5, (29\d|30\d) pixels around column (19|20), row 77", shown
    )


def test_seeds_reach_a_training(scene: Path, seeds: PointCloud):
    """By the parser, which numbers frames from the first of the clip."""
    prepare(scene, "--moving", "--overwrite")
    parser = RigDataParserConfig(data=scene, frames=(4, 10), min_points=600).setup()
    metadata = parser.get_dataparser_outputs("train").metadata
    assert set(metadata["points3D_moving_frames"].tolist()) == {-1, 1, 6}
    info = SceneInfo(7, FPS, (0.0, 0.0, 0.0), 4.0, None)
    given = {"metadata": metadata | {"scene": info}}
    points = initial_points(
        given | {"seed_points": (metadata["points3D_xyz"], metadata["points3D_rgb"])}
    )
    assert points is not None and points.times is not None
    late = points.select(points.times == 1.0)
    np.testing.assert_allclose(late.xyz.mean(0), ball(10), atol=0.05)
    np.testing.assert_allclose(
        late.clip_velocities(info).median(0).values, VELOCITY * 6 / FPS, atol=0.15
    )


def test_a_background_without_motion_gives_no_seeds(tmp_path: Path):
    scene = make_scene(tmp_path)
    for folder in scene.glob("cam*"):
        for frame in range(FRAMES):
            image = drawn(int(folder.name[3:]), np.array([0.0, 0.0, 50.0]), frame)
            Image.fromarray(image).save(folder / f"{frame:03d}.png")
    with pytest.raises(ValueError, match="none was found"):
        prepare(scene, "--moving")
    assert not (scene / "moegs_points.npz").exists()
    assert not (scene / "moegs_points_moving.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--key-frames-every", "0"), "--key-frames-every expects at least 1, got 0"),
        (("--seeds-per-key-frame", "0"), "--seeds-per-key-frame expects at least 1, got 0"),
    ],
)
def test_numbers_that_make_no_sense(scene: Path, options: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        prepare(scene, "--moving", "--overwrite", *options)


def test_two_frames_tell_no_background(scene: Path, tmp_path: Path):
    output = str(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="stand still for at least 3 frames"):
        prepare(scene, "--moving", "--output", output, parser=("--frames", "0", "1"))


def test_seeds_are_added_to_the_points_of_the_scene(tmp_path: Path):
    scene = make_scene(tmp_path)
    options = ("--method", "keep", "--moving", "--overwrite", "--key-frames-every", "10")
    with pytest.raises(ValueError, match="--method keep expects a file of points in"):
        prepare(scene, *options)
    walls = np.random.default_rng(0).random((50, 3), dtype=np.float32)
    np.savez(scene / "moegs_points.npz", xyz=walls, rgb=np.zeros((50, 3), np.uint8))
    with pytest.raises(ValueError, match="so it expects --moving"):
        prepare(scene, "--method", "keep", "--overwrite")
    prepare(scene, *options)
    found = load_points(scene / "moegs_points.npz")
    assert found.moving_frames is not None and len(found.xyz) > 150
    np.testing.assert_array_equal(found.xyz[found.moving_frames < 0], walls)
    # Once more, the seeds of before are not kept.
    prepare(scene, *options)
    again = load_points(scene / "moegs_points.npz")
    np.testing.assert_array_equal(again.xyz, found.xyz)
    assert again.origin.count("seeds of what moves") == 1


# ---- the pieces ----


def test_noise_raises_the_threshold():
    random = np.random.default_rng(0)
    background = np.full((60, 80, 3), 100, np.uint8)
    noisy = np.clip(background + random.normal(0, 15, background.shape), 0, 255).astype(np.uint8)
    noisy[20:40, 30:50] = 250
    mask = moving_mask(noisy, background)
    assert mask[22:38, 32:48].all() and mask.sum() == pytest.approx(400, abs=40)


def ring() -> Rig:
    viewmats = np.tile(np.eye(4), (CAMERAS, 1, 1))
    for number in range(CAMERAS):
        rotation, position = pose_of(number)
        viewmats[number, :3] = np.c_[rotation, -rotation @ position]
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    return Rig(viewmats, np.stack([K] * CAMERAS), WIDTH, HEIGHT)


def surface_of(*centers: np.ndarray, radius: float = 0.2) -> MovingSurface:
    """Grey balls, as the cameras of the ring would see them."""
    rig = ring()
    images, masks = [], []
    for viewmat in rig.viewmats:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for center in centers:
            local = viewmat[:3, :3] @ center + viewmat[:3, 3]
            column, row = (rig.Ks[0] @ local)[:2] / local[2]
            middle = (round(column - 0.5), round(row - 0.5))
            cv2.circle(mask, middle, round(FOCAL * radius / local[2]), (1,), -1)
        masks.append(mask > 0)
        images.append(np.where(mask[..., None] > 0, 200, 50).repeat(3, -1).astype(np.uint8))
    return moving_surface(images, masks, rig)


def test_things_apart_are_parts():
    surface = surface_of(np.array([-0.6, 0.0, 0.0]), np.array([0.6, 0.0, 0.0]))
    assert set(surface.parts.tolist()) == {0, 1}
    for part in (0, 1):
        sides = np.sign(surface.xyz[surface.parts == part, 0])
        assert abs(sides.sum()) == len(sides)


def test_a_part_that_vanishes_does_not_fly_to_another():
    """Two balls of one kind; in the next frame one of them is gone and the other has moved."""
    left, right = np.array([-0.6, 0.0, 0.0]), np.array([0.6, 0.0, 0.0])
    now, later = surface_of(left, right), surface_of(left + np.array([0.0, 0.15, 0.0]))
    moved = displacements(now.xyz, now.rgb, now.parts, now, later)
    is_left = now.xyz[:, 0] < 0
    np.testing.assert_allclose(moved[is_left].mean(0), [0.0, 0.15, 0.0], atol=0.03)
    assert np.abs(moved[~is_left]).max() == 0.0
