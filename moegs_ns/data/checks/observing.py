"""One look at every frame of a camera: what it records, and its features at some instants."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from moegs_ns.data.features import Features, find_features
from moegs_ns.data.frames.decoding import FrameGroup, decode_group
from moegs_ns.data.robust import NORMAL

_SMALL = 160
"""Longer side, in pixels, of the images whose brightness and changes are measured; noise is gone at
this size."""
_COMPRESSION = 3.0
"""Grey levels of these by which compression alone changes what stands still, as where an encoder
begins anew with a whole picture."""
_MOST_FEATURES, _MOST_MOVING = 2500, 1000
_DARK = 16.0
"""A frame is black if 99 % of its pixels are below: the black of video levels."""
_LEAST_STILL = 0.1
"""Fraction of all features that must stand still for the others to be left out."""
_MOVING_DEVIATIONS = 6.0
"""Deviations of the noise, at least, by which moving pixels differ from the usual image."""
_LEAST_CHANGE = 6.0
"""Grey levels by which they differ at least, whatever the noise."""


@dataclass(frozen=True)
class Plan:
    """Which frames, by their place in the clip, are looked at for features."""

    still: tuple[int, ...]
    """Frames whose features that stand still are compared with those of the same frame."""
    instants: tuple[int, ...]
    """Frames whose moving features are compared with those of frames before and after."""
    reach: int
    """Frames before and after each of these."""

    def window(self, instant: int) -> range:
        """The frames that are compared with one instant."""
        return range(instant - self.reach, instant + self.reach + 1)


@dataclass(frozen=True, eq=False)
class Observed:
    """What one camera shows in its F frames."""

    is_black: Bool[np.ndarray, "F"]
    sharpness: Float[np.ndarray, "F"]
    """Variance of the Laplacian over the variance of the image."""
    gain: Float[np.ndarray, "F"]
    """Median, over pixels, of the logarithm of the brightness over that of the frame before; 0 for
    the first frame. What moves does not change it."""
    change: Float[np.ndarray, "F"]
    """Mean absolute difference from the frame before, as if exposed alike, of what compression
    alone does not change so; NaN for the first."""
    change_of_two: Float[np.ndarray, "F"]
    """The same from the frame before that; NaN for the first two."""
    still: dict[int, Features]
    """By frame, of what stands still, as far as there is enough: a camera that is late has no other
    place."""
    moving: dict[int, Features]
    """By frame, of what moves."""
    shown: UInt8[np.ndarray, "h w 3"]
    """A frame from the middle of the clip."""


def plan_frames(num_frames: int, num_instants: int, reach: int) -> Plan:
    """Instants that are spread evenly, where `reach` frames before and after exist."""
    reach = min(reach, (num_frames - 1) // 3)
    count = min(num_instants, max(num_frames - 2 * reach, 1))
    places = np.linspace(reach, num_frames - 1 - reach, count).round().astype(int)
    instants = tuple(dict.fromkeys(places.tolist()))
    still = instants[:: max(len(instants) // 3, 1)]
    return Plan(still, instants if reach else (), reach)


def observe(group: FrameGroup, mask: Bool[np.ndarray, "H W"] | None, plan: Plan) -> Observed:
    """Decode the images of a camera, once.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: one is broken.
    """
    watch = _Watch(mask)
    wanted = {frame for instant in plan.instants for frame in plan.window(instant)}
    kept: dict[int, UInt8[np.ndarray, "H W"]] = {}
    still: dict[int, Features] = {}
    moving: dict[int, Features] = {}
    shown = None
    for frame, image in enumerate(decode_group(group, threads=1)):
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        watch.see(gray)
        if shown is None or frame == len(group.sources) // 2:
            shown = image
        if frame in plan.still:
            still[frame] = find_features(gray, _MOST_FEATURES, mask=_inside(mask))
        if frame in wanted:
            kept[frame] = gray
        # A window is complete: find what moves in it, and forget frames that none needs any more.
        for instant in plan.instants:
            if frame == plan.window(instant)[-1]:
                new = [each for each in plan.window(instant) if each not in moving]
                masks = moving_masks(kept, plan.window(instant))
                moving |= {each: moving_features(kept[each], masks[each], mask) for each in new}
                if instant in still:
                    still[instant] = _standing(still[instant], masks[instant])
        later = [plan.window(i)[0] for i in plan.instants if plan.window(i)[-1] > frame]
        kept = {old: seen for old, seen in kept.items() if later and old >= min(later)}
    assert shown is not None, group.path
    return Observed(*watch.signals(), still=still, moving=moving, shown=shown)


def moving_masks(
    grays: dict[int, UInt8[np.ndarray, "H W"]], window: Sequence[int]
) -> dict[int, Bool[np.ndarray, "H W"]]:
    """Where the image of each frame is not what it usually is in the window."""
    stack = np.stack([grays[frame] for frame in window])
    usual = np.median(stack[:: max(len(stack) // 7, 1)], axis=0).astype(np.float32)
    masks = {}
    for frame, gray in zip(window, stack, strict=True):
        difference = cv2.GaussianBlur(np.abs(gray.astype(np.float32) - usual), (0, 0), 1.5)
        noise = NORMAL * float(np.median(difference))
        is_moving = difference > max(_MOVING_DEVIATIONS * noise, _LEAST_CHANGE)
        masks[frame] = cv2.dilate(is_moving.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return masks


def moving_features(
    gray: UInt8[np.ndarray, "H W"],
    moving: Bool[np.ndarray, "H W"],
    mask: Bool[np.ndarray, "H W"] | None,
) -> Features:
    """Features where something moves and pixels count."""
    inside = _inside(mask)
    where = moving if inside is None else moving & inside
    return find_features(gray, _MOST_MOVING, mask=where)


def _standing(features: Features, moving: Bool[np.ndarray, "H W"]) -> Features:
    standing = features.where(~moving)
    return standing if len(standing) >= _LEAST_STILL * len(features) else features


def _inside(mask: Bool[np.ndarray, "H W"] | None) -> Bool[np.ndarray, "H W"] | None:
    """Without the border of the mask, which is no feature of the scene."""
    if mask is None:
        return None
    return cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0


class _Watch:
    """Brightness, sharpness and changes of the frames of one camera, as they pass."""

    def __init__(self, mask: Bool[np.ndarray, "H W"] | None) -> None:
        self._mask = mask
        self._recent: list[Float[np.ndarray, "h w"]] = []
        self._rows: list[tuple[bool, float, float, float, float]] = []

    def see(self, gray: UInt8[np.ndarray, "H W"]) -> None:
        """Take the next frame."""
        scale = _SMALL / max(gray.shape)
        size = (max(round(gray.shape[1] * scale), 2), max(round(gray.shape[0] * scale), 2))
        small = gray if scale >= 1.0 else cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        small = small.astype(np.float32)
        valid = np.ones(small.shape, bool)
        if self._mask is not None:
            own = cv2.resize(self._mask.astype(np.uint8), small.shape[::-1])
            valid = own > 0
        values = small[valid]
        is_black = bool(len(values) == 0 or np.percentile(values, 99) < _DARK)
        gain, changes = 0.0, [np.nan, np.nan]
        for back, before in enumerate(reversed(self._recent[-2:])):
            ratio = np.log((small[valid] + 1.0) / (before[valid] + 1.0))
            exposed = float(np.median(ratio)) if len(ratio) else 0.0
            difference = np.abs(small - before * np.exp(exposed))[valid]
            changes[back] = float(np.where(difference > _COMPRESSION, difference, 0.0).mean())
            gain = exposed if back == 0 else gain
        self._recent = [*self._recent[-1:], small]
        self._rows.append((is_black, self._sharpness(gray), gain, changes[0], changes[1]))

    def _sharpness(self, gray: UInt8[np.ndarray, "H W"]) -> float:
        laplacian, image = cv2.Laplacian(gray, cv2.CV_32F), gray.astype(np.float32)
        if self._mask is not None:
            inside = _inside(self._mask)
            laplacian, image = laplacian[inside], image[inside]
        return float(laplacian.var() / (image.var() + 1.0)) if image.size else 0.0

    def signals(self) -> tuple[np.ndarray, ...]:
        """The columns, as `Observed` lists them."""
        columns = zip(*self._rows, strict=True)
        return tuple(np.array(column) for column in columns)
