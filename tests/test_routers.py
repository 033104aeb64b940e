"""Router field and mixture: properties of the gates."""

from typing import Any

import pytest
import torch
from still_mixtures import expert, mixture, view

from moegs_ns.mixture.mixture import GateConfig, Mixture, blend, gates_from
from moegs_ns.mixture.pruning_schedule import prune
from moegs_ns.routers import VolumeAwarePixelRouterConfig
from moegs_ns.scene import SceneInfo
from moegs_ns.splatting import composite, render


def test_gates_sum_to_one_and_blend_the_images():
    render = mixture(expert(0, 30), expert(1, 20), expert(2, 25)).render(view())
    torch.testing.assert_close(render.gates.sum(0), torch.ones(22, 30, 1))
    assert (render.gates >= 0).all()
    torch.testing.assert_close(render.rgb, (render.gates * render.images).sum(0))


def test_one_expert_is_the_identity():
    alone = expert(0, 30)
    blended = mixture(alone).render(view())
    own = render(alone.at(torch.tensor(0.5)), view())
    expected = composite(own.rgb, own.alpha, alone.background)[0]
    torch.testing.assert_close(blended.rgb, expected)
    torch.testing.assert_close(blended.gates, torch.ones(1, 22, 30, 1))


def test_depth_is_the_mean_of_what_is_drawn():
    """Where one expert shows nothing, the mixture has the other's depth, not a part of it."""
    mixed, camera = mixture(expert(0, 30), expert(1, 20)), view()
    render = mixed.render(camera)
    splats = render.rendered
    alphas, depths = splats.alpha[:, 0], splats.depth[:, 0]
    covers = render.gates * alphas
    expected = (covers * depths).sum(0) / covers.sum(0)
    is_drawn = covers.sum(0) > 1e-4
    torch.testing.assert_close(render.depth[is_drawn], expected[is_drawn])
    only_first = (alphas[0] > 0.01) & (alphas[1] == 0.0)
    assert only_first.any()
    torch.testing.assert_close(render.depth[only_first], depths[0][only_first])
    assert (render.depth[(alphas == 0.0).all(0)] == 0.0).all()


def test_the_order_of_experts_does_not_matter():
    first, second = expert(0, 30), expert(1, 20)
    forward = mixture(first, second)
    backward = mixture(second, first, scramble=False)
    backward.router.phi.load_state_dict(forward.router.phi.state_dict())
    for mine, theirs in ((0, 1), (1, 0)):
        backward.router.weights[mine].load_state_dict(forward.router.weights[theirs].state_dict())
    torch.testing.assert_close(forward.render(view()).rgb, backward.render(view()).rgb)


def test_equal_weights_give_equal_experts_equal_gates():
    twin = expert(0, 30)
    gates = mixture(twin, expert(0, 30), scramble=False).render(view()).gates
    torch.testing.assert_close(gates, torch.full_like(gates, 0.5))


def test_temperature_sharpens_the_same_choice():
    experts = expert(0, 30), expert(1, 20)
    soft, sharp = (
        mixture(*experts).render(view()),
        mixture(*experts, temperature=0.1).render(view()),
    )
    assert torch.equal(soft.gates.argmax(0), sharp.gates.argmax(0))
    assert (sharp.gates.amax(0) >= soft.gates.amax(0) - 1e-6).all()
    assert sharp.gates.amax(0).mean() > soft.gates.amax(0).mean()


def test_blend_is_the_softmax_of_logits_over_temperature():
    images, logits = torch.rand(2, 3, 4, 3), torch.randn(2, 3, 4, 1)
    rgb, gates = blend(images, logits, 0.5)
    share = torch.sigmoid((logits[0] - logits[1]) / 0.5)
    torch.testing.assert_close(gates[0], share)
    torch.testing.assert_close(rgb, share * images[0] + (1 - share) * images[1])


def test_a_part_of_the_gates_may_be_equal():
    logits = 9.0 * torch.randn(3, 4, 5, 1)
    plain, mixed = gates_from(logits, 1.0), gates_from(logits, 1.0, GateConfig(uniform=0.25))
    torch.testing.assert_close(mixed, 0.75 * plain + 0.25 / 3)
    torch.testing.assert_close(mixed.sum(0), torch.ones(4, 5, 1))
    assert mixed.amin() >= 0.25 / 3


