import pytest
import torch
from tolerances import EXACT, FORWARD, assert_gradients_agree, assert_images_agree


def test_images_agree_up_to_the_tolerance():
    image = torch.ones(20, 20, 3)
    assert_images_agree(image + 5e-6, image, max_flipped=0.0)
    with pytest.raises(AssertionError, match=r"100\.00% of the pixels"):
        assert_images_agree(image + 5e-5, image)


def test_few_pixels_may_flip_but_not_many():
    image = torch.zeros(20, 20, 3)
    flipped = image.clone()
    flipped[4, 7, 1] = 0.5
    assert_images_agree(flipped, image, max_flipped=1 / 400)
    flipped[5, 7] = 0.5
    with pytest.raises(AssertionError, match=r"0\.50% of the pixels"):
        assert_images_agree(flipped, image, max_flipped=1 / 400)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_flipped_pixel_must_be_finite(value):
    image = torch.zeros(20, 20, 3)
    broken = image.clone()
    broken[0, 0, 0] = value
    with pytest.raises(AssertionError, match="not finite"):
        assert_images_agree(broken, image, max_flipped=1.0)


def test_shapes_must_agree():
    with pytest.raises(AssertionError):
        assert_images_agree(torch.zeros(1, 4, 4, 3), torch.zeros(4, 4, 3))


def test_exact_means_the_same_bits():
    one = torch.ones(3)
    EXACT.assert_close(one, one.clone())
    with pytest.raises(AssertionError):
        EXACT.assert_close(one, one + 1.2e-7)
    with pytest.raises(AssertionError):
        FORWARD.assert_close(one * float("nan"), one)


def test_gradients_are_compared_in_units_of_the_largest():
    tiny = torch.tensor([1e-9, 2e-9])
    assert_gradients_agree(tiny * 1.0005, tiny)
    with pytest.raises(AssertionError):
        assert_gradients_agree(tiny * 1.01, tiny)
