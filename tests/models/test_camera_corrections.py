"""Corrections of training cameras: what they change, and that held-out views never see them."""

import shutil
from copy import deepcopy
from typing import Any, cast
from unittest.mock import Mock

import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from tiny import TinyRuns, train_tiny
from toys import make_gaussians, make_view

from moegs_ns.cameras import apply_pose_delta, one_frame_apart, view_from_cameras
from moegs_ns.cuda_graphs.graphed import WARMUP_CALLS
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.mixture.distill import DistillationConfig
from moegs_ns.mixture.mixture import ExpertsAlone, MixtureRender
from moegs_ns.models.camera_corrections import (
    UNCORRECTED,
    CameraCorrections,
    ExpertCorrections,
    Learned,
)
from moegs_ns.models.teacher import Teacher
from moegs_ns.runs.checkpoint import model_state, open_run
from moegs_ns.scene import SceneInfo
from moegs_ns.splatting import ExpertRenderOutputs, render

ON = CameraOptimizerConfig(mode="SO3xR3")
OFF = CameraOptimizerConfig()
OPTIONS = (
    "--pipeline.model.camera-optimizer.mode", "SO3xR3", "--pipeline.model.color-correction", "True",
)  # fmt: skip


def scene(extent: float = 2.0, camera_ids: tuple[int, ...] = (0, 1, 2)) -> SceneInfo:
    return SceneInfo(5, 30.0, (0.0, 0.0, 0.0), extent, None, camera_ids)


class TestMovedViews:
    def test_cameras_turn_about_their_own_centres(self):
        view = make_view(2)
        turn = torch.linalg.matrix_exp(
            torch.tensor([[0.0, 0.1, 0.0], [-0.1, 0, 0.2], [0, -0.2, 0]])
        )
        turned = apply_pose_delta(view, turn.expand(2, 3, 3), torch.zeros(2, 3))
        torch.testing.assert_close(turned.positions, view.positions)
        before, after = view.viewmats[:, :3, :3].mT, turned.viewmats[:, :3, :3].mT
        torch.testing.assert_close(after, turn @ before)

    def test_shifts_are_counted_in_the_world(self):
        view, shift = make_view(2), torch.tensor([[1.0, 0, 0], [0, 2.0, 0]])
        shifted = apply_pose_delta(view, torch.eye(3).expand(2, 3, 3), shift)
        torch.testing.assert_close(shifted.positions, view.positions + shift)

    def test_images_have_gradients_with_respect_to_poses(self):
        """Compared with finite differences of the picture's mean."""
        generator = torch.Generator().manual_seed(0)
        gaussians = make_gaussians(generator, 64)
        corrections: Any = CameraCorrections(ON, False, scene())

        def brightness() -> torch.Tensor:
            view = corrections.correct_poses(make_view(1))
            return render(gaussians, view).rgb.mean()

        adjustment = corrections.poses.pose_adjustment
        brightness().backward()
        gradient = adjustment.grad[0].clone()
        assert gradient.abs().max() > 0
        for axis in (0, 4):
            values = []
            for sign in (1, -1):
                adjustment.data.zero_()
                adjustment.data[0, axis] = sign * 2e-3
                values.append(float(brightness().detach()))
            slope = (values[0] - values[1]) / 4e-3
            assert slope == pytest.approx(float(gradient[axis]), rel=0.1, abs=2e-3)


