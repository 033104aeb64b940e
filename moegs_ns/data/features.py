"""SIFT features of images, and which of them look alike in two images."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

_CONTRAST = 0.02
"""Smallest contrast of a feature; OpenCV's own 0.04 finds less on smooth walls."""
_RATIO = 0.8
"""Largest distance to the best match, as a fraction of that to the second best (Lowe 2004)."""
_ROUNDING = 1e-6
"""Error of a product of unit vectors in single precision: of two equal features neither may win by
it, as one does on some processors."""
_BORDER = 24
"""Pixels around a mask that descriptors reach."""


@dataclass(frozen=True, eq=False)
class Features:
    """N features of one image."""

    xy: Float[np.ndarray, "N 2"]
    """Pixels; the centre of the first one is (0.5, 0.5)."""
    descriptors: UInt8[np.ndarray, "N 128"]

    def __len__(self) -> int:
        return len(self.xy)

    def where(self, mask: Bool[np.ndarray, "H W"]) -> "Features":
        """Those whose pixels the mask holds."""
        columns, rows = np.floor(self.xy).astype(int).T
        height, width = mask.shape
        kept = mask[rows.clip(0, height - 1), columns.clip(0, width - 1)]
        return Features(self.xy[kept], self.descriptors[kept])


def find_features(
    gray: UInt8[np.ndarray, "H W"],
    most: int,
    *,
    mask: Bool[np.ndarray, "H W"] | None = None,
    scale: tuple[float, float] = (1.0, 1.0),
) -> Features:
    """The `most` strongest features of an image, where a mask is true.

    `scale` multiplies their x and y, where the image is a resized one.
    """
    x, y, allowed = 0, 0, None
    if mask is not None:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return _none()
        # Features are searched in the part that counts, with what their descriptors reach.
        y, x = max(int(rows[0]) - _BORDER, 0), max(int(columns[0]) - _BORDER, 0)
        part = np.s_[y : int(rows[-1]) + _BORDER + 1, x : int(columns[-1]) + _BORDER + 1]
        gray, allowed = gray[part], mask[part].astype(np.uint8) * 255
    # Without precise upscaling, all features lie a quarter of a pixel too far right and down.
    sift = cv2.SIFT.create(nfeatures=most, contrastThreshold=_CONTRAST, enable_precise_upscale=True)
    found, descriptors = sift.detectAndCompute(np.ascontiguousarray(gray), allowed)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if descriptors is None or not len(found):
        return _none()
    # OpenCV counts from the centre of the first pixel.
    xy = (np.array([point.pt for point in found]) + np.array([x + 0.5, y + 0.5])) * scale
    # A spot with two orientations is found twice; more than asked for may be found.
    order = np.argsort([-point.response for point in found], kind="stable")[:most]
    return Features(xy[order].astype(np.float32), descriptors[order].astype(np.uint8))


def match_features(one: Features, two: Features) -> Int[np.ndarray, "M 2"]:
    """Indices of features that are each other's best match, and clearly better than the second
    best."""
    if min(len(one), len(two)) < 2:
        return np.empty((0, 2), np.int64)
    similarity = _rooted(one) @ _rooted(two).T
    rows = np.arange(len(one))
    forth, back = similarity.argmax(1), similarity.argmax(0)
    best = similarity[rows, forth]
    similarity[rows, forth] = -1.0
    second = similarity.max(1)
    # Squared distances of unit vectors.
    is_clear = 1.0 - best + _ROUNDING < _RATIO**2 * (1.0 - second)
    rows = rows[is_clear & (back[forth] == rows)]
    return np.stack([rows, forth[rows]], axis=1)


def _rooted(features: Features) -> Float[np.ndarray, "N 128"]:
    """Square roots of histograms that sum to 1, whose products tell alike ones better than those of
    the histograms (Arandjelović and Zisserman 2012)."""
    histograms = features.descriptors.astype(np.float32)
    return np.sqrt(histograms / np.maximum(histograms.sum(1, keepdims=True), 1e-6))


def _none() -> Features:
    return Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
