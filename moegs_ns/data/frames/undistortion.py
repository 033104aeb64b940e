"""Lenses, and images of distorting ones made into those of pinholes, with masks of valid pixels.

Pixel centres lie at half-integers, as everywhere here; OpenCV's own functions count from 0.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from moegs_ns.data.frames.bars import NO_BARS, Bars

NUM_COEFFICIENTS = {"opencv": (0, 4, 5, 8, 12), "fisheye": (0, 4)}
"""Of each model, OpenCV's polynomials in the radius and in the angle to the optical axis; in its
order, k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4, and k1 k2 k3 k4."""
_STEPS = 20_000
"""Radii at which a lens is asked whether it folds."""


@dataclass(frozen=True)
class Lens:
    """Intrinsics in pixels; a ray (x, y, 1) of the camera meets the image at (fx x' + skew y' + cx,
    fy y' + cy), where the distortion makes x', y' of x, y."""

    fx: float
    fy: float
    cx: float
    cy: float
    skew: float = 0.0
    model: str = "opencv"
    """One of `NUM_COEFFICIENTS`."""
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.model not in NUM_COEFFICIENTS:
            raise ValueError(
                f"Expected the lens model opencv or fisheye, got {self.model}; describe the lens "
                "by one of them."
            )
        numbers = (self.fx, self.fy, self.cx, self.cy, self.skew, *self.distortion)
        if not (np.isfinite(numbers).all() and min(self.fx, self.fy) > 0.0):
            raise ValueError(
                "Expected finite intrinsics and focal lengths above 0, got "
                f"{' '.join(f'{number:g}' for number in numbers)}; calibrate the camera again."
            )
        allowed = NUM_COEFFICIENTS[self.model]
        if len(self.distortion) not in allowed:
            raise ValueError(
                f"Expected {' or '.join(map(str, allowed))} distortion coefficients of a lens of "
                f"the model {self.model}, got {len(self.distortion)}; calibrate with that many."
            )

    @property
    def K(self) -> Float[np.ndarray, "3 3"]:
        """The matrix of the intrinsics."""
        return np.array([[self.fx, self.skew, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def is_pinhole(self) -> bool:
        """Whether images are as those of a pinhole, with nothing to undistort."""
        return self.model == "opencv" and self.skew == 0.0 and not any(self.distortion)

    def scaled(self, x: float, y: float) -> "Lens":
        """The same lens where the image is resized by these factors."""
        return Lens(
            fx=self.fx * x,
            fy=self.fy * y,
            cx=self.cx * x,
            cy=self.cy * y,
            skew=self.skew * x,
            model=self.model,
            distortion=self.distortion,
        )

    def shifted(self, x: float, y: float) -> "Lens":
        """The same lens where the image lies that far to the right and below in a larger one."""
        return replace(self, cx=self.cx + x, cy=self.cy + y)

    def project(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        """Pixels at which points in front of the camera (OpenCV axes) are seen."""
        zeros, coefficients = np.zeros(3), np.array(self.distortion or (0.0,) * 4)
        points = np.ascontiguousarray(points[:, None], dtype=np.float64)
        if self.model == "fisheye":
            flat, _ = cv2.fisheye.projectPoints(points, zeros, zeros, np.eye(3), coefficients)
        else:
            flat, _ = cv2.projectPoints(points, zeros, zeros, np.eye(3), coefficients)
        x, y = flat.reshape(-1, 2).T
        return np.stack([self.fx * x + self.skew * y + self.cx, self.fy * y + self.cy], axis=1)

    def unfolded_radius(self) -> float:
        """Largest |(x, y)| of a ray up to which the polynomial grows; beyond it, the image would
        show its inside once more, mirrored. Infinite for most lenses."""
        c = np.zeros(8)
        c[: min(8, len(self.distortion))] = self.distortion[:8]
        # Angles up to the right one, so that all radii are covered.
        angle = np.linspace(0.0, 0.5 * np.pi, _STEPS + 1)[1:-1]
        if self.model == "fisheye":
            distorted = angle * np.polyval([*c[3::-1], 1.0], angle**2)
        else:
            square = np.tan(angle) ** 2
            above = np.polyval([c[4], c[1], c[0], 1.0], square)
            distorted = np.tan(angle) * above / np.polyval([c[7], c[6], c[5], 1.0], square)
        grows = np.diff(distorted, prepend=0.0) > 0.0
        return float("inf") if grows.all() else float(np.tan(angle[max(np.argmin(grows) - 1, 0)]))


@dataclass(frozen=True)
class Undistortion:
    """How a camera's images become those of a pinhole, on a canvas that all cameras share.

    The canvas begins where the camera's image does and may be larger; what no pixel of the image
    shows is black and not valid.
    """

    lens: Lens
    """At the size of the image."""
    image_size: tuple[int, int]
    """Width and height of the image as it is shown."""
    canvas: tuple[int, int]
    """Width and height of the canvas, in the same pixels."""
    focal_scale: float = 1.0
    """Focal lengths of the pinhole, as a fraction of the lens's."""
    bars: Bars = NO_BARS
    """Of the image; they show nothing."""

    @property
    def pinhole(self) -> Lens:
        """The intrinsics of the result, at the size of the canvas."""
        lens, scale = self.lens, self.focal_scale
        return Lens(fx=scale * lens.fx, fy=scale * lens.fy, cx=lens.cx, cy=lens.cy)

    @property
    def if_needed(self) -> "Undistortion | None":
        """This, or None where it would leave images as they are."""
        is_same_lens = self.lens.is_pinhole and self.focal_scale == 1.0
        is_whole = self.canvas == self.image_size and not self.bars
        return None if is_same_lens and is_whole else self

    def maps(self) -> tuple[Float[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"]]:
        """Where in the image (in OpenCV's pixels, from 0) each pixel of the canvas lies, and
        whether it lies there."""
        lens, (width, height) = self.lens, self.canvas
        coefficients = np.array(lens.distortion or (0.0,) * 4)
        # Normalised coordinates of the distorted rays, whose K is the identity.
        new_K = self.pinhole.K
        new_K[:2, 2] -= 0.5
        make = cv2.initUndistortRectifyMap
        if lens.model == "fisheye":
            make = cv2.fisheye.initUndistortRectifyMap
        size = (width, height)
        x, y = make(np.eye(3), coefficients, np.eye(3), new_K, size, cv2.CV_32FC1)
        x, y = x.astype(np.float64), y.astype(np.float64)
        u, v = lens.fx * x + lens.skew * y + lens.cx - 0.5, lens.fy * y + lens.cy - 0.5
        # Valid where the polynomial has not folded, and all pixels that are interpolated exist.
        column = (np.arange(width) - new_K[0, 2]) / new_K[0, 0]
        row = (np.arange(height) - new_K[1, 2]) / new_K[1, 1]
        is_valid = np.hypot(column[None], row[:, None]) < lens.unfolded_radius()
        slack = 1e-3
        bars, (image_width, image_height) = self.bars, self.image_size
        is_valid &= (u >= bars.left - slack) & (u <= image_width - bars.right - 1 + slack)
        is_valid &= (v >= bars.top - slack) & (v <= image_height - bars.bottom - 1 + slack)
        return np.stack([u, v], axis=-1), is_valid

    def mask(self, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
        """255 where a pixel of the canvas, resized to this width and height, is valid, else 0."""
        return only_whole(np.where(self.maps()[1], np.uint8(255), np.uint8(0)), size)


def only_whole(mask: UInt8[np.ndarray, "h w"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """A mask of 255 and 0 at this width and height, 255 where all of a pixel was."""
    resized = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.where(resized > 254.5, np.uint8(255), np.uint8(0))


class Undistorter:
    """Applies an undistortion to many images; the maps are made once."""

    def __init__(self, undistortion: Undistortion) -> None:
        maps, is_valid = undistortion.maps()
        self._x, self._y = np.moveaxis(maps, -1, 0).astype(np.float32)
        self._invalid = ~is_valid

    def __call__(self, image: UInt8[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "H W *c"]:
        """The canvas of an image or a mask, black where nothing is valid."""
        # The border is repeated, so that valid pixels at its very edge keep their colour.
        result = cv2.remap(
            image,
            self._x,
            self._y,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        result[self._invalid] = 0
        return result  # pyright: ignore[reportReturnType]
