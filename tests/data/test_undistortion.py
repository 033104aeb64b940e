"""Undistortion: what a pinhole would have seen, and where nothing was seen."""

import cv2
import numpy as np
import pytest

from moegs_ns.data.frames.undistortion import Lens, Undistorter, Undistortion

SIZE = (160, 120)
WIDE = Lens(fx=100.0, fy=101.0, cx=83.0, cy=57.5, distortion=(-0.3, 0.0, 0.0, 0.0))
LENSES = {
    "barrel": WIDE,
    "pincushion": Lens(
        fx=150.0, fy=148.0, cx=76.25, cy=63.5, distortion=(0.15, 0.02, 0.003, -0.002, 0.01)
    ),
    "rational": Lens(
        fx=150.0, fy=148.0, cx=76.25, cy=63.5, distortion=(0.3, 0.1, 0, 0, 0.02, 0.5, 0.1, 0.01)
    ),
    "skewed": Lens(fx=150.0, fy=148.0, cx=76.25, cy=63.5, skew=6.0),
    "fisheye": Lens(
        fx=90.0, fy=90.0, cx=79.0, cy=61.0, model="fisheye", distortion=(0.05, -0.01, 0.002, 0.0)
    ),
}


def colours(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture of the rays (x, y, 1)."""
    waves = [np.sin(3.0 * x + 1.0), np.cos(4.0 * y - 0.5), np.sin(2.0 * (x + y))]
    return np.stack([127.5 + 100.0 * wave for wave in waves], axis=-1)


def photograph(lens: Lens) -> np.ndarray:
    """What a camera with this lens records of `colours`, found by inverting the lens."""
    columns, rows = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    y = (rows - lens.cy) / lens.fy
    x = (columns - lens.cx - lens.skew * y) / lens.fx
    flat = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
    coefficients = np.array(lens.distortion or (0.0,) * 4)
    if lens.model == "fisheye":
        rays = cv2.fisheye.undistortPoints(flat, np.eye(3), coefficients)
    else:
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-10)
        rays = cv2.undistortPointsIter(
            flat, np.eye(3), coefficients, np.eye(3), np.eye(3), criteria
        )
    rays = rays.reshape(SIZE[1], SIZE[0], 2)
    return np.rint(colours(rays[..., 0], rays[..., 1])).astype(np.uint8)


@pytest.mark.parametrize("name", LENSES)
@pytest.mark.parametrize("focal_scale", [1.0, 0.7])
def test_an_undistorted_image_is_that_of_the_pinhole(name: str, focal_scale: float):
    lens = LENSES[name]
    undistortion = Undistortion(lens, SIZE, SIZE, focal_scale)
    image = Undistorter(undistortion)(photograph(lens)).astype(float)
    valid = undistortion.mask(SIZE) == 255
    pinhole = undistortion.pinhole
    columns, rows = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    x, y = (columns - pinhole.cx) / pinhole.fx, (rows - pinhole.cy) / pinhole.fy
    assert valid.mean() > 0.4
    # Near the fold `photograph` cannot invert the lens.
    near = valid & (np.hypot(x, y) < 0.8 * lens.unfolded_radius())
    # The colour of the nearest tenth of a pixel; half a pixel would be off by 1.5 and more.
    error = np.abs(image - colours(x, y)).max(-1)[near]
    assert np.quantile(error, 0.99) < 2.0
    assert np.median(error) < 0.7
    assert not image[~valid].any()


def test_a_fold_at_the_border_is_masked_and_not_mirrored():
    """d/dr of r (1 - 0.3 r^2) is 0 at r = 1.054; beyond, the map runs back into the image."""
    fold = np.sqrt(1.0 / 0.9)
    assert WIDE.unfolded_radius() == pytest.approx(fold, rel=1e-3)
    undistortion = Undistortion(WIDE, SIZE, SIZE, 0.5)
    maps, valid = undistortion.maps()
    pinhole = undistortion.pinhole
    columns, rows = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    radius = np.hypot((columns - pinhole.cx) / pinhole.fx, (rows - pinhole.cy) / pinhole.fy)
    # Far outside, where the map says it is inside of the image once more.
    inside = (maps[..., 0] > 0) & (maps[..., 0] < 159) & (maps[..., 1] > 0) & (maps[..., 1] < 119)
    mirrored = inside & (radius > fold)
    assert mirrored.sum() > 500
    assert not valid[mirrored].any()
    assert not Undistorter(undistortion)(np.full((120, 160, 3), 200, np.uint8))[mirrored].any()
    assert valid[radius < 0.5].all()


@pytest.mark.parametrize("name", ["rational", "skewed"])
def test_lenses_that_never_fold(name: str):
    assert LENSES[name].unfolded_radius() == np.inf


def test_a_fisheye_that_folds():
    """theta + k theta^3 is largest at theta = sqrt(-1 / 3k)."""
    lens = Lens(fx=90, fy=90, cx=80, cy=60, model="fisheye", distortion=(-0.3, 0.0, 0.0, 0.0))
    assert lens.unfolded_radius() == pytest.approx(np.tan(np.sqrt(1.0 / 0.9)), rel=1e-3)


def test_a_smaller_image_lies_on_the_canvas_unchanged():
    lens = Lens(fx=100.0, fy=100.0, cx=81.5, cy=60.0)
    undistortion = Undistortion(lens, SIZE, (200, 130))
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    result = Undistorter(undistortion)(image)
    np.testing.assert_array_equal(result[:120, :160], image)
    mask = np.zeros((130, 200), np.uint8)
    mask[:120, :160] = 255
    np.testing.assert_array_equal(undistortion.mask((200, 130)), mask)
    # A pixel of a smaller image is valid if all that it is made of is.
    np.testing.assert_array_equal(undistortion.mask((50, 26)), mask[4::5, 3::4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distortion": (0.1, 0.2)}, "0 or 4 or 5 or 8 or 12 distortion coefficients .*got 2"),
        ({"model": "fisheye", "distortion": (0.1,) * 5}, "0 or 4 .*model fisheye, got 5"),
        ({"fx": 0.0}, "focal lengths above 0"),
        ({"cx": float("nan")}, "finite intrinsics"),
        ({"model": "equirectangular"}, "opencv or fisheye, got equirectangular"),
    ],
)
def test_lenses_that_cannot_be(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Lens(**({"fx": 10.0, "fy": 10.0, "cx": 5.0, "cy": 5.0} | changes))
