"""SIFT features of an image, and matches between two images."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

_CONTRAST = 0.02
"""Smallest contrast of a feature; OpenCV's own 0.04 finds less on smooth walls."""
_RATIO = 0.8
"""Largest distance to the best match, as a fraction of that to the second best (Lowe 2004)."""


@dataclass(frozen=True, eq=False)
class Features:
    """N features of one image."""

    xy: Float[np.ndarray, "N 2"]
    """Pixels; the centre of the first one is (0.5, 0.5)."""
    descriptors: UInt8[np.ndarray, "N 128"]


def extract_features(
    image: UInt8[np.ndarray, "H W 3"], max_features: int, scale: tuple[float, float] = (1.0, 1.0)
) -> Features:
    """The strongest features of an image; `scale` multiplies their x and y, where the image is a
    resized one."""
    # Without precise upscaling, all features lie a quarter of a pixel too far right and down.
    sift = cv2.SIFT.create(
        nfeatures=max_features, contrastThreshold=_CONTRAST, enable_precise_upscale=True
    )
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found, descriptors = sift.detectAndCompute(gray, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if descriptors is None:
        return Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
    # OpenCV counts from the centre of the first pixel.
    xy = (np.array([point.pt for point in found]) + 0.5) * scale
    # A spot with two orientations is found twice; more than asked for may be found.
    order = np.argsort([-point.response for point in found], kind="stable")[:max_features]
    return Features(xy[order].astype(np.float32), descriptors[order].astype(np.uint8))


def match_features(one: Features, two: Features) -> Int[np.ndarray, "M 2"]:
    """Indices of features that are each other's best match, and clearly better than the second
    best."""
    if min(len(one.xy), len(two.xy)) < 2:
        return np.empty((0, 2), np.int64)
    similarity = _rooted(one) @ _rooted(two).T
    rows = np.arange(len(one.xy))
    forth, back = similarity.argmax(1), similarity.argmax(0)
    best = similarity[rows, forth]
    similarity[rows, forth] = -1.0
    second = similarity.max(1)
    # Squared distances of unit vectors.
    is_clear = 1.0 - best < _RATIO**2 * (1.0 - second)
    rows = rows[is_clear & (back[forth] == rows)]
    return np.stack([rows, forth[rows]], axis=1)


def _rooted(features: Features) -> Float[np.ndarray, "N 128"]:
    """Square roots of histograms that sum to 1, whose products tell alike ones better than those of
    the histograms (Arandjelović and Zisserman 2012)."""
    histograms = features.descriptors.astype(np.float32)
    return np.sqrt(histograms / np.maximum(histograms.sum(1, keepdims=True), 1e-6))
