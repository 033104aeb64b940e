"""Each cause of error is found where it is the only one."""

import pytest
import torch
from tiny import TinyRuns

from benchmarks.quality.error_causes import CameraError, ErrorCauses
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.runs.checkpoint import open_run


def figures(image: torch.Tensor, truth: torch.Tensor, is_moving: torch.Tensor | None = None):
    error = CameraError()
    still = torch.zeros_like(truth[..., :1], dtype=torch.bool)
    error.add(image, truth, still if is_moving is None else is_moving)
    return error.figures()


@pytest.fixture
def truth() -> torch.Tensor:
    return torch.rand(20, 24, 3, generator=torch.Generator().manual_seed(0))


def test_wrong_colours_are_fitted(truth: torch.Tensor):
    """The fit turns the image into the truth, so any affine map of colours is taken back."""
    found = figures(0.8 * truth.roll(1, dims=-1) + 0.1, truth)
    assert found["psnr"] < 20.0 and found["psnr_registered"] < 20.0
    assert found["psnr_right_colors"] > 60.0


def test_a_shift_by_one_pixel_is_found(truth: torch.Tensor):
    found = figures(truth.roll(1, dims=1), truth)
    assert found["psnr"] < 10.0 and found["psnr_right_colors"] < 15.0
    assert found["psnr_registered"] > 60.0


def test_errors_of_moving_pixels_alone(truth: torch.Tensor):
    is_moving = torch.zeros(20, 24, 1, dtype=torch.bool)
    is_moving[5:9, 5:9] = True
    found = figures(torch.where(is_moving, 1.0 - truth, truth), truth, is_moving)
    assert found["psnr"] < 30.0 and found["psnr_still"] > 60.0


def test_rows_of_a_run(tiny_runs: TinyRuns):
    """Held-out cameras one by one, then their mean beside training cameras."""
    pipeline = load_pipeline(open_run(tiny_runs.router))
    *cameras, mean = ErrorCauses(runs=(), train_views=4).run_rows(pipeline)
    assert [row["camera"] for row in cameras] == sorted(row["camera"] for row in cameras)
    assert mean["psnr"] == pytest.approx(sum(row["psnr"] for row in cameras) / len(cameras), 1e-3)
    assert mean["psnr_right_colors_training"] >= mean["psnr_training"] > 5.0
    assert all(row["psnr_training"] is None and row["reason"] for row in cameras)
    assert all(row["psnr_right_colors"] >= row["psnr"] for row in [*cameras, mean])
