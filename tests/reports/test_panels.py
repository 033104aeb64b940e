"""Names, labels and colours of what is shown side by side."""

import cv2
import numpy as np
import pytest
import torch

from moegs_ns.experts.names import readable
from moegs_ns.mixture.mixture import EXPERT_COLORS
from moegs_ns.reports.panels import (
    ERROR,
    GATES,
    Painter,
    Panel,
    choose_panels,
    panels_of,
    side_by_side,
)

COLOR_VISION = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip
"""What linear colours look like (Machado, Oliveira and Fernandes 2009, severity 1)."""
MIXTURE = panels_of(("stg", "ex4dgs_2"), is_mixture=True)


@pytest.mark.parametrize(
    ("name", "output", "label"),
    [
        ("mixture", "rgb", "mixture"),
        ("rgb", "rgb", "mixture"),
        ("STG", "rgb_stg", "STG"),
        ("rgb_stg", "rgb_stg", "STG"),
        ("Ex4DGS-2", "rgb_ex4dgs_2", "Ex4DGS 2"),
        ("gates", "gates", "gates"),
        ("gate_stg", "gate_stg", "gate of STG"),
        ("argmax-gate", "argmax_gate", "largest gate"),
        ("accumulation", "accumulation", "opacity"),
    ],
)
def test_names_are_read_as_people_write_them(name: str, output: str, label: str):
    assert choose_panels([name], MIXTURE) == [Panel(output, label)]


def test_a_wrong_name_ends_in_the_right_ones():
    names = "mixture, stg, ex4dgs_2, gates, argmax_gate, gate_stg, gate_ex4dgs_2, depth, opacity"
    with pytest.raises(ValueError, match=rf"expects names among {names}, got 'ed3dgs'"):
        choose_panels(["depth", "ed3dgs"], MIXTURE)
    with pytest.raises(ValueError, match=r"got none; there are stg, depth, opacity"):
        choose_panels([], panels_of(("stg",), is_mixture=False))


def test_families_from_elsewhere_keep_their_names():
    assert (readable("drift_2"), readable("stg_lite")) == ("drift 2", "STG lite")


def test_colours():
    gates = torch.zeros(2, 4, 6, 1)
    gates[0, :, :3], gates[1, :, 3:] = 1.0, 1.0
    depth = torch.full((4, 6, 1), 2.0)
    depth[0], depth[1] = 0.0, 4.0
    rgb = torch.full((4, 6, 3), 0.5)
    outputs = {"gate_a": gates[0], "gate_b": gates[1], "depth": depth, "rgb": rgb}
    painter = Painter(("a", "b"), (2.0, 4.0))
    shown = painter.paint(Panel(GATES, ""), outputs, None) / 255.0
    np.testing.assert_allclose(shown[0, 0], EXPERT_COLORS[0], atol=0.003)
    np.testing.assert_allclose(shown[0, 5], EXPERT_COLORS[1], atol=0.003)
    assert [name for name, _ in painter.key(Panel(GATES, ""))] == ["a", "b"]
    nothing, far, near, _ = painter.paint(Panel("depth", ""), outputs, None)[:, 0].tolist()
    assert nothing == far != near, "nothing is drawn as far away"
    same = painter.paint(Panel(ERROR, ""), outputs, rgb)
    other = painter.paint(Panel(ERROR, ""), outputs, rgb + 0.2)
    assert same.mean() < 5 and other.mean() > 60


@pytest.mark.parametrize("kind", COLOR_VISION)
def test_colours_of_experts_are_told_apart_with_any_colour_vision(kind: str):
    """Seven of the eight; a distance of about 2 in CIELAB is just seen."""
    srgb = np.array(EXPERT_COLORS[:7])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.array(COLOR_VISION[kind]).T).clip(0.0, 1.0).astype(np.float32)
    lab = cv2.cvtColor(seen[None], cv2.COLOR_LRGB2LAB)[0]
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
    assert distances[~np.eye(7, dtype=bool)].min() > 15.0


def test_labels_stand_above_their_pictures():
    pictures = [np.full((50, 80, 3), value, np.uint8) for value in (90, 180)]
    whole = side_by_side(pictures, ["one", "a very long label that does not fit"], [[], []])
    strip = whole[:-50]
    np.testing.assert_array_equal(whole[-50:], np.concatenate(pictures, axis=1))
    assert strip.shape[1] == 160 and strip[:, :80].max() > 200 and strip[:, 40:80].max() < 60
