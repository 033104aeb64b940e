"""Calibrations and points that no cameras can have are refused before training, in a sentence."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import dnerf_scene, image_scene, nerfstudio_scene, panoptic_scene
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from moegs_ns.data import datamanager
from moegs_ns.data.datamanager import MoegsDataManager, MoegsDataManagerConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig

SKEWED = "a matrix whose axes are skewed or scaled"


def opened(parser: DataParserConfig, **options) -> MoegsDataManager:
    config = MoegsDataManagerConfig(dataparser=parser, data=parser.data, **options)
    return config.setup(device="cpu", test_mode="val")


# ---- n3v-data ----

Rows = np.ndarray
Change = Callable[[Rows], None]


def change(camera: int, column: int, value: float) -> Change:
    def apply(rows: Rows) -> None:
        rows[camera, column] = value

    return apply


def rotate(matrix: np.ndarray) -> Change:
    """Multiply the axes of camera 1."""

    def apply(rows: Rows) -> None:
        poses = rows[:, :15].reshape(-1, 3, 5)
        poses[1, :, :3] = poses[1, :, :3] @ matrix
        rows[:, :15] = poses.reshape(-1, 15)

    return apply


def same_place(rows: Rows) -> None:
    rows[:, [3, 8, 13]] = (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (rotate(np.diag([1.0, 1.0, 1.1])), rf"cam01.*has {SKEWED}"),
        (rotate(np.zeros((3, 3))), SKEWED),
        (rotate(np.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]])), SKEWED),
        (rotate(np.diag([1.0, -1.0, 1.0])), r"cam01.*mirrored one \(its determinant is -1\)"),
        (same_place, r"different places, but all 2 stand at \(0\.1, 0\.2, 0\.3\)"),
        (change(1, 4, np.nan), r"row 1 holds NaN or infinity"),
        (change(2, 8, np.inf), r"row 2 holds NaN or infinity"),
        (change(1, 14, 0.0), r"focal length above 0 for cam01 .* 24x16 and 0 pixels"),
        (change(1, 14, -20.0), r"focal length above 0 for cam01 .* -20 pixels"),
        (change(2, 9, 0.0), r"size and focal length above 0 for cam02 .* got 0x16"),
        (change(2, 4, 24.0), r"cam02/images is 24x16 as it is shown and .* says 24x24"),
        (change(0, 15, 5.0), r"0 <= near < far for cam00 .* got 5 and 4"),
        (change(1, 15, -1.0), r"0 <= near < far for cam01 .* got -1 and 4"),
        (change(1, 16, 1.0), r"0 <= near < far for cam01 .* got 1 and 1"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_n3v_rows_that_no_camera_has(tmp_path: Path, damage: Change, said: str, split: str):
    scene = image_scene(tmp_path)
    rows = np.load(scene / "poses_bounds.npy")
    damage(rows)
    np.save(scene / "poses_bounds.npy", rows)
    parser = N3VDataParserConfig(data=scene)
    if split == "test" and not ("row" in said or " for cam" in said or "cam02/" in said):
        # Held-out cameras are checked with their own split.
        parser = N3VDataParserConfig(data=scene, held_out_cameras=(1, 2))
        if damage is same_place:
            return
    with pytest.raises(ValueError, match=said):
        parser.setup().get_dataparser_outputs(split)


def test_one_training_camera_stands_where_it_stands(tmp_path: Path):
    parser = N3VDataParserConfig(data=image_scene(tmp_path), held_out_cameras=(0, 2))
    assert opened(parser).train_dataset.frame_table.camera_ids.tolist() == [1] * 4


def test_rounded_poses_are_rotations(tmp_path: Path):
    scene = image_scene(tmp_path)
    rows = np.load(scene / "poses_bounds.npy")
    angle = np.array([[np.cos(1.0), np.sin(1.0), 0], [-np.sin(1.0), np.cos(1.0), 0], [0, 0, 1]])
    rotate(angle)(rows)
    np.save(scene / "poses_bounds.npy", rows.round(3))
    assert len(opened(N3VDataParserConfig(data=scene)).train_dataset) == 8


def _archive(rows: Rows) -> bytes:
    file = io.BytesIO()
    np.savez(file, rows)
    return file.getvalue()


def _saved(rows: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda rows: _saved(rows.astype(str)), r"real numbers in .*\.npy, got numbers of type <U"),
        (lambda rows: _saved(rows.astype(complex)), "got numbers of type complex128"),
        (lambda rows: _saved(rows.astype(object)), "it cannot be read"),
        (lambda rows: _saved(rows > 0), "got numbers of type bool"),
        (lambda rows: _saved(rows)[:300], "it cannot be read"),
        (lambda rows: b"", "it cannot be read"),
        (lambda rows: b"0.1 0.2 0.3", "it cannot be read"),
        (_archive, "got an archive"),
    ],
)
def test_poses_that_are_no_array_of_numbers(tmp_path: Path, write, said: str):
    scene = image_scene(tmp_path)
    path = scene / "poses_bounds.npy"
    path.write_bytes(write(np.load(path)))
    with pytest.raises(ValueError, match=said) as error:
        N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    assert "\n" not in str(error.value)


def test_cameras_that_are_held_out_twice(tmp_path: Path):
    scene = image_scene(tmp_path)
    parser = N3VDataParserConfig(data=scene, held_out_cameras=(0, 0))
    with pytest.raises(ValueError, match="--held-out-cameras expects each camera once, got 0 0"):
        parser.setup().get_dataparser_outputs("train")
    with pytest.raises(ValueError, match="--val-cameras expects each camera once, got 1, 1"):
        opened(N3VDataParserConfig(data=scene), val_cameras=(1, 1))


# ---- panoptic-data ----


def damaged_dome(folder: Path, damage: Callable[[dict], None], split: str = "train") -> Path:
    scene = panoptic_scene(folder)
    path = scene / f"{split}_meta.json"
    meta = json.loads(path.read_text())
    damage(meta)
    path.write_text(json.dumps(meta))
    return scene


def set_w2c(value: list, row: int | None = None) -> Callable[[dict], None]:
    """Of camera 1, at all times; columns of the rotation are those of the rows here."""

    def apply(meta: dict) -> None:
        for at_time in meta["w2c"]:
            at_time[1] = (
                value if row is None else [*at_time[1][:row], value, *at_time[1][row + 1 :]]
            )

    return apply


def set_k(row: int, column: int, value: float) -> Callable[[dict], None]:
    def apply(meta: dict) -> None:
        meta["k"][1][1][row][column] = value

    return apply


def one_place(meta: dict) -> None:
    meta["w2c"] = [[np.eye(4).tolist()] * len(at_time) for at_time in meta["w2c"]]


def rename(name: str) -> Callable[[dict], None]:
    return lambda meta: meta["fn"][1].__setitem__(1, name)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (set_w2c([2, 0, 0, 0], row=0), rf"ims/1/.*has {SKEWED}"),
        (set_w2c(np.zeros((4, 4)).tolist()), SKEWED),
        (set_w2c([-1, 0, 0, 0], row=0), "mirrored one"),
        (set_w2c([0, 0, 3, 1], row=3), "the last row 0 0 0 1"),
        (set_k(0, 0, 0.0), r"focal length above 0 .*ims/1/000001\.jpg"),
        (set_k(1, 1, -21.0), r"focal length above 0 .*ims/1/000001\.jpg"),
        (set_k(0, 2, float("inf")), "NaN or infinity"),
        (one_place, r"different places, but all 3 stand at"),
        (lambda meta: meta.update(w=0), "width w and height h above 0"),
        (lambda meta: meta["cam_id"][1].__setitem__(1, 4), "camera 4 is listed 2 times at time 1"),
        (rename("../../../other/1/000001.jpg"), r"inside of the scene folder .*\.\./other/1"),
        (rename("/etc/000001.jpg"), r"inside of the folder ims .* got /etc/000001\.jpg"),
    ],
)
def test_domes_that_no_cameras_have(tmp_path: Path, damage: Callable[[dict], None], said: str):
    scene = damaged_dome(tmp_path / "dome", damage)
    with pytest.raises(ValueError, match=said):
        PanopticDataParserConfig(data=scene).setup().get_dataparser_outputs("train")


def test_a_dome_that_trains_on_a_held_out_camera(tmp_path: Path):
    def damage(meta: dict) -> None:
        meta["cam_id"] = [[7] for _ in meta["cam_id"]]

    scene = damaged_dome(tmp_path, damage, "test")
    for split in ("train", "test"):
        with pytest.raises(
            ValueError, match=r"test_meta\.json than in train_meta\.json, but 7 are"
        ):
            PanopticDataParserConfig(data=scene).setup().get_dataparser_outputs(split)


def test_images_of_other_proportions_than_the_dome(tmp_path: Path):
    scene = damaged_dome(tmp_path, lambda meta: meta.update(w=24, h=24))
    with pytest.raises(ValueError, match=r"proportions of the cameras \(24x24\).* is 24x16"):
        opened(PanopticDataParserConfig(data=scene, num_random_points=50))


def test_images_in_a_linked_folder_are_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scene = panoptic_scene(tmp_path / "dome")
    (scene / "ims").rename(tmp_path / "elsewhere")
    (scene / "ims").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(scene)
    parser = PanopticDataParserConfig(data=Path("../dome"))
    assert len(parser.setup().get_dataparser_outputs("train").image_filenames) == 9


# ---- parsers of nerfstudio ----


def damaged_json(path: Path, damage: Callable[[dict], None]) -> None:
    meta = json.loads(path.read_text())
    damage(meta)
    path.write_text(json.dumps(meta))


def set_pose(row: int, column: int, value: float) -> Callable[[dict], None]:
    return lambda meta: meta["frames"][0]["transform_matrix"][row].__setitem__(column, value)


def mirror(meta: dict) -> None:
    for row in meta["frames"][0]["transform_matrix"][:3]:
        row[0] = -row[0]


def stand_still(meta: dict) -> None:
    for frame in meta["frames"]:
        frame["transform_matrix"] = meta["frames"][0]["transform_matrix"]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (set_pose(0, 0, 9.0), rf"r_000\.png has {SKEWED}"),
        (set_pose(1, 3, float("nan")), r"r_000\.png has NaN or infinity"),
        (mirror, r"r_000\.png has a mirrored one"),
        (stand_still, "different places, but all 5 stand at"),
        (lambda meta: meta.update(camera_angle_x=-0.7), "a focal length above 0"),
        (lambda meta: meta.update(camera_angle_x=0.0), "NaN or infinity"),
        (lambda meta: meta["frames"][0].update(time=float("nan")), "NaN or infinity"),
    ],
)
def test_dnerf_scenes_that_no_camera_has(
    tmp_path: Path, damage: Callable[[dict], None], said: str, split: str
):
    scene = dnerf_scene(tmp_path)
    if split == "val" and damage is stand_still:
        return
    damaged_json(scene / f"transforms_{split}.json", damage)
    with pytest.raises(ValueError, match=said):
        opened(DNeRFDataParserConfig(data=scene))


def rename_first(name: str) -> Callable[[dict], None]:
    return lambda meta: meta["frames"][0].update(file_path=name)


def test_images_outside_of_a_nerfstudio_scene(tmp_path: Path):
    scene = nerfstudio_scene(tmp_path / "scene")
    Image.new("RGB", (24, 16)).save(tmp_path / "other.png")
    for name in ("../other.png", "images/../../other.png"):
        damaged_json(scene / "transforms.json", rename_first(name))
        with pytest.raises(ValueError, match=r"inside of the scene folder .*other\.png"):
            opened(NerfstudioDataParserConfig(data=scene))
    # Dots that lead back are harmless.
    damaged_json(scene / "transforms.json", rename_first("images/../images/0000.png"))
    opened(NerfstudioDataParserConfig(data=scene, train_split_fraction=0.8))


# ---- points ----


def with_points(folder: Path, **arrays: np.ndarray) -> Path:
    scene = image_scene(folder)
    xyz = np.random.default_rng(0).uniform(-0.2, 0.2, (200, 3)) - (0, 0, 2)
    np.savez(scene / "points3D.npz", **{"xyz": xyz, "rgb": np.full((200, 3), 99), **arrays})
    return scene


NUMBERS = np.arange(200) % 4


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"xyz": np.where(NUMBERS[:, None] < 2, np.nan, np.zeros((200, 3)))}, "100 of 200 are NaN"),
        ({"xyz": np.zeros((200, 3), complex)}, "real and .* got complex128"),
        ({"xyz": np.zeros((200, 3)).astype(str)}, "real and .* got <U"),
        ({"frame": NUMBERS - 1}, "has 4 frames, but they belong to -1 to 2"),
        ({"frame": NUMBERS + 1}, "has 4 frames, but they belong to 1 to 4"),
        ({"frame": NUMBERS + 300}, "has 4 frames, but they belong to 300 to 303"),
        ({"frame": NUMBERS + 0.5}, "frames that are not whole"),
        ({"frame": np.where(NUMBERS == 0, np.nan, NUMBERS)}, "frames that are not whole"),
    ],
)
def test_points_that_are_none(tmp_path: Path, arrays: dict[str, np.ndarray], said: str):
    scene = with_points(tmp_path, **arrays)
    with pytest.raises(ValueError, match=said):
        N3VDataParserConfig(data=scene).setup().get_dataparser_outputs("train")


def test_points_of_other_frames_than_the_clip(tmp_path: Path):
    """Some are left out, but not all."""
    scene = with_points(tmp_path, frame=NUMBERS)
    outputs = N3VDataParserConfig(data=scene, frames=(1, 2), min_points=0).setup()
    assert len(outputs.get_dataparser_outputs("train").metadata["points3D_xyz"]) == 100
    scene = with_points(tmp_path / "first", frame=NUMBERS * 0)
    parser = N3VDataParserConfig(data=scene, frames=(1, 2))
    with pytest.raises(ValueError, match=r"frames 1 to 2 in .* but they belong to 0 to 0"):
        parser.setup().get_dataparser_outputs("train")


@pytest.mark.parametrize(("shift", "share"), [(0.0, None), (1000.0, "0"), ("one", "1")])
def test_points_that_no_camera_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float | str, share: str | None
):
    scene = with_points(tmp_path)
    xyz = np.load(scene / "points3D.npz")["xyz"]
    xyz[2 if shift == "one" else 0 :, 2] += 1000.0 if shift == "one" else shift
    np.savez(scene / "points3D.npz", xyz=xyz, rgb=np.full((200, 3), 99))
    lines: list[str] = []
    monkeypatch.setattr(datamanager.CONSOLE, "log", lines.append)
    manager = opened(N3VDataParserConfig(data=scene, min_points=0))
    assert len(manager.train_dataparser_outputs.metadata["points3D_xyz"]) == 200
    warnings = [line for line in lines if "in view of any training camera" in line]
    if share is None:
        assert not warnings
    else:
        assert len(warnings) == 1
        assert warnings[0].startswith(f"Warning: {share} % of the initial points")


def test_random_points_need_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines: list[str] = []
    monkeypatch.setattr(datamanager.CONSOLE, "log", lines.append)
    manager = opened(DNeRFDataParserConfig(data=dnerf_scene(tmp_path)))
    assert isinstance(manager.train_dataparser_outputs.metadata["points3D_xyz"], torch.Tensor)
    assert not [line for line in lines if "in view" in line]
