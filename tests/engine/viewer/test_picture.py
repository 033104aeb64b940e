"""The picture that the viewer shows."""

import pytest
import torch

from moegs_ns.engine.viewer.outputs import Output
from moegs_ns.engine.viewer.picture import (
    COLOR_MAPS,
    GATES,
    LINE,
    WINNERS,
    Look,
    colored,
    compose,
)
from moegs_ns.experts.names import readable
from moegs_ns.mixture.mixture import EXPERT_COLORS


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


PICTURES = {"left": Output(rand(4, 10, 3)), "right": Output(rand(4, 10, 3, seed=1))}
SHARES = torch.softmax(3.0 * rand(2, 4, 10, 1, seed=2), dim=0)


def picture(look: Look) -> torch.Tensor:
    return compose(look, lambda name: PICTURES[name], lambda: SHARES)


@pytest.mark.parametrize("position", [0.0, 0.3, 1.0])
def test_a_line_parts_two_outputs(position: float):
    shown = picture(Look("left", right="right", position=position))
    column = min(int(10 * position), 9)
    assert torch.equal(shown[:, :column], PICTURES["left"].values[:, :column])
    assert torch.equal(shown[:, column + 1 :], PICTURES["right"].values[:, column + 1 :])
    torch.testing.assert_close(shown[:, column], torch.tensor(LINE).expand(4, 3))


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_gates_lie_over_the_picture_with_a_strength(strength: float):
    shown = picture(Look("left", overlay=GATES, strength=strength))
    colors = sum(SHARES[k] * torch.tensor(EXPERT_COLORS[k]) for k in range(2))
    expected = (1 - strength) * PICTURES["left"].values + strength * colors
    torch.testing.assert_close(shown, expected)


def test_the_strongest_gate_has_the_colour_of_its_expert():
    shown = picture(Look("left", overlay=WINNERS, strength=1.0))
    for k in range(2):
        own = shown[(SHARES[..., 0].argmax(0) == k)]
        assert len(own) and torch.allclose(own, torch.tensor(EXPERT_COLORS[k]))


def test_nothing_is_computed_that_is_not_shown():
    asked = []

    def output(name: str) -> Output:
        asked.append(name)
        return PICTURES[name]

    def no_gates() -> torch.Tensor:
        raise AssertionError("the gates are not shown")

    compose(Look("right"), output, no_gates)
    assert asked == ["right"]
    compose(Look("left", overlay=GATES, strength=0.0), output, no_gates)


@pytest.mark.parametrize("colors", COLOR_MAPS)
def test_maps_keep_their_range_whatever_else_is_in_the_image(colors: str):
    half = colored(Output(torch.full((1, 2, 1), 0.5)), colors)[0, 0]
    among = colored(Output(torch.tensor([0.5, 0.9, -3.0, 7.0])[None, :, None]), colors)[0]
    torch.testing.assert_close(among[0], half)
    error = colored(Output(torch.full((1, 2, 1), 0.1), top=0.2), colors)[0, 0]
    torch.testing.assert_close(error, half)


def test_depth_is_stretched_over_what_is_hit():
    shown = colored(Output(torch.tensor([0.0, 4.0, 5.0, 6.0])[None, :, None], top=None), "gray")
    torch.testing.assert_close(shown[0, :, 0], torch.tensor([0.0, 0.0, 0.5, 1.0]))


def test_nothing_outside_of_colours_leaves_it():
    wild = torch.tensor([-2.0, 0.5, 1.11, torch.nan]).reshape(1, 4, 1)
    for values in (wild.expand(1, 4, 3), wild):
        shown = compose(Look("wild"), lambda _, v=values: Output(v), lambda: None)
        assert shown.min() >= 0.0 and shown.max() <= 1.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stg", "STG"),
        ("stg_lite", "STG lite"),
        ("ed3dgs_2", "E-D3DGS 2"),
        ("freetime", "FreeTimeGS"),
        ("tracked", "Dynamic3DGaussians"),
        ("mine", "mine"),
    ],
)
def test_names_are_those_of_the_papers(name: str, expected: str):
    assert readable(name) == expected