class TestCorrections:
    def test_switched_off_they_are_nothing(self):
        corrections: Any = CameraCorrections(OFF, False, scene())
        view, image = make_view(2), torch.rand(2, 4, 4, 3)
        assert corrections.correct_poses(view) is view
        assert corrections.correct_colors(image, view) is image
        assert not corrections.parameter_groups()
        assert not corrections.loss_terms()
        assert not corrections.state_dict()

    def test_one_physical_camera_has_one_correction_at_all_times(self):
        corrections: Any = CameraCorrections(ON, True, scene(camera_ids=(3, 7, 9)))
        corrections.color.data.normal_()
        assert corrections.poses.pose_adjustment.shape == (3, 6)
        view = make_view(3)
        view.camera_ids[:] = torch.tensor([9, 3, 9])
        assert corrections.rows(view).tolist() == [2, 0, 2]
        image = torch.rand(1, 4, 4, 3).expand(3, 4, 4, 3)
        seen = corrections.correct_colors(image, view)
        torch.testing.assert_close(seen[0], seen[2])
        assert not torch.allclose(seen[0], seen[1])

    def test_the_mean_of_all_cameras_keeps_its_colours(self):
        corrections: Any = CameraCorrections(OFF, True, scene())
        corrections.color.data.normal_()
        image = torch.rand(1, 4, 4, 3).expand(3, 4, 4, 3)
        seen = corrections.correct_colors(image, make_view(3))
        torch.testing.assert_close(seen.mean(0), image[0], atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
    def test_nothing_is_read_back_from_a_gpu(self, device):
        """Training steps would wait for it; tensors without values let nobody read them."""
        corrections: Any = CameraCorrections(OFF, True, scene()).to(device)
        view = make_view(3).to(device)
        image = torch.rand(3, 4, 4, 3, device=device)
        corrections.correct_colors(image, view)  # Cameras are looked up once.
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            seen = corrections.correct_colors(image, view)
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        assert seen.device.type == device and seen.shape == image.shape

    @pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
    @pytest.mark.parametrize("sizes", [(1,), (2, 1)])
    def test_all_images_of_a_step_are_corrected_at_once(self, device, sizes):
        """Equal to one after the other, forward and backward, with cameras that change."""
        corrections: Any = CameraCorrections(OFF, True, scene(camera_ids=(3, 7, 9))).to(device)
        for step in range(WARMUP_CALLS + 3):
            corrections.color.data.normal_()
            views = [make_view(size).to(device) for size in sizes]
            for view in views:
                view.camera_ids[:] = torch.tensor([9, 3, 7])[(torch.arange(len(view)) + step) % 3]
            images = [torch.rand(size, 4, 5, 3, device=device) for size in sizes]
            images = [image.requires_grad_() for image in images]
            together = corrections.correct_all_colors(images, views)
            alone = [
                corrections.correct_colors(image, view)
                for image, view in zip(images, views, strict=True)
            ]
            found = []
            for seen in (together, alone):
                corrections.zero_grad()
                loss = sum((k + 1) * image.square().sum() for k, image in enumerate(seen))
                loss.backward()
                gradients = [
                    cast(torch.Tensor, leaf.grad).clone() for leaf in (*images, corrections.color)
                ]
                found.append([*(image.detach().clone() for image in seen), *gradients])
                for image in images:
                    image.grad = None
            for one, other in zip(*found, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        is_recorded = corrections.graphed_colors.graph is not None
        assert is_recorded == (device == "cuda")

    def test_a_copy_has_its_own_colours(self):
        corrections: Any = CameraCorrections(OFF, True, scene())
        copied: Any = deepcopy(corrections)
        copied.color.data.normal_()
        image, view = torch.rand(1, 4, 4, 3), make_view(1)
        (seen,) = copied.correct_all_colors([image], [view])
        torch.testing.assert_close(seen, copied.correct_colors(image, view))
        (unchanged,) = corrections.correct_all_colors([image], [view])
        torch.testing.assert_close(unchanged, image)
        assert not torch.allclose(seen, image)

    def test_an_affine_change_of_one_camera_is_found(self):
        """Two cameras see the same picture, one of them too green."""
        corrections: Any = CameraCorrections(OFF, True, scene(camera_ids=(0, 1)))
        picture = torch.rand(1, 8, 8, 3)
        target = torch.cat(
            [picture * torch.tensor([1.0, 0.9, 1.0]), picture * torch.tensor([1, 1.1, 1])]
        )
        optimizer = torch.optim.Adam(corrections.parameters(), lr=0.01)
        seen = torch.full_like(target, torch.nan)
        for _ in range(300):
            optimizer.zero_grad()
            seen = corrections.correct_colors(picture.expand(2, 8, 8, 3), make_view(2))
            (seen - target).square().mean().backward()
            optimizer.step()
        assert (seen - target).abs().max() < 0.01

    def test_translations_are_counted_in_scene_extents(self):
        moves = []
        for extent in (1.0, 10.0):
            corrections: Any = CameraCorrections(ON, False, scene(extent))
            corrections.poses.pose_adjustment.data[0, 0] = 0.01
            view = make_view(1)
            moves.append(corrections.correct_poses(view).positions - view.positions)
        torch.testing.assert_close(10 * moves[0], moves[1], atol=1e-6, rtol=1e-4)

    def test_a_camera_that_is_not_trained_on_is_refused(self):
        corrections: Any = CameraCorrections(ON, True, scene(camera_ids=(4, 5)))
        with pytest.raises(ValueError, match="switch the corrections off"):
            corrections.correct_poses(make_view(1))


class TestColorsOfExperts:
    """Those that a mixture's router is trained with."""

    def render(self) -> MixtureRender:
        gates = torch.softmax(torch.randn(2, 4, 4, 1), 0)
        images = torch.rand(2, 4, 4, 3)
        rest = torch.rand(4, 4, 1)
        alone = ExpertsAlone(images, Mock(spec=ExpertRenderOutputs))
        return MixtureRender((gates * images).sum(0), gates, rest, rest, lambda: alone)

    def test_the_blend_is_that_of_images_as_the_camera_records_them(self):
        colors: Any = ExpertCorrections([Learned(OFF, True)] * 2, scene())
        for corrections in colors.experts:
            corrections.color.normal_()
        render, view = self.render(), make_view(3).select(torch.tensor([1]))
        seen = [
            c.correct_colors(render.images[k][None], view) for k, c in enumerate(colors.experts)
        ]
        expected = (render.gates * torch.cat(seen)).sum(0)
        torch.testing.assert_close(colors.recolored(render, view), expected)
        assert not torch.allclose(expected, render.rgb)

    def test_an_expert_without_them_is_blended_as_it_is(self):
        colors: Any = ExpertCorrections([UNCORRECTED, Learned(OFF, True)], scene())
        colors.experts[1].color.normal_()
        render, view = self.render(), make_view(1)
        seen = colors.experts[1].correct_colors(render.images[1][None], view)[0]
        expected = render.gates[0] * render.images[0] + render.gates[1] * seen
        torch.testing.assert_close(colors.recolored(render, view), expected)
        plain = ExpertCorrections([UNCORRECTED] * 2, scene())
        assert plain.recolored(render, view) is render.rgb and not plain.state_dict()

    def test_of_several_windows_the_mean_counts(self):
        colors: Any = ExpertCorrections([Learned(OFF, True)], scene())
        first, second = torch.randn(2, 3, 3, 4)
        colors.load(0, [{"corrections.color": first}, {"corrections.color": second}, {}], "A+B+C")
        expected = (first - first.mean(0) + second - second.mean(0)) / 3
        torch.testing.assert_close(colors.experts[0].color, expected)

    def test_poses_are_the_mean_of_several_windows_too(self):
        learned: Any = ExpertCorrections([Learned(ON, False), UNCORRECTED], scene())
        first, second = 0.01 * torch.randn(2, 3, 6)
        key = "corrections.poses.pose_adjustment"
        learned.load(0, [{key: first}, {key: second}], "A+B")
        view = make_view(3).select(torch.tensor([1]))
        alone: Any = CameraCorrections(ON, False, scene())
        alone.poses.pose_adjustment.data.copy_((first + second) / 2)
        own, untouched = learned.views(view)
        torch.testing.assert_close(own.viewmats, alone.correct_poses(view).viewmats)
        assert untouched is view and not own.viewmats.requires_grad
        assert ExpertCorrections([UNCORRECTED] * 2, scene()).views(view) is None

    def test_poses_of_other_cameras_are_refused(self):
        learned: Any = ExpertCorrections([Learned(ON, False)], scene())
        with pytest.raises(ValueError, match=r"3 training cameras of this data set, but A knows"):
            learned.load(0, [{"corrections.poses.pose_adjustment": torch.zeros(4, 6)}], "A")

    def test_colours_of_other_cameras_are_refused(self):
        colors: Any = ExpertCorrections([Learned(OFF, True)], scene())
        with pytest.raises(ValueError, match=r"3 training cameras of this data set, but A knows"):
            colors.load(0, [{"corrections.color": torch.zeros(4, 3, 4)}], "A")


def test_a_router_learns_from_the_colours_that_its_experts_have_learned(
    tiny_runs: TinyRuns, tmp_path
):
    corrected = train_tiny(
        "moegs-stg", tiny_runs.scene, tmp_path, "--pipeline.model.color-correction", "True"
    )
    corrected_model: Any = load_pipeline(open_run(corrected)).model
    learned = corrected_model.corrections.color
    experts = ("--experts", str(corrected), tiny_runs.experts[1])
    config = train_tiny("moegs-router", tiny_runs.scene, tmp_path, *experts)
    shutil.rmtree(corrected.parent)
    pipeline = load_pipeline(open_run(config))
    model: Any = pipeline.model
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    torch.testing.assert_close(model.corrections.experts[0].color, learned - learned.mean(0))
    outside = model.get_outputs_for_camera(camera)["rgb"]
    trained = model.train().get_outputs(camera)["rgb"][0]
    difference = (trained - outside).abs().max()
    assert difference > 1e-4
    pruned = train_tiny(
        "moegs-router", tiny_runs.scene, tmp_path, "--router", str(config), "--prune-ratio", "0.1",
        name="pruned",
    )  # fmt: skip
    assert torch.equal(
        open_run(pruned).model_state()["corrections.experts.0.color"],
        model.corrections.experts[0].color,
    )
    teacher = Teacher(DistillationConfig(teacher=config), model.mixture.experts[0].scene)
    clear = 0.2 * torch.randn(learned.shape)
    models: tuple[Any, ...] = (model, teacher.model)
    for one in models:
        one.corrections.experts[0].color.copy_(clear)
    trained = model.get_outputs(camera)["rgb"][0].clamp(0, 1)
    shown = teacher._render(view_from_cameras(camera))[..., :3] / 255.0
    assert (shown - trained).abs().max() <= 0.6 / 255.0
    assert (shown - outside).abs().max() > 10.0 / 255.0
    # Without the expert's colours, training shows what everybody else sees.
    model.corrections.experts[0].color.zero_()
    torch.testing.assert_close(model.get_outputs(camera)["rgb"][0], outside)


def test_a_router_sees_each_expert_from_where_it_has_learned_the_camera_to_be(
    tiny_runs: TinyRuns, tmp_path
):
    """One expert is drawn as it was in its own training, beside another that knows no poses."""
    shaded = ("--pipeline.model.expert.color", "full")  # Its colours depend on the rays.
    corrected = train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *OPTIONS, *shaded)
    single: Any = load_pipeline(open_run(corrected))
    experts = ("--experts", str(corrected), tiny_runs.experts[1])
    config = train_tiny("moegs-router", tiny_runs.scene, tmp_path, *experts, "--budget", "0.001")
    model: Any = load_pipeline(open_run(config)).model
    expert = model.corrections.experts[0]
    assert torch.equal(expert.poses.pose_adjustment, single.model.corrections.poses.pose_adjustment)
    for corrections in (expert, single.model.corrections):
        clear = torch.linspace(-0.1, 0.1, 30).view(5, 6)
        corrections.poses.pose_adjustment.data.copy_(clear)
    camera = single.datamanager.train_dataset.cameras[7:8]
    view = view_from_cameras(camera)
    (own,) = single.model.train().get_outputs(camera)["rgb"]
    render, neutral = model._recorded(view), model.mixture.render(view)
    torch.testing.assert_close(expert.correct_colors(render.images[:1], view)[0], own)
    torch.testing.assert_close(render.images[1], neutral.images[1])
    assert (render.images[0] - neutral.images[0]).abs().max() > 0.05
    # So are the gates one frame later.
    model.config.recipe.weight_gate_change = 0.1
    (later,) = model.gates_apart(view)
    expected = model._recorded(one_frame_apart(view, 6)).gates
    torch.testing.assert_close(later, expected)


def test_mixtures_of_before_open_without_poses():
    learned: Any = ExpertCorrections([Learned(ON, True)], scene())
    before = ExpertCorrections([Learned(ON, True)], scene())
    learned.experts[0].poses.pose_adjustment.data.normal_()
    stored = {name: value for name, value in before.state_dict().items() if "poses" not in name}
    learned.load_state_dict(stored)
    assert not learned.experts[0].poses.pose_adjustment.any()
    with pytest.raises(RuntimeError, match=r"experts\.0\.color"):
        learned.load_state_dict({})


def test_colours_in_checkpoints_of_before_are_found():
    kept, other = torch.zeros(3, 3, 4), torch.zeros(1)
    stored = {"_model.colors.experts.1.color": kept, "_model.mixture.colors.experts.1": other}
    found = model_state(stored)
    assert found["corrections.experts.1.color"] is kept
    assert found["mixture.colors.experts.1"] is other


@pytest.mark.parametrize("method", ["moegs-stg", "moegs-4dgaussians"])
def test_corrected_runs_train_save_open_and_leave_held_out_views_alone(
    tiny_runs: TinyRuns, tmp_path, method: str
):
    config = train_tiny(method, tiny_runs.scene, tmp_path, *OPTIONS, "--budget", "0.004")
    pipeline = load_pipeline(open_run(config))
    corrections: Any = pipeline.model.corrections
    assert corrections.color.shape == (5, 3, 4)
    assert corrections.color.abs().max() > 0
    assert corrections.poses.pose_adjustment.abs().max() > 0
    camera = pipeline.datamanager.eval_dataset.cameras[0:1]
    before = pipeline.model.get_outputs_for_camera(camera)["rgb"]
    for parameter in corrections.parameters():
        parameter.data.add_(1.0)
    torch.testing.assert_close(pipeline.model.get_outputs_for_camera(camera)["rgb"], before)
