"""Means over images that do not all have every figure, from the image to the table."""

import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from PIL import Image

from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.evaluation.averages import averages
from moegs_ns.evaluation.baselines import mixture_metrics
from moegs_ns.evaluation.image_metrics import image_metrics
from moegs_ns.models.base import GaussianModel
from moegs_ns.reports.scores import images_with

HEIGHT, WIDTH = 12, 14
SMALL, MIDDLE, LARGE = (value / 255 for value in (20, 50, 80))
"""Errors that remain as they are when images are rounded to 8 bits."""
TRUTH = torch.full((HEIGHT, WIDTH, 3), 0.4)


def image(error: float) -> torch.Tensor:
    return TRUTH + error


def batch(moving_rows: int) -> dict[str, Any]:
    is_moving = torch.zeros(HEIGHT, WIDTH, 1, dtype=torch.bool)
    is_moving[:moving_rows] = True
    return {"image": TRUTH, "is_moving": is_moving}


def decibels(error: float) -> float:
    return -20.0 * math.log10(error)


def test_an_image_without_moving_pixels_has_no_dynamic_figure():
    still, _ = image_metrics(image(SMALL), batch(0))
    moving, _ = image_metrics(image(SMALL), batch(3))
    assert set(moving) - set(still) == {"psnr_dynamic"}
    assert moving["psnr_dynamic"] == pytest.approx(decibels(SMALL), abs=1e-4)
    assert not any(math.isnan(value) for value in (still | moving).values())


def test_images_without_a_figure_are_left_out_of_its_mean():
    figures = [{"psnr": 20.0}, {"psnr": 30.0, "psnr_dynamic": 10.0}]
    figures.append({"psnr": 40.0, "psnr_dynamic": 13.0})
    found = averages(figures, with_spread=True)
    assert found == {
        "psnr": 30.0, "psnr_std": 10.0,
        "psnr_dynamic": 11.5, "psnr_dynamic_std": pytest.approx(statistics.stdev([10, 13])),
        "psnr_dynamic_images": 2, "images": 3,
    }  # fmt: skip
    assert images_with(found, "psnr_dynamic") == 2
    assert images_with(found, "psnr") == 3
    one = averages(figures[:1], with_spread=True)
    assert one == {"psnr": 20.0, "psnr_std": 0.0, "images": 1}
    assert images_with(one, "psnr_dynamic") == 0
    assert "psnr_std" not in averages(figures, with_spread=False)


def test_means_are_in_double_precision():
    """In single precision this number of Gaussians would be even."""
    assert (
        averages([{"gaussian_count": 16777217.0}], with_spread=False)["gaussian_count"] == 16777217
    )


class Shown(GaussianModel):
    """Its images are given, and it takes their figures."""

    device = torch.device("cpu")  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, errors: list[float]) -> None:
        torch.nn.Module.__init__(self)
        self.images = iter([image(error) for error in errors])

    def get_outputs_for_camera(
        self, camera: Cameras, obb_box: Any = None
    ) -> dict[str, torch.Tensor]:
        shown = next(self.images)
        return {"rgb": shown, "rgb_a": shown, "gate_a": torch.ones(HEIGHT, WIDTH, 1)}

    def get_image_metrics_and_images(self, outputs: dict, batch: dict) -> tuple[dict, dict]:
        return mixture_metrics(outputs, batch, ("a",), None)


def scored(moving_rows: list[int], errors: list[float], **options: Any) -> dict[str, float]:
    """The pipeline's figures of a model that is wrong by these errors."""
    lens = {"fx": 9.0, "fy": 9.0, "cx": 7.0, "cy": 6.0, "width": WIDTH, "height": HEIGHT}
    camera = Cameras(torch.eye(4)[None, :3], **lens, camera_type=CameraType.PERSPECTIVE)
    loader = [(camera, batch(rows)) for rows in moving_rows]
    model = Shown(errors)
    pipeline: Any = SimpleNamespace(
        model=model, training=False, eval=lambda: None, train=lambda mode: None
    )
    return MoegsPipeline.get_average_image_metrics(pipeline, loader, "eval", **options)


def test_one_still_camera_leaves_the_table_its_dynamic_figure(tmp_path: Path):
    """It made the mean of all cameras NaN."""
    found = scored([0, 4, 8], [LARGE, SMALL, MIDDLE], get_std=True, output_path=tmp_path / "images")
    for name in ("psnr_dynamic", "psnr_dynamic_a", "psnr_dynamic_average"):
        expected = (decibels(SMALL) + decibels(MIDDLE)) / 2
        assert found[name] == pytest.approx(expected, abs=1e-4)
        assert found[f"{name}_images"] == 2
    every = statistics.mean(map(decibels, (SMALL, MIDDLE, LARGE)))
    assert found["psnr"] == found["psnr_a"] == pytest.approx(every, abs=1e-4)
    assert found["images"] == 3
    assert not any(math.isnan(value) for value in found.values())
    assert found["fps"] > 0.0 and found["num_rays_per_sec"] > found["fps"]
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == sorted(
        f"eval_{kind}_{index:04d}.png"
        for kind in ("img", "expert_a", "gate_a")
        for index in range(3)
    )
    with Image.open(tmp_path / "images" / "eval_img_0002.png") as sheet:
        assert sheet.size == (2 * WIDTH, HEIGHT)


def test_nothing_moves_anywhere():
    found = scored([0, 0], [SMALL, LARGE])
    assert "psnr_dynamic" not in found and "psnr_dynamic_images" not in found
    assert images_with(found, "psnr_dynamic") == 0
