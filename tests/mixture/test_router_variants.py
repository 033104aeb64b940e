"""Routers that the Volume-aware Pixel Router is compared with, and its ablations."""

from typing import Any

import pytest
import torch
from mixture_helpers import SCENE, brute_weights, expert, mix, mixture, views
from tiny import TinyRuns
from tolerances import EXACT, FORWARD

from moegs_ns.cameras import one_frame_apart
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.volume_mixture import MIN_ACCUMULATION, VolumeMixture, modulate
from moegs_ns.routers import PixelRouterConfig, VolumeAwarePixelRouterConfig, VolumeRouterConfig
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.splatting.projection import view_colors

COUNTS = (14, 9)


def joint_image(parts: list[Gaussians], view) -> torch.Tensor:
    """All parts composited as one set over black by brute force."""
    joint = Gaussians.cat(parts)
    return brute_weights(joint, view) @ view_colors(joint.sh, joint.means, view.positions[0])


class TestVolumeRouter:
    def volume(self, **options) -> VolumeMixture:
        mixed = mixture(*COUNTS, router=VolumeRouterConfig(), **options)
        assert isinstance(mixed, VolumeMixture)
        return mixed

    def test_at_first_it_is_the_plain_joint_composite(self):
        mixed = self.volume(scramble=False)
        for view in views():
            expected = joint_image(mixed.gaussians(view.time), view)
            FORWARD.assert_close(mixed.render(view).rgb.detach(), expected.detach())

    def test_scores_raise_the_logits_of_opacities(self):
        mixed, view = self.volume(temperature=0.6), views()[1]
        parts = mixed.gaussians(view.time)
        modulated = mixed.modulated(parts, view)
        for k, (rows, part) in enumerate(zip(mixed.router.gaussian_weights, parts, strict=True)):
            router: Any = mixed.router
            first, second, third = (layer.weight for layer in router.phi[::2])
            ray = part.means - view.positions[0]
            ray = ray / ray.norm(dim=-1, keepdim=True)
            origin = (view.positions[0] / SCENE.extent).expand_as(ray)
            values = torch.stack([rows["w_dir"], 0.5 * rows["w_time"]], dim=-1)
            values = torch.cat([values, origin, ray], dim=-1)
            phi = ((values @ first.T).relu() @ second.T).relu() @ third.T
            score = rows["w"] + phi[:, 0]
            expected = torch.sigmoid(torch.logit(part.opacities) + score / 0.6)
            FORWARD.assert_close(modulated[k].opacities.detach(), expected.detach())
            assert (modulated[k].opacities - part.opacities).abs().max() > 0.05
        FORWARD.assert_close(
            mixed.render(view).rgb.detach(), joint_image(modulated, view).detach(), "image"
        )

    def test_modulated_opacities_are_opacities(self):
        opacities = torch.tensor([0.0, 1e-6, 0.3, 1.0 - 1e-6, 1.0])
        for score in (-1e4, -3.0, 0.0, 3.0, 1e4):
            found = modulate(opacities, torch.full_like(opacities, score), 1.0)
            assert ((found >= 0) & (found <= 1)).all()
            assert (found[0], found[-1]) == (0.0, 1.0)
        EXACT.assert_close(modulate(opacities, torch.zeros(5), 0.3), opacities)

    def test_gates_are_shares_of_what_is_drawn(self):
        mixed, view = self.volume(), views()[1]
        joint = Gaussians.cat(mixed.modulated(mixed.gaussians(view.time), view))
        weights = brute_weights(joint, view)
        accumulations = torch.stack([part.sum(-1) for part in weights.split(COUNTS, dim=-1)])
        gates = mixed.render(view).gates[..., 0]
        FORWARD.assert_close(gates.sum(0), torch.ones_like(gates[0]))
        is_visible = accumulations.sum(0) > 0.1
        accumulations = accumulations + MIN_ACCUMULATION
        expected = (accumulations / accumulations.sum(0))[:, is_visible]
        FORWARD.assert_close(gates[:, is_visible].detach(), expected.detach())

    def test_the_near_plane_of_each_expert_holds(self):
        far, near = expert(0, 14), expert(1, 9)
        far.near = 3.6
        mixed, view = mix([far, near], VolumeRouterConfig(), scramble=False), views()[0]
        parts = mixed.gaussians(view.time)
        kept = [parts[0].select(parts[0].means[:, 2] > 3.6), parts[1]]
        assert 0 < len(kept[0]) < 14
        FORWARD.assert_close(mixed.render(view).rgb.detach(), joint_image(kept, view).detach())

    def test_only_the_router_learns_and_all_of_it(self):
        mixed = self.volume()
        mixed.train()
        mixed.render(views()[1]).rgb.square().sum().backward()
        assert all(p.grad is None for e in mixed.experts for p in e.parameters())
        groups = mixed.router.parameter_groups()
        assert set(groups) == {"router_weights", "router_time", "router_phi"}
        for group, parameters in groups.items():
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters), group

    def test_one_set_is_seen_from_one_place(self):
        mixed, (first, second, third) = self.volume(), views()
        for other in (first, third):
            other.times.copy_(second.times)
        moved = mixed.render(second, own_views=[first, third])
        EXACT.assert_close(moved.images, mixed.render(second).images)
        EXACT.assert_close(moved.rgb, mixed.render(second).rgb)

    def test_experts_that_decode_colours_are_refused(self):
        shaded = STGExpertConfig(color="full").setup(scene=SCENE)
        with pytest.raises(ValueError, match=r"number 2 \(STGExpert\) decodes colours per pixel"):
            mix([expert(0, 5), shaded], VolumeRouterConfig())


