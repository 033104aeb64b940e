"""`n3v-data`: cameras that are left out, the length of clips, and how images become smaller."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from data_helpers import image_scene
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image

from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.frames.dataset import FrameDataset
from moegs_ns.runs.config_yaml import ConfigLoader


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return N3VDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def long_scene(folder: Path, num_frames: int = 302) -> Path:
    scene = image_scene(folder, num_cameras=2, num_frames=1)
    for camera in ("cam00", "cam01"):
        first = scene / camera / "images" / "0000.png"
        for frame in range(1, num_frames):
            first.with_name(f"{frame:04d}.png").symlink_to(first)
    return scene


def test_a_camera_that_is_out_of_step_can_be_left_out(tmp_path: Path):
    """Its row of poses_bounds.npy stays, as do the numbers of the others."""
    scene = image_scene(tmp_path, num_cameras=4)
    # Without the option, its other frames are refused.
    (scene / "cam02" / "images" / "0003.png").unlink()
    with pytest.raises(ValueError, match=r"cam02 has 3"):
        parse(scene)
    outputs = parse(scene, exclude_cameras=(2,))
    assert outputs.metadata["camera_ids"] == [1] * 4 + [3] * 4
    positions = outputs.cameras.camera_to_worlds[:, 0, 3]
    np.testing.assert_allclose(positions.numpy(), [0.2] * 4 + [0.6] * 4, atol=1e-6)
    assert {path.parts[-3] for path in outputs.image_filenames} == {"cam01", "cam03"}
    assert parse(scene, "test", exclude_cameras=(2,)).metadata["camera_ids"] == [0] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude_cameras": (0,)}, "both name 0"),
        ({"exclude_cameras": (4,)}, r"--exclude-cameras expects some, .* 4 cameras \(0, 1, 2, 3\)"),
        ({"exclude_cameras": (1, 1)}, "each camera once"),
        ({"exclude_cameras": (1, 2, 3)}, "leave some to train on"),
    ],
)
def test_impossible_cameras_to_leave_out(tmp_path: Path, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        parse(image_scene(tmp_path, num_cameras=4), **options)


def test_clips_are_the_first_300_frames_unless_told(tmp_path: Path):
    scene = long_scene(tmp_path)
    outputs = parse(scene)
    assert outputs.metadata["num_frames"] == 300
    assert "The first 300 of 302 frames are used" in outputs.metadata["note"]
    assert "--frames 0 301 takes all" in outputs.metadata["note"]
    for outputs in (parse(scene, frames=(0, 301)), parse(scene, max_frames=None)):
        assert (outputs.metadata["num_frames"], outputs.metadata["note"]) == (302, "")
    assert parse(scene, max_frames=7).metadata["num_frames"] == 7
    with pytest.raises(ValueError, match=r"--max-frames expects a number above 0 or None, got 0"):
        parse(scene, max_frames=0)


def test_runs_from_before_keep_all_their_frames(tmp_path: Path):
    old = N3VDataParserConfig(data=long_scene(tmp_path))
    for name in ("max_frames", "exclude_cameras", "resize_filter"):
        del old.__dict__[name]
    for loader in (yaml.Loader, ConfigLoader):
        again = yaml.load(yaml.dump(old), Loader=loader)
        assert again.setup().get_dataparser_outputs("train").metadata["num_frames"] == 302
    new = yaml.load(yaml.dump(N3VDataParserConfig(data=old.data)), Loader=ConfigLoader)
    assert new.setup().get_dataparser_outputs("train").metadata["num_frames"] == 300


def test_resize_filters(tmp_path: Path):
    """Lanczos is that of Pillow, with which 4DGaussians extracts frames."""
    scene = image_scene(tmp_path, num_cameras=2)
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(scene / "cam01" / "images" / "0000.png")
    decoded = {}
    for name in ("area", "lanczos"):
        outputs = parse(scene, downscale_factor=2, resize_filter=name)
        decoded[name] = FrameDataset(outputs, data=scene).get_numpy_image(0)
    lanczos = Image.fromarray(noise).resize((12, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(decoded["lanczos"], np.asarray(lanczos))
    area = noise.reshape(8, 2, 12, 2, 3).astype(float).mean((1, 3))
    assert np.abs(decoded["area"] - area).max() <= 1.0
    assert np.abs(decoded["area"].astype(int) - decoded["lanczos"]).max() > 5
