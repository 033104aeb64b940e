"""What is read out at a pixel, and how Gaussians near it move."""

import pytest
import torch
from mixture_helpers import brute_weights, mixture, views
from tiny_models import expert_model, mixture_model

from moegs_ns.engine.viewer.outputs import subject_of
from moegs_ns.engine.viewer.probe import describe, pixel_shares, read_pixel
from moegs_ns.engine.viewer.trajectories import trajectories
from moegs_ns.mixture.live import LiveChoices
from moegs_ns.routers import VolumeRouterConfig

PIXEL = (9, 8)


def test_shares_are_the_weights_of_brute_force_compositing():
    mixed, view = mixture(20, 30), views(1)[0]
    shares = pixel_shares(mixed.experts, mixed, view, LiveChoices(), PIXEL)
    for expert, share in zip(mixed.experts, shares, strict=True):
        weights = brute_weights(expert.at(view.time), view)[PIXEL[1], PIXEL[0]]
        torch.testing.assert_close(share.values, weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("router", [None, VolumeRouterConfig()])
def test_the_strongest_gaussians_are_named_by_their_part_of_the_pixel(router):
    subject, view = subject_of(mixture_model(router)), views(1)[0]
    choices = LiveChoices((True, True))
    reading = read_pixel(subject, view, choices, *PIXEL)
    shares = [one.share for one in reading.strongest]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True) and shares[-1] > 0.0
    # All shares of a pixel make up its opacity, for either kind of mixture.
    total = 0.0
    for k, part in enumerate(pixel_shares(subject.experts, subject.mixture, view, choices, PIXEL)):
        total += float(part.values.sum()) * (reading.gates[k] if part.is_gated else 1.0)
    assert total == pytest.approx(reading.accumulation, rel=1e-4)
    text = describe(reading, subject.names)
    assert f"{reading.gates[0]:.3f}" in text and f"{reading.depth:.3f}" in text


def test_the_point_projects_to_the_pixel_at_its_depth():
    reading = read_pixel(subject_of(expert_model()), view := views(1)[0], LiveChoices(), *PIXEL)
    in_camera = view.viewmats[0, :3, :3] @ reading.point + view.viewmats[0, :3, 3]
    assert float(in_camera[2]) == pytest.approx(reading.depth, rel=1e-5)
    at = view.Ks[0] @ (in_camera / in_camera[2])
    torch.testing.assert_close(at[:2], torch.tensor([9.5, 8.5]), rtol=1e-4, atol=1e-3)


def test_an_expert_that_is_off_has_no_part():
    subject, view = subject_of(mixture_model()), views(1)[0]
    reading = read_pixel(subject, view, LiveChoices((False, True)), *PIXEL)
    assert reading.gates[0] == 0.0
    assert {one.expert for one in reading.strongest} == {1}


def test_trajectories_are_the_ways_of_the_nearest_gaussians_that_move():
    expert = mixture(20, 30).experts[0]
    rows = expert.gauss_params
    rows["opacities"].data.fill_(5.0)
    rows["motion"].data[:10] = 0.0
    time = torch.tensor(0.5)
    here = expert.at(time)
    point = here.means[12]
    found = trajectories([expert], LiveChoices(), point, time, count=4)
    distances = (here.means - point).norm(dim=-1)
    distances[:10] = torch.inf
    ids = torch.arange(20) if here.ids is None else here.ids
    assert [one.number for one in found] == ids[distances.argsort()[:4]].tolist()
    first = found[0]
    times = torch.linspace(0.0, 1.0, 5)
    at = [expert.at(t) for t in times]
    places = [one.means[12 if one.ids is None else int((one.ids == 12).nonzero())] for one in at]
    for place in first.points:
        assert min(float((place - other).norm()) for other in places) < 1e-6
    assert len(first.points) >= 2


def test_still_gaussians_have_no_trajectory():
    expert = mixture(20, 30).experts[0]
    expert.gauss_params["motion"].data.zero_()
    assert not trajectories([expert], LiveChoices(), torch.zeros(3), torch.tensor(0.5), count=4)
