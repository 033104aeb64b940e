"""Router field and mixture: properties of the gates."""

from typing import Any

import pytest
import torch
from still_mixtures import expert, mixture, view

from moegs_ns.mixture.mixture import blend
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
