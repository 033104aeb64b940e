"""Worlds far from their origin or in small units: trained as they are, or refused in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import dnerf_scene, image_scene, nerfstudio_scene, poses_bounds
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.points.initial import Frustums


def moved(scene: Path, offset: float, unit: float = 1.0) -> Path:
    """The poses of a scene in nerfstudio's or D-NeRF's layout, scaled and then moved along x."""
    for path in scene.glob("transforms*.json"):
        meta = json.loads(path.read_text())
        for frame in meta["frames"]:
            pose = np.array(frame["transform_matrix"])
            pose[:3, 3] = unit * pose[:3, 3] + [offset, 0.0, 0.0]
            frame["transform_matrix"] = pose.tolist()
        path.write_text(json.dumps(meta))
    return scene


def opened(parser):
    config = MoegsDataManagerConfig(dataparser=parser, num_random_points=100)
    return config.setup(device="cpu", test_mode="val")


FAR = r"^Expected a world with its origin near the cameras, but they stand around \({}"


def test_georeferenced_poses_are_refused_with_the_way_out(tmp_path: Path):
    """Cameras of a dome of 4 m at 500 km from the origin lose 3 cm; at 5000 km half a metre."""
    for offset, message in ((5e5, r"500000, .*resolves steps of 0\.031"), (5e6, r"5000000, ")):
        scene = moved(dnerf_scene(tmp_path / f"{offset}"), offset)
        with pytest.raises(ValueError, match=FAR.format(message)) as caught:
            opened(DNeRFDataParserConfig(data=scene))
        assert "subtract this place" in str(caught.value)
    # What the sentence advises.
    opened(DNeRFDataParserConfig(data=moved(scene, -5e6)))


@pytest.mark.parametrize(("offset", "unit"), [(1e3, 1.0), (5e5, 1e3), (0.0, 1e-4), (0.0, 1e5)])
def test_worlds_that_single_precision_holds(tmp_path: Path, offset: float, unit: float):
    manager = opened(DNeRFDataParserConfig(data=moved(dnerf_scene(tmp_path), offset, unit)))
    scene = manager.train_dataset.metadata["scene"]
    assert scene.extent == pytest.approx(4.0 * unit, rel=0.2)
    points = manager.train_dataparser_outputs.metadata["points3D_xyz"]
    middle = points.mean(0) - torch.tensor(scene.center)
    assert float(middle.norm()) < 4.0 * unit
    assert len(points.unique(dim=0)) == 100


def test_a_parser_that_moves_the_origin_after_rounding(tmp_path: Path):
    """nerfstudio-data rounds poses to single precision before it subtracts their mean."""
    opened(NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path / "near"), downscale_factor=1))
    scene = moved(nerfstudio_scene(tmp_path / "far"), 5e5)
    with pytest.raises(ValueError, match=FAR.format("500000")):
        opened(NerfstudioDataParserConfig(data=scene, downscale_factor=1))


def test_our_own_parsers(tmp_path: Path):
    scene = image_scene(tmp_path)
    rows = poses_bounds(3)
    rows[:, :15].reshape(3, 3, 5)[:, 1, 3] += 4000.0
    np.save(scene / "poses_bounds.npy", rows)
    with pytest.raises(ValueError, match=FAR.format("0, 4000, 0")):
        opened(N3VDataParserConfig(data=scene))


def test_poses_that_single_precision_made_equal(tmp_path: Path):
    scene = image_scene(tmp_path)
    rows = poses_bounds(3)
    rows[:, :15].reshape(3, 3, 5)[:, 0, 3] += 5e7
    np.save(scene / "poses_bounds.npy", rows)
    with pytest.raises(ValueError, match="move the origin of the world to them"):
        opened(N3VDataParserConfig(data=scene))


def test_cameras_of_a_small_world_are_told_apart():
    poses = np.tile(np.eye(4)[:3], (4, 1, 1))
    poses[:, 0, 3] = 1e-7 * np.array([0, 1, 2, 2])
    frustums = Frustums(poses, np.tile(np.eye(3), (4, 1, 1)), 10, 10)
    assert len(frustums.distinct().Ks) == 3
