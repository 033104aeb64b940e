"""Initial points: files, frames, topping up, and where random points land."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import dnerf_scene, image_scene, panoptic_scene

from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig
from moegs_ns.data.points.files import PointCloud, load_points
from moegs_ns.data.points.initial import (
    MAX_CAMERAS,
    Frustums,
    find_points,
    initial_points,
    random_points,
)
from moegs_ns.demo.scene import demo_rig


def rig_frustums(bounds: bool = True) -> Frustums:
    rig = demo_rig(8, 48, 36)
    Ks = np.tile(np.array([[rig.focal, 0, 24], [0, rig.focal, 18], [0, 0, 1.0]]), (8, 1, 1))
    poses = np.concatenate([rig.rotations * [1, -1, -1], rig.positions[:, :, None]], axis=2)
    return Frustums(poses, Ks, 48, 36, np.tile([2.0, 6.0], (8, 1)) if bounds else None)


def ring(num_cameras: int, distance: float = 4.0) -> Frustums:
    """Cameras all round the origin that look at it, field of view 40 degrees."""
    random = np.random.default_rng(0)
    back = random.normal(size=(num_cameras, 3))
    back /= np.linalg.norm(back, axis=1, keepdims=True)
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    poses = np.stack([right, np.cross(back, right), back, distance * back], axis=2)
    Ks = np.tile(np.array([[137.4, 0, 50], [0, 137.4, 50], [0, 0, 1.0]]), (num_cameras, 1, 1))
    return Frustums(poses, Ks, 100, 100)


def found_points(
    folder: Path, frustums: Frustums, frames: range, points_file: str = "", min_points: int = 0
) -> PointCloud:
    """What a parser with this configuration starts from."""
    path = find_points(folder, Path(points_file) if points_file else None, ("a.npz", "b.npz"))
    return initial_points(path, frustums, frames, 300, num_random_points=100, min_points=min_points)


def seen_by(frustums: Frustums, points: np.ndarray) -> np.ndarray:
    """Independent of `Frustums.see`: project by matrices in OpenCV axes."""
    counts = np.zeros(len(points), dtype=int)
    for pose, K in zip(frustums.camera_to_worlds, frustums.Ks, strict=True):
        c2w = np.eye(4)
        c2w[:3] = pose @ np.diag([1, -1, -1, 1])
        local = (np.linalg.inv(c2w) @ np.c_[points, np.ones(len(points))].T)[:3]
        u, v, depth = K @ local
        inside = (u >= 0) & (u < depth * frustums.width) & (v >= 0) & (v < depth * frustums.height)
        counts += inside & (depth > 0)
    return counts


def test_random_points_are_seen_by_many_cameras():
    frustums = rig_frustums()
    points = random_points(frustums, 500)
    assert points.xyz.shape == points.rgb.shape == (500, 3)
    counts = seen_by(frustums, points.xyz)
    assert counts.min() >= 2
    assert counts.min() >= counts.max() / 2
    assert points.rgb.min() >= 96
    assert points.rgb.max() < 160


def test_random_points_of_an_object_scene_fill_a_ball():
    points = random_points(ring(60), 2000).xyz
    radius = np.linalg.norm(points, axis=1)
    assert radius.max() < 2.6
    assert np.percentile(radius, 20) > 0.4
    assert np.abs(points.mean(0)).max() < 0.2


def test_random_points_depend_on_the_seed_alone():
    frustums = rig_frustums(bounds=False)
    one, two = random_points(frustums, 50, seed=1), random_points(frustums, 50, seed=1)
    assert np.array_equal(one.xyz, two.xyz)
    assert np.array_equal(one.rgb, two.rgb)
    assert not np.array_equal(one.xyz, random_points(frustums, 50, seed=2).xyz)


@pytest.mark.parametrize("count", [0, 1, 700])
def test_any_number_of_random_points(count: int):
    assert random_points(ring(5), count).xyz.shape == (count, 3)


def test_few_or_odd_cameras():
    """One camera; parallel cameras; cameras that share no view: points in front all the same."""
    one = ring(1)
    parallel = Frustums(
        np.tile(one.camera_to_worlds, (3, 1, 1)), np.tile(one.Ks, (3, 1, 1)), 100, 100
    )
    parallel.camera_to_worlds[:, 0, 3] += [0, 0.5, 1.0]
    apart = ring(2)
    apart.camera_to_worlds[1] = apart.camera_to_worlds[0] * [[1, 1, -1, 1]]
    apart.camera_to_worlds[1, :, 3] += 100.0
    for frustums in (one, parallel, apart):
        points = random_points(frustums, 40).xyz
        assert np.isfinite(points).all()
        assert seen_by(frustums, points).min() >= 1


def test_the_same_pose_counts_once():
    frustums = rig_frustums()
    rows = np.repeat(np.arange(8), 300)
    assert frustums.bounds is not None
    many = Frustums(
        frustums.camera_to_worlds[rows], frustums.Ks[rows], 48, 36, frustums.bounds[rows]
    )
    assert len(many.distinct().Ks) == 8
    assert len(ring(3 * MAX_CAMERAS).distinct().Ks) == MAX_CAMERAS


def test_colours_as_fractions_or_bytes(tmp_path: Path):
    xyz = np.zeros((2, 3))
    for rgb in (
        np.array([[0.0, 0.5, 1.0]] * 2),
        np.array([[0, 128, 255]] * 2, dtype=np.uint8),
        np.array([[0.0, 128.0, 255.0]] * 2, dtype=np.float32),
    ):
        np.savez(tmp_path / "a.npz", xyz=xyz, rgb=rgb)
        points = load_points(tmp_path / "a.npz")
        assert points.rgb.dtype == np.uint8
        assert points.rgb.tolist() == [[0, 128, 255]] * 2


def test_panoptic_clouds_and_lost_points(tmp_path: Path):
    """A few that are not finite are left out."""
    data = np.tile([1, 2, 3, 0.2, 0.4, 0.6, 1], (200, 1))
    data[7] = np.nan
    np.savez(tmp_path / "a.npz", data=data)
    points = load_points(tmp_path / "a.npz")
    assert points.xyz.tolist() == [[1, 2, 3]] * 199
    assert points.rgb.tolist() == [[51, 102, 153]] * 199
    data[:100] = np.nan
    np.savez(tmp_path / "a.npz", data=data)
    with pytest.raises(ValueError, match=r"finite points in .*a\.npz, but 100 of 200 are NaN"):
        load_points(tmp_path / "a.npz")


def test_ply_clouds(tmp_path: Path):
    plyfile = pytest.importorskip("plyfile")
    kinds = [(axis, "f4") for axis in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")]
    vertices = np.array([(1, 2, 3, 10, 20, 30), (4, 5, 6, 40, 50, 60)], dtype=kinds)
    element = plyfile.PlyElement.describe(vertices, "vertex")
    plyfile.PlyData([element]).write(str(tmp_path / "a.ply"))
    points = load_points(tmp_path / "a.ply")
    assert points.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert points.rgb.tolist() == [[10, 20, 30], [40, 50, 60]]
    (tmp_path / "a.ply").write_bytes(b"ply\nnonsense\n")
    with pytest.raises(ValueError, match=r"a\.ply.*cannot be read"):
        load_points(tmp_path / "a.ply")


def test_frames_are_cut_and_rebased(tmp_path: Path):
    frame = np.array([0, 10, 11, 12, 20])
    xyz = np.arange(15.0).reshape(5, 3)
    np.savez(tmp_path / "b.npz", xyz=xyz, rgb=np.zeros((5, 3)), frame=frame)
    points = found_points(tmp_path, ring(5), range(10, 13))
    assert points.frames is not None
    assert points.frames.tolist() == [0, 1, 2]
    assert points.xyz.tolist() == xyz[1:4].tolist()
    assert "3 belong to frames 10 to 12" in points.origin


def test_topping_up(tmp_path: Path):
    xyz = np.full((5, 3), 0.25, dtype=np.float32)
    np.savez(tmp_path / "a.npz", xyz=xyz, rgb=xyz, frame=np.array([3, 3, 5, 5, 5]))
    points = found_points(tmp_path, ring(5), range(8), min_points=30)
    assert points.xyz.shape == points.rgb.shape == (30, 3)
    assert points.xyz[:5].tolist() == xyz.tolist()
    assert points.frames is not None
    assert set(points.frames.tolist()) == {3, 5}
    assert "25 random ones added" in points.origin
    with pytest.raises(ValueError, match=r"frames 6 to 7 in .* but they belong to 3 to 5"):
        found_points(tmp_path, ring(5), range(6, 8), min_points=30)


def test_search_order_and_named_file(tmp_path: Path):
    for number, name in enumerate(("b.npz", "a.npz", "c.npz"), start=1):
        np.savez(tmp_path / name, xyz=np.full((number, 3), 0.5), rgb=np.zeros((number, 3)))
    assert len(found_points(tmp_path, ring(3), range(1)).xyz) == 2
    assert len(found_points(tmp_path, ring(3), range(1), points_file="c.npz").xyz) == 3
    with pytest.raises(FileNotFoundError, match=r"d\.npz \(--points-file\)"):
        found_points(tmp_path, ring(3), range(1), points_file="d.npz")


def test_files_that_are_no_points(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, positions=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"a\.npz.*cannot be read.*xyz"):
        load_points(path)
    np.savez(path, xyz=np.zeros((3, 3)), rgb=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"rgb \[2, 3\]"):
        load_points(path)
    np.savez(path, xyz=np.zeros((0, 3)), rgb=np.zeros((0, 3)))
    with pytest.raises(ValueError, match="holds none"):
        load_points(path)
    path.write_bytes(b"PK half a file")
    with pytest.raises(ValueError, match="cannot be read"):
        load_points(path)


def test_parsers_hand_points_to_nerfstudio(tmp_path: Path):
    parser = N3VDataParserConfig(data=image_scene(tmp_path), num_random_points=77).setup()
    metadata = parser.get_dataparser_outputs("train").metadata
    assert metadata["points3D_xyz"].shape == (77, 3)
    assert metadata["points3D_xyz"].dtype == torch.float32
    assert metadata["points3D_rgb"].dtype == torch.uint8
    assert "77 random" in metadata["points3D_origin"]
    assert "points3D_frames" not in metadata
    # The cameras look along -z and know their depths: 1 to 4.
    depth = -metadata["points3D_xyz"][:, 2]
    assert depth.min() >= 0.999
    assert depth.max() <= 4.001


@pytest.mark.parametrize("parser", [N3VDataParserConfig, PanopticDataParserConfig])
@pytest.mark.parametrize("is_topped_up", [False, True])
def test_random_points_of_parsers_follow_the_machine_seed(
    tmp_path: Path, parser: type, is_topped_up: bool
):
    """nerfstudio hands the number to torch alone."""
    make = image_scene if parser is N3VDataParserConfig else panoptic_scene
    scene = make(tmp_path)
    if is_topped_up:
        xyz = np.full((5, 3), 0.25, dtype=np.float32)
        np.savez(scene / "moegs_points.npz", xyz=xyz, rgb=xyz)
    config = parser(data=scene, num_random_points=30, min_points=30)

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        torch.rand(seed)
        return config.setup().get_dataparser_outputs("train").metadata["points3D_xyz"]

    assert torch.equal(drawn(42), drawn(42))
    assert not torch.equal(drawn(42), drawn(43))


def test_a_monocular_object_scene_starts_round_the_object(tmp_path: Path):
    from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig

    from moegs_ns.data.datamanager import MoegsDataManagerConfig

    parser = DNeRFDataParserConfig(data=dnerf_scene(tmp_path))
    config = MoegsDataManagerConfig(dataparser=parser, num_random_points=300)
    for mode in ("val", "test", "inference"):
        manager = config.setup(device="cpu", test_mode=mode)
        xyz = manager.train_dataparser_outputs.metadata["points3D_xyz"]
        assert xyz.shape == (300, 3)
        assert xyz.norm(dim=-1).median() < 1.5
