"""Which frame, image and crop a figure shows, on errors that are made up."""

import math
from dataclasses import replace

import pytest
import torch
from made_figures import MadeImages, made_shown

from moegs_ns.paper.figures.choices import (
    best_per_frame,
    boxes_of,
    choose_boxes,
    frame_gain,
    most_different,
    region_gain,
    spread_of,
)
from moegs_ns.paper.figures.limits import scores_of, winners, winners_map
from moegs_ns.paper.figures.motion import weighted_quantile
from moegs_ns.paper.figures.shown import Box, Shown

BOTH = slice(0, 2)
FIRST, SECOND = Box(5, 30, 10, 12), Box(25, 2, 10, 12)


def errors_at(boxes: dict[Box, float], frame: int = 0) -> Shown:
    """Two models, 40 x 48 pixels: the first is exact, the second off by so much in each box."""
    images = torch.full((2, 40, 48, 3), 0.2)
    for box, error in boxes.items():
        images[(1, *box.pixels)] += error
    return made_shown(images, torch.full((40, 48, 3), 0.2), frame=frame)


def test_crops_are_where_the_errors_differ_most():
    """A crop is a quarter of the image along each edge, 10 x 12 pixels: the boxes themselves."""
    shown = errors_at({FIRST: 0.1, SECOND: 0.4})
    assert boxes_of(shown, BOTH, 2) == [SECOND, FIRST]
    assert boxes_of(shown, BOTH, 1) == [SECOND]


def test_an_error_that_all_share_is_no_difference():
    shown = errors_at({FIRST: 0.1})
    shared = shown.images.clone()
    shared[(slice(None), *SECOND.pixels)] += 0.5
    assert boxes_of(replace(shown, images=shared), BOTH, 1) == [FIRST]


def test_only_differences_of_what_moves_count():
    shown = errors_at({FIRST: 0.1, SECOND: 0.4})
    is_moving = torch.zeros(40, 48, dtype=torch.bool)
    is_moving[FIRST.pixels] = True
    assert boxes_of(replace(shown, is_moving=is_moving), BOTH, 2) == [FIRST]
    still = replace(shown, is_moving=torch.zeros_like(is_moving))
    assert boxes_of(still, BOTH, 1) == [SECOND], "where nothing moves, all counts"


def test_crops_do_not_overlap_and_there_are_no_more_than_differences():
    spread = torch.zeros(40, 48)
    spread[8:32, 10:40] = 1.0
    found = [box for box, _ in choose_boxes(spread, 4)]
    covered = torch.zeros(40, 48)
    for box in found:
        covered[box.pixels] += 1.0
    assert len(found) == 4 and float(covered.max()) == 1.0
    assert choose_boxes(torch.zeros(40, 48), 2) == []


def test_only_rivals_are_compared():
    images = torch.full((3, 40, 48, 3), 0.2)
    images[(1, *FIRST.pixels)] += 0.1
    images[(2, *SECOND.pixels)] += 0.6
    shown = made_shown(images, torch.full((40, 48, 3), 0.2))
    assert boxes_of(shown, BOTH, 2) == [FIRST]
    assert float(spread_of(shown.errors, shown.is_moving)[SECOND.pixels].min()) > 0.3


def test_images_are_those_that_differ_most_and_lie_apart():
    """Of 16 frames those two apart may both be shown; frame 9 is next to the best, 8."""
    sizes = {8: 0.5, 9: 0.4, 2: 0.3, 14: 0.2}
    images = MadeImages(
        [errors_at({FIRST: sizes[n]} if n in sizes else {}, frame=n) for n in range(16)]
    )
    assert [most_different(images, BOTH, rank).frame for rank in range(3)] == [8, 2, 14]
    with pytest.raises(ValueError, match=r"Expected 4 held-out images of scene made.* there are 3"):
        most_different(images, BOTH, 3)


def test_the_best_expert_of_each_frame():
    scores = torch.tensor([[30.0, 20.0, 25.0, 22.0], [29.0, 24.0, 25.0, 23.0]])
    assert best_per_frame(scores).tolist() == [0, 1, 0, 1]
    assert frame_gain(scores) == pytest.approx((30 + 24 + 25 + 23) / 4 - (29 + 24 + 25 + 23) / 4)
    assert frame_gain(scores[:1]) == 0.0


def test_the_best_expert_of_each_region():
    """Each expert is off in its own half: choosing by region leaves the errors near the border."""
    images = torch.full((2, 64, 80, 3), 0.2)
    images[0, :, :40] += 0.2
    images[1, :, 40:] += 0.3
    shown = made_shown(images, torch.full((64, 80, 3), 0.2))
    best = winners(shown)
    assert float(best[1, :, :36].min()) == 1.0 and float(best[0, :, 44:].min()) == 1.0
    colors = winners_map(shown)
    assert float((colors[:, :30] - colors[:1, :1]).abs().max()) < 1e-6
    assert float((colors[0, 0] - colors[0, -1]).abs().max()) > 0.3
    gain = region_gain(shown.errors, shown.is_counted)
    assert gain > 10.0
    none = torch.zeros_like(shown.is_counted)
    assert region_gain(shown.errors, none) == 0.0
    assert region_gain(torch.zeros(2, 64, 80), shown.is_counted) == 0.0


def test_regions_of_equal_experts_are_pale():
    images = torch.full((2, 64, 80, 3), 0.3)
    shown = made_shown(images, torch.full((64, 80, 3), 0.2))
    images[1, :, 40:] += 0.4
    colors = winners_map(replace(shown, images=images))
    spread = colors.amax(-1) - colors.amin(-1)
    assert float(spread[:, :20].max()) < 0.1
    assert float(spread[:, 60:].min()) > 0.4


def test_scores_of_a_scene_are_those_of_its_images():
    """Errors of 0.1 and 0.2 over a whole image are 20 and 13.98 dB."""
    truth = torch.zeros(20, 24, 3)
    images = [torch.full((2, 20, 24, 3), 51 / 255) for _ in range(2)]
    images[0][0], images[1][1] = 102 / 255, 102 / 255
    made = [made_shown(each, truth, frame=9 - n) for n, each in enumerate(images)]
    scores = scores_of(MadeImages(made))
    assert (scores.frames, scores.cameras, scores.names) == ((9, 8), (7, 7), ("a", "b"))
    low, high = -20 * math.log10(0.4), -20 * math.log10(0.2)
    torch.testing.assert_close(scores.psnr, torch.tensor([[low, high], [high, low]]))
    frames, over_time = scores.over_time(7)
    assert frames == [8, 9] and best_per_frame(over_time).tolist() == [0, 1]


def test_masks_that_leave_nothing_end_in_a_sentence():
    shown = made_shown(torch.zeros(2, 20, 24, 3), torch.zeros(20, 24, 3))
    nothing = replace(shown, is_counted=torch.zeros(20, 24, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"of scene made with pixels that count.*check the masks"):
        scores_of(MadeImages([nothing]))


def test_quantiles_are_by_weight():
    values = torch.tensor([[0.0, 5.0], [1.0, 4.0], [2.0, 3.0], [50.0, 0.0]])
    weights = torch.tensor([1.0, 1.0, 1.0, 97.0])
    assert weighted_quantile(values, weights, 0.5).tolist() == [50.0, 0.0]
    assert weighted_quantile(values, torch.ones(4), 0.5).tolist() == [1.0, 3.0]