def test_blurred_gates_are_those_of_regions():
    """Noise at every pixel goes, a difference between two halves stays."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 60, 80, 1, generator=generator)
    logits[0, :, 40:] += 2.0
    plain, smooth = gates_from(logits, 1.0), gates_from(logits, 1.0, GateConfig(blur=0.1))
    torch.testing.assert_close(smooth.sum(0), torch.ones(60, 80, 1))
    change = [
        float((gates[0, :, 1:20] - gates[0, :, :19]).abs().mean()) for gates in (plain, smooth)
    ]
    assert change[1] < 0.1 * change[0]
    assert smooth[0, :, 60:].mean() > 0.8 and smooth[0, :, :20].mean() == pytest.approx(
        0.5, abs=0.05
    )
    larger = torch.nn.functional.interpolate(logits[..., 0][None], scale_factor=2)[0][..., None]
    same = gates_from(larger, 1.0, GateConfig(blur=0.1))[:, ::2, ::2]
    # The blur is relative to the image, so another size changes little.
    torch.testing.assert_close(same, smooth, atol=0.02, rtol=0.0)


@pytest.mark.parametrize("config", [GateConfig(uniform=0.3), GateConfig(blur=0.1)])
def test_one_expert_is_itself_however_smooth_its_gates_are(config: GateConfig):
    images, logits = torch.rand(1, 6, 7, 3), torch.randn(1, 6, 7, 1)
    rgb, gates = blend(images, logits, 1.0, config)
    torch.testing.assert_close(rgb, images[0])
    torch.testing.assert_close(gates, torch.ones_like(gates))


@pytest.mark.parametrize(
    "config", [GateConfig(uniform=1.0), GateConfig(uniform=-0.1), GateConfig(blur=-1.0)]
)
def test_gates_out_of_range_are_refused(config: GateConfig):
    with pytest.raises(ValueError, match=r"--pipeline\.model\.gates"):
        config.check(1.0)


def test_a_mixture_keeps_its_gates_when_it_is_pruned():
    config, experts = GateConfig(uniform=0.2, blur=0.05), [expert(0, 30), expert(1, 20)]
    mixed = mixture(*experts)
    smooth = Mixture(experts, mixed.router, mixed.temperature, config)
    keep = [torch.ones(30, dtype=torch.bool), torch.ones(20, dtype=torch.bool)]
    pruned = prune(smooth, keep)
    assert pruned.gate_config == config
    torch.testing.assert_close(pruned.render(view()).rgb, smooth.render(view()).rgb)
    assert not torch.allclose(smooth.render(view()).rgb, mixed.render(view()).rgb)


def test_only_the_router_learns():
    mixed = mixture(expert(0, 30), expert(1, 20))
    mixed.train()
    assert not any(e.training for e in mixed.experts)
    mixed.render(view()).rgb.square().sum().backward()
    frozen = [parameter for e in mixed.experts for parameter in e.parameters()]
    assert all(parameter.grad is None for parameter in frozen)
    for group, parameters in mixed.router.parameter_groups().items():
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters), group


def test_features_follow_equation_six():
    router: Any = mixture(expert(0, 30)).router
    rows, ids = router.weights[0], torch.tensor([4, 1])
    features = router.gaussian_features(0, ids, torch.tensor(0.25))
    expected = torch.stack([rows["w"], rows["w_dir"], 0.25 * rows["w_time"]], dim=-1)[ids]
    torch.testing.assert_close(features, expected)


def test_logits_follow_equation_seven():
    router: Any = mixture(expert(0, 30), expert(1, 20)).router
    splatted, origins = torch.rand(2, 5, 6, 3), torch.rand(5, 6, 3)
    directions = torch.nn.functional.normalize(torch.randn(5, 6, 3), dim=-1)
    logits = router(splatted, origins, directions, torch.tensor(0.5))
    first, second, third = (layer.weight[..., 0, 0] for layer in router.phi[::2])
    ray = torch.cat([(origins[2, 3] - router.scene_center) / 3.0, directions[2, 3]])
    inputs = torch.cat([splatted[1, 2, 3, 1:], ray])
    phi = third @ (second @ (first @ inputs).relu()).relu()
    torch.testing.assert_close(logits[1, 2, 3], splatted[1, 2, 3, :1] + phi)


def test_the_router_has_the_three_groups_of_the_paper():
    groups = mixture(expert(0, 30), expert(1, 20)).router.parameter_groups()
    assert {name: len(group) for name, group in groups.items()} == {
        "router_weights": 4,
        "router_time": 2,
        "router_phi": 3,
    }


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_the_router_does_not_depend_on_the_scale_of_the_scene(factor):
    router = mixture(expert(0, 30)).router
    scene = SceneInfo(5, 30.0, (0.0, 0.0, -3.0 * factor), 3.0 * factor, None)
    scaled = VolumeAwarePixelRouterConfig().setup(scene=scene, counts=[30])
    scaled.phi.load_state_dict(router.phi.state_dict())
    splatted, origins = torch.rand(1, 4, 4, 3), torch.rand(4, 4, 3)
    time = torch.tensor(0.5)
    torch.testing.assert_close(
        router(splatted, origins, origins, time),
        scaled(splatted, origins * factor, origins, time),
    )


def test_nothing_visible_still_renders():
    behind = expert(0, 10)
    behind.gauss_params["means"].data[:, 2] -= 10.0
    render = mixture(behind, behind).render(view())
    torch.testing.assert_close(render.rgb, torch.zeros(22, 30, 3))
    torch.testing.assert_close(render.gates.sum(0), torch.ones(22, 30, 1))
