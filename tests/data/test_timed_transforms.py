"""`timed-transforms-data`: transforms.json of several cameras with times."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import KnownCamera, assert_dots_where_expected, assert_served, known_camera
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from moegs_ns.data.dataparsers.timed_transforms import TimedTransformsDataParserConfig


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    config = TimedTransformsDataParserConfig(data=scene, **options)
    return config.setup().get_dataparser_outputs(split)


def lens_of(camera: KnownCamera) -> dict[str, Any]:
    k1, k2, p1, p2, k3 = camera.distortion
    found = {"w": camera.width, "h": camera.height, "fl_x": camera.fx, "fl_y": camera.fy}
    found |= {"cx": camera.cx, "cy": camera.cy, "k1": k1, "k2": k2, "p1": p1, "p2": p2, "k3": k3}
    return found


def entries(folder: Path, number: int, camera: KnownCamera, frames: range) -> list[dict[str, Any]]:
    found = []
    for frame in frames:
        name = f"images/cam{number:02d}_{frame:04d}"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        camera.image(frame).save(folder / f"{name}.png")
        pose = camera.opengl.tolist()
        found.append({"file_path": name, "transform_matrix": pose, "frame": frame})
    return found


def timed(frames: list[dict[str, Any]], time) -> list[dict[str, Any]]:
    """With the time of each frame, given its number."""
    return [
        {k: v for k, v in {**frame, **time(frame["frame"])}.items() if k != "frame"}
        for frame in frames
    ]


def seconds(frame: int) -> dict[str, float]:
    """As written with four digits."""
    return {"time": round(frame / 30, 4)}


def fudan_scene(folder: Path, num_frames: int = 4) -> Path:
    """One lens for all, times in seconds, and paths without an ending."""
    for split, numbers in (("train", (1, 2, 3)), ("test", (0,))):
        frames = []
        for number in numbers:
            camera = known_camera(0)
            moved = known_camera(number)
            camera = KnownCamera(moved.R, moved.t, 240, 240, 84, 57, 160, 120)
            frames += entries(folder, number, camera, range(num_frames))
        common = {"w": 160, "h": 120, "fl_x": 240.0, "fl_y": 240.0, "cx": 84.0, "cy": 57.0}
        content = {**common, "frames": timed(frames, seconds)}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    return folder


def mixed_scene(folder: Path, time=lambda frame: {"frame_index": frame}, **extra) -> Path:
    """One file, a lens for each image, which distort, and cameras called by numbers."""
    frames = []
    for number in range(11):
        camera = known_camera(number, shift=(3.0, -2.0), distortion=(0.4, 0.1, 0.02, -0.03, 0.05))
        lens = lens_of(camera) | extra
        frames += [
            frame | lens | {"camera_id": number}
            for frame in entries(folder, number, camera, range(5, 7))
        ]
    # Neither by camera nor by time.
    frames = [frames[place] for place in np.random.default_rng(0).permutation(len(frames))]
    (folder / "transforms.json").write_text(json.dumps({"frames": timed(frames, time)}))
    return folder


def test_two_files_with_seconds(tmp_path: Path):
    scene = fudan_scene(tmp_path / "scene")
    train, held_out = parse(scene), parse(scene, "test")
    assert train.metadata["camera_ids"] == [0] * 4 + [1] * 4 + [2] * 4
    assert train.metadata["frame_ids"] == [0, 1, 2, 3] * 3
    assert held_out.metadata["camera_ids"] == [3] * 4
    assert held_out.image_filenames[2].name == "cam00_0002.png"
    for outputs in (train, held_out):
        assert_dots_where_expected(outputs, tmp_path / "store")


def test_one_file_with_a_lens_for_each_image(tmp_path: Path):
    scene = mixed_scene(tmp_path / "scene")
    train, held_out = parse(scene), parse(scene, "test")
    assert held_out.metadata["camera_ids"] == [0, 0]
    assert train.metadata["camera_ids"] == [n for n in range(1, 11) for _ in range(2)]
    assert [path.name[:5] for path in train.image_filenames[::2]] == [
        f"cam{number:02d}" for number in range(1, 11)
    ]
    assert (train.metadata["first_frame"], train.metadata["num_frames"]) == (5, 2)
    for outputs in (train, held_out):
        assert_dots_where_expected(outputs, tmp_path / "store")
    chosen = parse(scene, "test", held_out_cameras=(3, 4), exclude_cameras=(0,), frames=(6, 6))
    assert chosen.metadata["camera_ids"] == [3, 4]


def test_times_become_frames(tmp_path: Path):
    """Whatever their unit, and however few digits they have."""
    for scale, digits in ((1 / 30, 4), (1 / 299, 4), (1.0, 1), (0.04, 3)):
        scene = fudan_scene(tmp_path / f"{scale}", num_frames=3)
        for split in ("train", "test"):
            path = scene / f"transforms_{split}.json"
            content = json.loads(path.read_text())
            base = content["frames"][::3]
            # Frames 0 to 299 of the images there are.
            content["frames"] = [
                frame | {"time": round(number * scale, digits), "file_path": f"images/{number:04d}"}
                for frame in base
                for number in range(300)
            ]
            path.write_text(json.dumps(content))
        (scene / "images" / "0000.png").symlink_to(scene / "images" / "cam00_0000.png")
        outputs = parse(scene, "test")
        assert outputs.metadata["frame_ids"] == list(range(300))
        assert [path.stem for path in outputs.image_filenames] == [f"{n:04d}" for n in range(300)]


def test_the_unit_of_time_can_be_given(tmp_path: Path):
    """Where only every second frame was kept, the times alone do not tell."""
    scene = mixed_scene(tmp_path, time=lambda frame: {"time": (frame - 5) * 2 / 30})
    assert parse(scene).metadata["num_frames"] == 2
    assert parse(scene, time_unit=1.0).metadata["num_frames"] == 3
    with pytest.raises(ValueError, match=r"whole frames, but 0\.0666667 of .*--time-unit"):
        parse(scene, time_unit=1.0, fps=25.0)


def test_methods_get_the_images(tmp_path: Path):
    assert_served(TimedTransformsDataParserConfig(data=mixed_scene(tmp_path)))


# ---- mistakes ----


def change(path: Path, edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["frames"][3].pop("transform_matrix"), "KeyError: 'transform_matrix'"),
        (lambda c: c["frames"][3].pop("fl_x"), "KeyError: 'camera_angle_x'"),
        (lambda c: c["frames"][3].pop("frame_index"), "KeyError: 'time'"),
        (lambda c: c["frames"][3].update(camera_model="EQUIRECTANGULAR"), "EQUIRECTANGULAR"),
        (lambda c: c["frames"][3].update(cx=70.0), "Expected one lens of each camera, but"),
        (lambda c: c["frames"].append(c["frames"][0] | {"file_path": "x"}), "of one camera and"),
        (lambda c: c["frames"][3]["transform_matrix"][0].__setitem__(3, 9.0), "cameras that stand"),
        (
            lambda c: c["frames"][3]["transform_matrix"][0].__setitem__(0, 9.0),
            "Expected a rotation",
        ),
        (lambda c: c["frames"].pop(), "lacks 1 of 2"),
        (lambda c: c["frames"].clear(), "there are none"),
    ],
)
def test_mistakes_of_the_file(tmp_path: Path, edit, message: str):
    scene = mixed_scene(tmp_path)
    change(scene / "transforms.json", edit)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        parse(scene)


def test_mistakes_of_the_split(tmp_path: Path):
    scene = fudan_scene(tmp_path / "scene")
    (scene / "transforms_test.json").write_text((scene / "transforms_train.json").read_text())
    with pytest.raises(ValueError, match=r"camera 0 is in both; name cameras to hold out"):
        parse(scene)
    assert parse(scene, "test", held_out_cameras=(1,)).metadata["camera_ids"] == [1] * 4
    with pytest.raises(FileNotFoundError, match=r"images in transforms_train\.json or transforms"):
        parse(tmp_path)
