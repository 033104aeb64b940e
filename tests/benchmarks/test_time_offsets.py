"""The scene of which one camera's clock is off, and what is said of the clocks that were found."""

import json
from pathlib import Path

import numpy as np
import pytest
from data_helpers import panoptic_scene
from PIL import Image

from benchmarks.quality.time_offsets import compared, write_shifted
from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig


def test_one_camera_shows_later_frames(tmp_path: Path):
    scene = panoptic_scene(tmp_path / "scene", num_frames=8)
    write_shifted(scene, tmp_path / "shifted", camera=4, stride=3, shift=1)
    outputs = PanopticDataParserConfig(data=tmp_path / "shifted").setup()
    images = outputs.get_dataparser_outputs("train")
    assert images.metadata["num_frames"] == 3
    for path, camera, frame in zip(
        images.image_filenames,
        images.metadata["camera_ids"],
        images.metadata["frame_ids"],
        strict=True,
    ):
        recorded = 3 * frame + (camera == 4)
        # The image says which frame it is.
        green = np.array(Image.open(path))[..., 1].mean()
        assert green == pytest.approx(20 * recorded, abs=6)
    kept = json.loads((tmp_path / "shifted" / "train_meta.json").read_text())
    assert len(kept["k"]) == len(kept["w2c"]) == len(kept["fn"]) == 3


def test_a_camera_that_is_not_trained_on_is_refused(tmp_path: Path):
    scene = panoptic_scene(tmp_path / "scene")
    with pytest.raises(ValueError, match=r"training camera of \[1, 4, 7\]"):
        write_shifted(scene, tmp_path / "shifted", camera=2, stride=3, shift=1)


def test_clocks_are_compared_with_those_of_the_others():
    row = compared({"1": -0.1, "4": 0.25, "7": -0.15}, 4, 0.4)
    assert row["offset_found"] == pytest.approx(0.375)
    assert row["error"] == pytest.approx(0.025)
    assert row["largest_of_others"] == pytest.approx(0.025)
