"""Training images in the frame of the viewer's picture."""

import pytest
import torch
from mixture_helpers import views

from moegs_ns.engine.viewer.nearest import Comparison, at_height, fitted


def test_the_error_is_a_mean_and_psnr_leaves_masked_pixels_out():
    target, picture = torch.full((2, 3, 3), 0.5), torch.full((2, 3, 3), 0.6)
    target[0, 0], picture[1, 1] = torch.nan, torch.tensor([0.5, 0.8, 0.5])
    comparison = Comparison(4, 2, target, picture)
    error = comparison.error[..., 0]
    assert error[0, 0].isnan()
    assert float(error[1, 1]) == pytest.approx(0.1) and float(error[1, 2]) == pytest.approx(0.1)
    squares = [0.01] * 12 + [0.0, 0.09, 0.0]
    expected = -10.0 * torch.tensor(squares).mean().log10()
    assert comparison.psnr == pytest.approx(float(expected), rel=1e-4)
    assert comparison.describe() == f"Camera 4, frame 2: PSNR {comparison.psnr:.2f} dB"


def test_a_smaller_camera_sees_the_same():
    view = views(1)[0]
    half = at_height(view, view.height // 2)
    assert (half.height, half.width) == (8, round(21 * 8 / 17))
    point = torch.tensor([0.2, -0.1, 3.0])
    at, small = ((one.Ks[0] @ point)[:2] / point[2] for one in (view, half))
    size, small_size = (torch.tensor([one.width, one.height]) for one in (view, half))
    torch.testing.assert_close(at / size, small / small_size)
    assert at_height(view, 400) is view


@pytest.mark.parametrize("width", [4, 6, 9])
def test_the_image_is_in_the_middle_of_the_picture(width: int):
    image = torch.arange(1.0, 19.0).reshape(3, 6, 1)
    shown = fitted(image, 3, width)
    left = (width - 6) // 2
    if width >= 6:
        assert torch.equal(shown[:, left : left + 6], image)
        assert shown[:, :left].abs().sum() == 0 and shown[:, left + 6 :].abs().sum() == 0
    else:
        assert torch.equal(shown, image[:, -left : width - left])
