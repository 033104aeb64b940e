"""Masks of nerfstudio's data: read as nerfstudio reads them, in the order of the images."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import masked_scene
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from moegs_ns.data import datamanager
from moegs_ns.data.datamanager import MoegsDataManager, MoegsDataManagerConfig
from moegs_ns.data.frames.masks import ImageMasks


def opened(scene: Path, mode: str = "val", **options) -> MoegsDataManager:
    parser = NerfstudioDataParserConfig(
        data=scene, eval_mode="interval", eval_interval=4, downscale_factor=1
    )
    options = {"num_random_points": 50, **options}
    config = MoegsDataManagerConfig(dataparser=parser, **options)
    return config.setup(device="cpu", test_mode=mode)


def columns(mask: torch.Tensor) -> list[int]:
    """How many columns of pixels count in each mask, which has no others."""
    counts = mask[..., 0, :, 0].sum(-1)
    for one, count in zip(mask.reshape(-1, 16, 24), counts.reshape(-1).tolist(), strict=True):
        assert bool(one[:, :count].all()) and not bool(one[:, count:].any())
    return counts.reshape(-1).tolist()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(datamanager.CONSOLE, "log", lines.append)
    return lines


def test_batches_carry_the_masks_of_their_images(tmp_path: Path, logged: list[str]):
    """Images 0 and 4 are for evaluation, 1 to 3 for training."""
    manager = opened(masked_scene(tmp_path))
    seen = {}
    for step in range(3):
        _, batch = manager.next_train(step)
        assert batch["mask"].dtype == torch.bool
        seen[int(batch["image_idx"][0])] = columns(batch["mask"])
    assert seen == {0: [10], 1: [11], 2: [12]}
    assert [columns(manager.eval_item(index)[1]["mask"]) for index in (0, 1)] == [[9], [13]]
    share = (10 + 11 + 12) / (3 * 24)
    said = f"Masks: {share:.1%} of the training pixels count in losses and figures."
    assert logged.count(said) == 1


def test_validation_cameras_keep_their_masks(tmp_path: Path):
    manager = opened(masked_scene(tmp_path), val_cameras=(1,))
    assert columns(manager.eval_item(0)[1]["mask"]) == [11]
    assert sorted(columns(manager.next_train(step)[1]["mask"])[0] for step in (0, 1)) == [10, 12]


def test_ground_truth_of_a_training_image_is_unknown_outside_of_its_mask(tmp_path: Path):
    _, image = opened(masked_scene(tmp_path, outside=70)).training_image(1)
    assert not bool(image[:, :11].isnan().any()) and bool(image[:, 11:].isnan().all())


def test_masks_of_smaller_images(tmp_path: Path):
    """`camera-res-scale-factor` applies to images and masks alike."""
    manager = opened(masked_scene(tmp_path), camera_res_scale_factor=0.5)
    mask = manager.eval_item(0)[1]["mask"]
    assert mask.shape == (8, 12, 1)
    assert mask[0, :, 0].tolist() == [True] * 4 + [bool(mask[0, 4, 0])] + [False] * 7


def test_data_without_masks_have_none(tmp_path: Path):
    scene = masked_scene(tmp_path)
    path = scene / "transforms.json"
    path.write_text(re.sub(r', "mask_path": "[^"]*"', "", path.read_text()))
    manager = opened(scene)
    assert manager.train_dataset.masks is None
    assert "mask" not in manager.next_train(0)[1] and "mask" not in manager.eval_item(0)[1]


GREY = np.full((16, 24), 255, np.uint8)
BAD_MASKS = {
    "of another size": (np.ones((8, 12), np.uint8), "of the image's size .24x16. .*has 12x8"),
    "turned": (GREY.T.copy(), "has 16x24"),
    "in colours": (np.stack([GREY] * 3, -1), "mask of one channel"),
}


@pytest.mark.parametrize("kind", [*BAD_MASKS, "missing", "no image", "empty"])
def test_bad_masks_are_refused_before_training(tmp_path: Path, kind: str):
    scene = masked_scene(tmp_path)
    path = scene / "masks" / "0002.png"
    error, message = ValueError, "mask of one channel"
    if kind in BAD_MASKS:
        content, message = BAD_MASKS[kind]
        Image.fromarray(content).save(path)
    elif kind == "missing":
        path.unlink()
        error, message = FileNotFoundError, "Expected a mask at"
    else:
        path.write_bytes(b"" if kind == "empty" else b"no image at all")
    with pytest.raises(error, match=message) as caught:
        opened(scene)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_masks_that_leave_nothing_are_refused(tmp_path: Path):
    scene = masked_scene(tmp_path)
    for number in range(5):
        Image.fromarray(np.zeros((16, 24), np.uint8)).save(scene / "masks" / f"{number:04d}.png")
    with pytest.raises(ValueError, match="the right way round"):
        opened(scene)


def test_a_mask_is_read_once(tmp_path: Path):
    """All images of a camera may share one; 13 pixels are no whole number of bytes."""
    mask = np.random.default_rng(0).random((1, 13)) > 0.5
    path = tmp_path / "mask.png"
    Image.fromarray(mask).save(path)
    masks = ImageMasks([path] * 3, [(13, 1)] * 3)
    masks.read_all()
    path.unlink()
    gathered = masks.gather(torch.tensor([2, 0]))
    np.testing.assert_array_equal(gathered[..., 0].numpy(), np.stack([mask, mask]))