def test_every_expert_is_drawn_from_its_own_place():
    mixed, (first, second, third) = mixture(*COUNTS), views()
    for other in (first, third):
        other.times.copy_(second.times)
    render = mixed.render(second, own_views=[first, third])
    EXACT.assert_close(render.images[0], mixed.render(first).images[0])
    EXACT.assert_close(render.images[1], mixed.render(third).images[1])
    EXACT.assert_close(
        mixed.render(second, own_views=[second, second]).rgb, mixed.render(second).rgb
    )


class TestPixelRouter:
    def test_all_gates_are_equal_at_first(self):
        gates = (
            mixture(*COUNTS, router=PixelRouterConfig(), scramble=False).render(views()[1]).gates
        )
        FORWARD.assert_close(gates, torch.full_like(gates, 0.5))

    def test_gates_depend_on_ray_and_time_but_not_on_gaussians(self):
        mixed, (first, second, _) = mixture(*COUNTS, router=PixelRouterConfig()), views()
        for parameter in mixed.router.parameters():
            parameter.data *= 0.2
        before = mixed.render(second).gates.detach()
        assert (mixed.render(first).gates - before).abs().max() > 1e-3
        later = one_frame_apart(second, SCENE.num_frames)
        assert (mixed.render(later).gates - before).abs().max() > 1e-4
        mixed.experts[0].gauss_params["means"].data += 0.3
        EXACT.assert_close(mixed.render(second).gates.detach(), before)
        assert set(mixed.router.parameter_groups()) == {"router_phi"}

    def test_logits_are_those_of_one_network(self):
        mixed, view = mixture(*COUNTS, router=PixelRouterConfig(hidden=(4,))), views()[1]
        origins, directions = (rays[0] for rays in view.rays())
        router: Any = mixed.router
        first, second = router.phi[0], router.phi[2]
        values = torch.cat([origins[3, 4] / SCENE.extent, directions[3, 4], torch.tensor([0.5])])
        expected = second.weight @ (first.weight @ values + first.bias).relu() + second.bias
        empty = torch.zeros(2, *directions.shape[:2], 0)
        found = mixed.router(empty, origins, directions, view.time)[:, 3, 4, 0]
        FORWARD.assert_close(found.detach(), expected.detach())


