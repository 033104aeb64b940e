"""A mixture with some experts off, other gates and fewer Gaussians, for one render."""

import pytest
import torch
from mixture_helpers import brute_weights, mixture, views

from moegs_ns.mixture.live import LiveChoices, render_live
from moegs_ns.mixture.mixture import gates_from
from moegs_ns.routers import RouterConfig, VolumeAwarePixelRouterConfig, VolumeRouterConfig

ROUTERS = [VolumeAwarePixelRouterConfig(), VolumeRouterConfig()]


@pytest.mark.parametrize("router", ROUTERS)
def test_without_choices_it_is_the_mixture(router: RouterConfig):
    mixed, view = mixture(20, 30, 25, router=router), views(1)[0]
    with torch.no_grad():
        plain = mixed.render(view)
    live = render_live(mixed, view, LiveChoices((True, True, True)))
    for name in ("rgb", "gates", "depth", "accumulation"):
        torch.testing.assert_close(getattr(live, name), getattr(plain, name), rtol=0.0, atol=0.0)


def test_gates_are_shared_out_among_the_experts_that_are_on():
    mixed, view = mixture(20, 30, 25), views(1)[0]
    with torch.no_grad():
        plain = mixed.render(view)
    live = render_live(mixed, view, LiveChoices((True, False, True)))
    expected = plain.gates * torch.tensor([1.0, 0.0, 1.0])[:, None, None, None]
    expected = expected / expected.sum(0)
    torch.testing.assert_close(live.gates, expected)
    torch.testing.assert_close(live.rgb, (expected * plain.images).sum(0))
    alpha = (expected * plain.rendered.alpha[:, 0]).sum(0)
    torch.testing.assert_close(live.accumulation, alpha)


def test_an_expert_that_never_won_is_there_when_the_winner_is_off():
    """Its gate beside the winner's is 0 in 32 bits, and 0 / 0 would be no picture."""
    mixed, view = mixture(20, 30, 25), views(1)[0]
    live = render_live(mixed, view, LiveChoices((False, True, True), temperature=1e-4))
    assert live.rgb.isfinite().all()
    torch.testing.assert_close(live.gates.sum(0), torch.ones_like(live.gates[0]))
    assert live.gates[0].abs().max() == 0.0


@pytest.mark.parametrize("temperature", [0.1, 3.0])
def test_temperature_divides_the_logits_and_the_mixture_keeps_its_own(temperature: float):
    mixed, view = mixture(20, 30), views(1)[0]
    live = render_live(mixed, view, LiveChoices(temperature=temperature))
    logits = mixed.logits(live.rendered.features[:, 0], view)
    torch.testing.assert_close(live.gates, gates_from(logits, temperature))
    assert mixed.temperature == 0.7


def test_one_set_without_an_expert_is_the_set_of_the_others():
    mixed, view = mixture(20, 30, router=VolumeRouterConfig()), views(1)[0]
    live = render_live(mixed, view, LiveChoices((False, True)))
    with torch.no_grad():
        parts = mixed.gaussians(view.time)
        parts[0] = parts[0].select(torch.zeros(len(parts[0]), dtype=torch.bool))
        alone = mixed.render(view, gaussians=parts)
    torch.testing.assert_close(live.rgb, alone.rgb)
    assert live.gates[0].abs().max() == 0.0
    torch.testing.assert_close(live.gates[1], torch.ones_like(live.gates[1]))


def test_only_the_gaussians_that_are_kept_are_drawn():
    mixed, view = mixture(20, 30), views(1)[0]
    keep = [torch.arange(20) % 2 == 0, torch.zeros(30, dtype=torch.bool)]
    live = render_live(mixed, view, LiveChoices(keep=keep))
    part = mixed.experts[0].at(view.time)
    mask = keep[0] if part.ids is None else keep[0][part.ids]
    weights = brute_weights(part.select(mask), view).sum(-1, keepdim=True)
    torch.testing.assert_close(live.rendered.alpha[0, 0], weights, rtol=1e-4, atol=1e-5)
    assert live.rendered.alpha[1].abs().max() == 0.0
