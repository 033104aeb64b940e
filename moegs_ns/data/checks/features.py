"""SIFT features of images, and which of them look alike in two images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

_CONTRAST = 0.02
"""Half of OpenCV's smallest contrast of a feature, which finds too few on smooth walls."""
_RATIO = 0.8
"""Largest distance of a match as a fraction of the second best one's (Lowe 2004, section 7.1)."""


@dataclass(frozen=True, eq=False)
class Features:
    """N features of one image."""

    xy: Float[np.ndarray, "N 2"]
    """Pixels; the centre of the first one is (0.5, 0.5)."""
    descriptors: Float[np.ndarray, "N 128"]
    """Square roots of SIFT's histograms (Arandjelovic and Zisserman 2012), of length 1."""

    def __len__(self) -> int:
        return len(self.xy)

    def where(self, mask: Bool[np.ndarray, "H W"]) -> "Features":
        """Those whose pixels the mask holds."""
        columns, rows = np.floor(self.xy).astype(int).T
        height, width = mask.shape
        kept = mask[rows.clip(0, height - 1), columns.clip(0, width - 1)]
        return Features(self.xy[kept], self.descriptors[kept])


def find_features(
    gray: UInt8[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"] | None, most: int
) -> Features:
    """The `most` strongest features where the mask is true."""
    x0, y0, x1, y1 = 0, 0, gray.shape[1], gray.shape[0]
    allowed = None
    if mask is not None:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return _features([], None, 0, 0)
        # Features are searched in the part that counts, with what their descriptors reach.
        border = 24
        y0, y1 = max(int(rows[0]) - border, 0), int(rows[-1]) + border + 1
        x0, x1 = max(int(columns[0]) - border, 0), int(columns[-1]) + border + 1
        allowed = mask[y0:y1, x0:x1].astype(np.uint8) * 255
    sift = cv2.SIFT_create(nfeatures=most, contrastThreshold=_CONTRAST)  # pyright: ignore[reportAttributeAccessIssue]
    points, descriptors = sift.detectAndCompute(np.ascontiguousarray(gray[y0:y1, x0:x1]), allowed)
    return _features(points, descriptors, x0, y0)


def _features(points: Sequence[Any], descriptors: np.ndarray | None, x: int, y: int) -> Features:
    if descriptors is None or not len(points):
        return Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    # OpenCV counts pixels from the centre of the first one.
    xy = np.array([point.pt for point in points], np.float64) + np.array([x + 0.5, y + 0.5])
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6))
    return Features(xy, rooted.astype(np.float32))


def match(one: Features, other: Features) -> Int[np.ndarray, "M 2"]:
    """Indices of features that are each other's nearest, and clearly nearer than the second."""
    if len(one) < 2 or len(other) < 2:
        return np.zeros((0, 2), int)
    similar = one.descriptors @ other.descriptors.T
    rows = np.arange(len(one))
    best, back = similar.argmax(1), similar.argmax(0)
    top = similar[rows, best]
    similar[rows, best] = -1.0
    # Vectors of length 1 have the squared distance 2 - 2 x their product.
    distance, second = 1.0 - top, 1.0 - similar.max(1)
    kept = (back[best] == rows) & (distance < _RATIO**2 * second)
    return np.stack([rows[kept], best[kept]], 1)
