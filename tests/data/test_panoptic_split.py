"""`panoptic-data`: which cameras are held out, in copies with and without test_meta.json."""

from pathlib import Path

import numpy as np
import pytest
from data_helpers import panoptic_scene
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return PanopticDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def cameras(outputs: DataparserOutputs) -> list[int]:
    return sorted(set(outputs.metadata["camera_ids"]))


def test_a_copy_without_the_held_out_cameras(tmp_path: Path):
    scene = panoptic_scene(tmp_path)
    (scene / "test_meta.json").unlink()
    assert cameras(parse(scene)) == [1, 4, 7]
    with pytest.raises(FileNotFoundError, match=r"test_meta\.json, .*--held-out-cameras"):
        parse(scene, "test")
    assert cameras(parse(scene, held_out_cameras=(4,))) == [1, 7]
    assert cameras(parse(scene, "test", held_out_cameras=(4,))) == [4]


def test_other_cameras_than_the_published_ones(tmp_path: Path):
    """The files stay; their cameras are divided anew, each with its own pose and images."""
    scene = panoptic_scene(tmp_path)
    train = parse(scene, held_out_cameras=(4,), exclude_cameras=(7,))
    assert train.metadata["camera_ids"] == [1, 1, 1, 2, 2, 2]
    assert train.image_filenames[4] == scene / "ims" / "2" / "000001.jpg"
    positions = train.cameras.camera_to_worlds[:, 0, 3].numpy()
    np.testing.assert_allclose(positions, [-0.1] * 3 + [-0.2] * 3, atol=1e-6)
    # Without other held-out cameras, those of test_meta.json stay.
    assert cameras(parse(scene, exclude_cameras=(7,))) == [1, 4]
    assert cameras(parse(scene, "test", exclude_cameras=(7,))) == [2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out_cameras": (3,)}, r"4 cameras \(1, 2, 4, 7\), got 3"),
        ({"held_out_cameras": (1, 2, 4, 7)}, r"leave some to train on"),
        ({"exclude_cameras": (2,)}, r"got none; hold some out"),
    ],
)
def test_impossible_splits(tmp_path: Path, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        parse(panoptic_scene(tmp_path), **options)
