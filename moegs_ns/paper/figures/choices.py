"""Which image and which parts of it a figure shows: where models differ most, by rule."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from moegs_ns.evaluation.baselines import oracle_errors
from moegs_ns.evaluation.image_metrics import decibels
from moegs_ns.mixture.mixture import blurred
from moegs_ns.paper.figures.shown import Box, SceneImages, Shown
from moegs_ns.progress import track
from moegs_ns.reports.held_out import evenly_spaced

LOOKED_AT = 60
"""Held-out images, evenly spaced, among which a figure chooses."""
CROP = 0.25
"""Width and height of a crop as fractions of the image's."""
APART = 1 / 8
"""Images of one camera that are chosen are apart by this fraction of its frames."""
REGION = 0.03
"""Errors are blurred by this fraction of the image's height before the best of a region is told."""


def spread_of(
    errors: Float[Tensor, "M H W"], is_moving: Bool[Tensor, "H W"]
) -> Float[Tensor, "H W"]:
    """How far the models' errors lie apart, at pixels that move; anywhere if nothing moves."""
    spread = errors.amax(0) - errors.amin(0)
    return torch.where(is_moving, spread, 0.0) if bool(is_moving.any()) else spread


def choose_boxes(spread: Float[Tensor, "H W"], count: int) -> list[tuple[Box, float]]:
    """The boxes of a crop's size with the largest mean of a map, without overlap, and that mean;
    fewer where there is nothing more."""
    height, width = (max(1, round(CROP * size)) for size in spread.shape)
    means = avg_pool2d(spread[None], (height, width), stride=1)[0]
    boxes = []
    while len(boxes) < count and float(means.max()) > 0.0:
        top, left = divmod(int(means.argmax()), means.shape[1])
        boxes.append((Box(top, left, height, width), float(means[top, left])))
        above, before = max(0, top - height + 1), max(0, left - width + 1)
        means[above : top + height, before : left + width] = 0.0
    return boxes


def boxes_of(shown: Shown, rivals: slice, count: int) -> list[Box]:
    """The crops of an image in which some of its models differ most."""
    found = choose_boxes(spread_of(shown.errors[rivals], shown.is_moving), count)
    return [box for box, _ in found]


def most_different(images: SceneImages, rivals: slice, rank: int = 0) -> Shown:
    """The image with the crop in which some of its models differ most; by `rank` one of the next
    best, which are by other cameras or some frames apart.

    Raises:
        ValueError: fewer images differ.
    """
    found = []
    for index in track(evenly_spaced(len(images), LOOKED_AT), "Looking for differences"):
        shown = images.shown(index)
        best = choose_boxes(spread_of(shown.errors[rivals], shown.is_moving), 1)
        found += [(value, index) for _, value in best]
    cameras, frames = images.cameras, images.frames
    gap = APART * (max(frames) - min(frames) + 1)
    chosen: list[int] = []
    for _, index in sorted(found, key=lambda pair: (-pair[0], pair[1])):
        if all(
            cameras[index] != cameras[other] or abs(frames[index] - frames[other]) >= gap
            for other in chosen
        ):
            chosen.append(index)
        if len(chosen) > rank:
            return images.shown(index)
    raise ValueError(
        f"Expected {rank + 1} held-out images of scene {images.scene} in which the models differ, "
        f"apart by an eighth of the clip, but there are {len(chosen)}; hold out more cameras or "
        "frames."
    )


def best_region(errors: Float[Tensor, "E H W"]) -> Float[Tensor, "E H W"]:
    """The experts' mean squared errors around each pixel, which tell the best of a region."""
    return blurred(errors / 3.0, REGION * errors.shape[1])


def region_gain(errors: Float[Tensor, "E H W"], is_counted: Bool[Tensor, "H W"]) -> float:
    """Gain in dB of the best expert of every region over the best of the whole image; 0 where no
    pixel counts."""
    if not bool(is_counted.any()):
        return 0.0
    by_region = oracle_errors(errors, REGION * errors.shape[1])[is_counted].mean()
    best = errors[:, is_counted].mean(1).min()
    # Without any error there is nothing to gain.
    return float(decibels(by_region) - decibels(best)) if float(by_region) > 0.0 else 0.0


def best_per_frame(scores: Float[Tensor, "E F"]) -> Int[Tensor, "F"]:
    """The expert with the largest PSNR of each frame; the first of equals."""
    return scores.argmax(0)


def frame_gain(scores: Float[Tensor, "E F"]) -> float:
    """Gain in dB, a mean over frames, of the best expert of every frame over the best of all."""
    return float(scores.amax(0).mean() - scores.mean(1).max())