class TestAblations:
    @pytest.mark.parametrize("weight", ["w_dir", "w_time"])
    def test_a_weight_is_really_gone(self, weight: str):
        option = {"w_dir": "direction_weights", "w_time": "time_weights"}[weight]
        options: dict[str, Any] = {option: False}
        config = VolumeAwarePixelRouterConfig(**options)
        mixed = mixture(*COUNTS, router=config)
        router: Any = mixed.router
        assert all(weight not in rows and len(rows) == 2 for rows in mixed.router.gaussian_weights)
        assert router.phi[0].weight.shape[1] == 1 + 6
        assert ("router_time" in mixed.router.parameter_groups()) == (weight == "w_dir")
        assert mixed.render(views()[1]).rgb.isfinite().all()

    def test_without_time_weights_gates_do_not_depend_on_time(self):
        """Gaussians that stand still, seen by one camera."""
        still = [expert(0, 14), expert(1, 9)]
        for each in still:
            each.gauss_params["motion"].data.zero_()
            each.gauss_params["time_log_scales"].data.fill_(9.0)
        view = views()[1]
        later = one_frame_apart(view, SCENE.num_frames)
        change = {}
        for has_time in (True, False):
            mixed = mix(still, VolumeAwarePixelRouterConfig(time_weights=has_time))
            gates = [mixed.render(one).gates.detach() for one in (view, later)]
            change[has_time] = float((gates[0] - gates[1]).abs().max())
        assert change[False] < 1e-5 and change[True] > 1e-3

    def test_without_refinement_w_alone_makes_the_gates(self):
        mixed, view = (
            mixture(*COUNTS, router=VolumeAwarePixelRouterConfig(refine=False)),
            views()[1],
        )
        groups = mixed.router.parameter_groups()
        assert {name: len(group) for name, group in groups.items()} == {"router_weights": 2}
        parts = mixed.gaussians(view.time)
        logits = torch.stack(
            [
                brute_weights(part, view) @ rows["w"]
                for part, rows in zip(parts, mixed.router.gaussian_weights, strict=True)
            ]
        )
        expected = torch.softmax(logits / mixed.temperature, dim=0)
        FORWARD.assert_close(mixed.render(view).gates[..., 0].detach(), expected.detach())


class TestGateChange:
    def test_the_next_frame_is_looked_at_or_the_one_before_the_end(self):
        view = views()[1]
        assert float(one_frame_apart(view, 5).time) == pytest.approx(0.75)
        assert float(one_frame_apart(views()[2], 5).time) == pytest.approx(0.75)
        assert float(one_frame_apart(views()[0], 2).time) == pytest.approx(1.0)

    def test_the_loss_counts_the_change_of_the_gates(self, tiny_runs: TinyRuns):
        pipeline = load_pipeline(open_run(tiny_runs.router))
        model: Any = pipeline.model
        camera = pipeline.datamanager.train_dataset.cameras[2:3]
        batch = {"image": torch.zeros(1, 36, 48, 3)}
        losses = {}
        for weight in (0.0, 0.25):
            model.config.recipe.weight_gate_change = weight
            model.train()
            outputs = model.get_outputs(camera)
            losses[weight] = model.get_loss_dict(outputs, batch)
        assert set(losses[0.0]) == {"photometric"}
        times = torch.tensor([2 / 5, 3 / 5])
        model.eval()
        gates = []
        for time in times:
            camera.times = time.reshape(1, 1)
            names = model.config.expert_names
            shown = model.get_outputs_for_camera(camera)
            gates.append(torch.stack([shown[f"gate_{name}"] for name in names]))
        expected = 0.25 * (gates[0] - gates[1]).abs().mean()
        assert expected > 0
        FORWARD.assert_close(losses[0.25]["gate_change"].detach(), expected)
