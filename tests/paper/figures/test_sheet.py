"""What a sheet of comparisons shows, read back from the picture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_figures import made_shown
from PIL import Image

from moegs_ns.mixture.mixture import EXPERT_COLORS
from moegs_ns.paper.figures.sheet import Block, best_of, block_rows, comparison_sheet
from moegs_ns.paper.figures.shown import Box
from moegs_ns.reports.pictures import save_picture

CROP = Box(10, 4, 10, 12)
GREYS = (0.2, 0.4, 0.6, 0.8)
"""Of the truth and three models."""
DPI = 100


def block(*, has_gates: bool) -> Block:
    """Three flat models; in the crop the second is exact, and all have another colour."""
    truth = torch.full((40, 48, 3), GREYS[0])
    images = torch.stack([torch.full((40, 48, 3), grey) for grey in GREYS[1:]])
    images[(1, *CROP.pixels)] = truth[CROP.pixels] + 0.01
    shown = made_shown(images, truth, names=("one", "two", "MoE-GS"), frame=3)
    gates = torch.stack([torch.full((40, 48), value) for value in (0.25, 0.75)])
    return Block("a title", replace(shown, gates=gates), [CROP], slice(0, 2), has_gates)


def test_panels_are_the_images_that_they_claim_to_be(tmp_path: Path):
    """Read from the middle of every panel of the picture, and of the arrays behind it."""
    made = block(has_gates=True)
    sheet = comparison_sheet("title", [made], "note")
    path = tmp_path / "sheet.png"
    save_picture(sheet, path, DPI)
    picture = np.asarray(Image.open(path).convert("RGB")) / 255.0
    panels: list[Any] = [axes for axes in sheet.subfigs[0].axes if axes.images]
    rows = sorted({round(axes.get_position().y0, 3) for axes in panels}, reverse=True)
    assert len(rows) == 3, "images, gates, crops"
    by_row = [[a for a in panels if round(a.get_position().y0, 3) == y] for y in rows]
    expected = [[0.2, 0.4, 0.6, 0.8], None, [0.2, 0.4, 0.21, 0.8]]
    for line, values in zip(by_row, expected, strict=True):
        line.sort(key=lambda axes: axes.get_position().x0)
        for axes, value in zip(line, values or [], strict=False):
            box = axes.get_window_extent()
            x, y = (box.x0 + box.x1) / 2, len(picture) - (box.y0 + box.y1) / 2
            np.testing.assert_allclose(picture[int(y), int(x)], value, atol=0.003)
    whole, gates, crops = by_row
    np.testing.assert_array_equal(whole[2].images[0].get_array(), made.shown.images[1].numpy())
    crop = made.shown.images[1][CROP.pixels].numpy()
    np.testing.assert_array_equal(crops[2].images[0].get_array(), crop)
    # Two gates, and the largest in its expert's colour.
    for axes, value in zip(gates, (0.25, 0.75), strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), np.full((40, 48), value))
    np.testing.assert_allclose(gates[2].images[0].get_array()[5, 5], EXPERT_COLORS[1], atol=1e-6)


def test_texts_tell_what_is_shown_and_the_best_of_a_crop_stands_out():
    made = block(has_gates=False)
    sheet = comparison_sheet("the title", [made, made], "the note")
    axes: list[Any] = list(sheet.subfigs[1].axes)
    assert axes[2].get_title() == f"two\n{made.shown.psnr()[1]:.2f} dB"
    patches = {a.texts[0].get_text(): a.texts[0].get_bbox_patch() for a in axes if a.texts}
    dark = [text for text, patch in patches.items() if patch.get_facecolor()[:3] == (0, 0, 0)]
    assert dark == ["40.00 dB"] and "crop 1" in patches and len(patches) == 4
    corners = [patch.get_xy() for patch in axes[1].patches]
    assert corners == [(3.5, 9.5)] * 2, "the crop is marked in the whole image"


def test_numbers_beside_the_picture_are_those_in_it():
    made = block(has_gates=True)
    rows = block_rows(made)
    assert [row["region"] for row in rows] == ["image"] * 3 + ["crop 1"] * 3
    assert {(row["scene"], row["camera"], row["frame"]) for row in rows} == {("made", 7, 3)}
    crop = rows[4]
    assert (crop["panel"], crop["top"], crop["left"], crop["height"], crop["width"]) == (
        "two", 10, 4, 10, 12,
    )  # fmt: skip
    np.testing.assert_allclose(crop["psnr"], 40.0, atol=1e-3)
    assert [row["is_best"] for row in rows] == [True, False, False, False, True, False]
    assert [row.get("mean_gate") for row in rows] == [0.25, 0.75, None, None, None, None]


def test_a_panel_without_pixels_or_without_error_says_so():
    made = block(has_gates=False)
    nothing = replace(made.shown, is_counted=torch.zeros(40, 48, dtype=torch.bool))
    reasons = {row["reason"] for row in block_rows(replace(made, shown=nothing))}
    assert reasons == {"psnr: no pixel counts"}
    exact = replace(made.shown, images=made.shown.truth.expand(3, -1, -1, -1))
    reasons = {row["reason"] for row in block_rows(replace(made, shown=exact))}
    assert reasons == {"psnr: there is no error"}


def test_the_mixture_is_no_rival():
    assert best_of([20.0, 21.0, 30.0], slice(0, 2)) == 1
