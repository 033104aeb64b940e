"""Which way is up in written files: turned sets look the same from a turned camera."""

from dataclasses import replace

import pytest
import torch
from gsplat.utils import normalized_quat_to_rotmat
from tolerances import FORWARD
from toys import make_gaussians, make_view

from moegs_ns.cameras import View
from moegs_ns.reports.orientation import PLY_UP, turn_between, turned, up_direction
from moegs_ns.splatting import render

UPRIGHT = torch.eye(4)[:3]
"""A camera at the origin whose y points up, as nerfstudio has cameras."""


def seen_turned(view: View, turn: torch.Tensor) -> View:
    """The same camera for a world that was turned about its origin."""
    world = torch.eye(4)
    world[:3, :3] = normalized_quat_to_rotmat(turn).T
    return replace(view, viewmats=view.viewmats @ world)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("up", [(0.6, 0.0, 0.8), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0)])
def test_a_turned_set_looks_the_same_from_a_turned_camera(generator, degree: int, up):
    gaussians, view = make_gaussians(generator, degree=degree), make_view()
    turn = turn_between(torch.tensor(up), torch.tensor(PLY_UP))
    before = render(gaussians, view).rgb
    after = render(turned(gaussians, turn), seen_turned(view, turn)).rgb
    assert before.std() > 0.02
    torch.testing.assert_close(after, before, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(
    "up", [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.6, 0.0, -0.8)]
)
def test_what_was_up_points_where_the_file_expects_it(up):
    source, target = torch.tensor(up), torch.tensor(PLY_UP)
    rotation = normalized_quat_to_rotmat(turn_between(source, target))
    FORWARD.assert_close(rotation @ source, target)


def test_up_is_the_mean_of_the_cameras_or_a_named_axis():
    leaning = torch.tensor([[1.0, 0, 0, 0], [0, 0.8, -0.6, 0], [0, 0.6, 0.8, 0]])
    back = torch.tensor([[1.0, 0, 0, 0], [0, 0.8, 0.6, 0], [0, -0.6, 0.8, 0]])
    direction, words = up_direction("cameras", torch.stack([leaning, back]))
    FORWARD.assert_close(direction, torch.tensor([0.0, 1.0, 0.0]))
    assert words == "up is (0.00, 1.00, 0.00), the mean of the cameras'"
    direction, words = up_direction("minus-z", UPRIGHT[None])
    FORWARD.assert_close(direction, torch.tensor([0.0, 0.0, -1.0]))
    assert words == "up is minus-z"
    assert up_direction("as-is", UPRIGHT[None])[0] is None


def test_cameras_that_are_turned_against_each_other_have_no_up():
    opposite = UPRIGHT * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="name an axis of the world instead, as in --up z"):
        up_direction("cameras", torch.stack([UPRIGHT, opposite]))
