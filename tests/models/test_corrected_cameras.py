"""Whose corrections are whose: rows of cameras, wherever they are opened."""

from typing import Any
from unittest.mock import Mock

import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from toys import make_view

from moegs_ns.mixture.mixture import ExpertsAlone, MixtureRender
from moegs_ns.models.camera_corrections import CameraCorrections, ExpertCorrections, Learned
from moegs_ns.scene import SceneInfo
from moegs_ns.splatting import ExpertRenderOutputs

ON, OFF = CameraOptimizerConfig(mode="SO3xR3"), CameraOptimizerConfig()
POSES, EXTENT = "corrections.poses.pose_adjustment", "corrections.extent"


def scene(*, camera_ids: tuple[int, ...] = (0, 1, 2), extent: float = 2.0) -> SceneInfo:
    return SceneInfo(5, 30.0, (0.0, 0.0, 0.0), extent, None, camera_ids)


def stored(color: torch.Tensor, camera_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Corrections in the state of an expert's run."""
    return {"corrections.color": color, "corrections.camera_ids": camera_ids}


def test_each_row_is_put_at_its_camera():
    """A router's cameras, of which the expert has not seen one, and sees one no more."""
    learned: Any = ExpertCorrections([Learned(ON, True)], scene(camera_ids=(0, 1, 2)))
    color, pose = torch.randn(3, 3, 4), torch.randn(3, 6)
    ids = torch.tensor([0, 2, 7])
    learned.load(0, [{**stored(color, ids), POSES: pose}], "A")
    view, image = make_view(3), torch.rand(1, 4, 4, 3)
    alone: Any = CameraCorrections(ON, True, scene(camera_ids=(0, 2, 7)))
    alone.color.data.copy_(color)
    alone.poses.pose_adjustment.data.copy_(pose)
    for camera in (0, 2):
        own = view.select(torch.tensor([camera]))
        seen = learned.experts[0].correct_colors(image, own)
        torch.testing.assert_close(seen, alone.correct_colors(image, own))
        (moved,) = learned.views(own)
        torch.testing.assert_close(moved.viewmats, alone.correct_poses(own).viewmats)
    unseen = view.select(torch.tensor([1]))
    assert learned.views(unseen)[0] is unseen
    gates, images, rest = torch.rand(1, 4, 4, 1), torch.rand(1, 4, 4, 3), torch.rand(4, 4, 1)
    rendered = Mock(spec=ExpertRenderOutputs)
    render = MixtureRender(images[0], gates, rest, rest, lambda: ExpertsAlone(images, rendered))
    assert learned.recolored(render, unseen) is render.rgb
    assert torch.equal(learned.recorded(images, unseen), images)
    known = view.select(torch.tensor([2]))
    torch.testing.assert_close(
        learned.recorded(images, known), learned.experts[0].correct_colors(images, known)
    )


def test_windows_of_different_cameras_have_a_mean_where_they_meet():
    colors: Any = ExpertCorrections([Learned(OFF, True)], scene(camera_ids=(0, 1, 2)))
    first, second = torch.randn(2, 2, 3, 4)
    states = [stored(first, torch.tensor([0, 1])), stored(second, torch.tensor([1, 2]))]
    colors.load(0, states, "A+B")
    first, second = first - first.mean(0), second - second.mean(0)
    expected = torch.stack([first[0], first[1] + second[0], second[1]]) / 2
    torch.testing.assert_close(colors.experts[0].color, expected)


def test_the_unit_of_translations_is_that_of_the_expert():
    learned: Any = ExpertCorrections([Learned(ON, False)], scene(extent=2.0))
    learned.load(0, [{POSES: torch.ones(3, 6), EXTENT: torch.tensor(5.0)}], "A")
    again: Any = ExpertCorrections([Learned(ON, False)], scene(extent=3.0, camera_ids=(1, 2)))
    again.load_state_dict(learned.state_dict())
    assert float(learned.experts[0].extent) == float(again.experts[0].extent) == 5.0
    assert again.experts[0].camera_ids.tolist() == [0, 1, 2]


def test_states_of_0_2_are_of_the_cameras_that_open_them():
    opened: Any = CameraCorrections(OFF, True, scene(camera_ids=(3, 7, 9)))
    color = torch.randn(3, 3, 4)
    opened.load_state_dict({"color": color})
    assert torch.equal(opened.color, color) and opened.camera_ids.tolist() == [3, 7, 9]
    with pytest.raises(RuntimeError, match="size mismatch"):
        opened.load_state_dict({"color": torch.zeros(4, 3, 4)})
