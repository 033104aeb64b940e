"""GraphedCallable launches: the same values and gradients as the calls that they stand for."""

from dataclasses import replace

import ex4dgs_helpers
import pytest
import torch
from toys import images, make_view
from training_helpers import cloud, scene

from moegs_ns.cuda_graphs import graphed as replay
from moegs_ns.cuda_graphs.graphed import PAID_OFF, PATIENCE, GraphedCallable
from moegs_ns.cuda_graphs.pytree import taken_apart
from moegs_ns.experts.ed3dgs.expert import ED3DGSExpertConfig
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig
from moegs_ns.experts.fourdgaussians.recipe import HexPlaneRecipeConfig
from moegs_ns.experts.projector import Instant, Instants
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import project, rasterize, render
from moegs_ns.training.supervision import Supervision

CONFIGS = {
    "stg": STGExpertConfig(),
    "stg-full": STGExpertConfig(color="full"),
    "4dgaussians": HexPlaneExpertConfig(space_resolution=8),
    "ed3dgs": ED3DGSExpertConfig(),
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def build(family: str, device: str):
    torch.manual_seed(0)
    if family == "ex4dgs":
        expert, _, _ = ex4dgs_helpers.build(dynamic=ex4dgs_helpers.DYNAMIC)
    else:
        expert = CONFIGS[family].setup(scene=scene(), points=cloud(40))
    expert.active_sh_degree = 2
    if hasattr(expert, "is_deforming"):
        expert.is_deforming = True
    with torch.no_grad():
        for parameter in expert.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return expert.to(device)


def instants(device: str, shift: float = 0.0) -> list[Instant]:
    """Two instants, the second one as a training camera sees it."""
    asked = []
    for time, camera in ((0.2, None), (0.7, torch.tensor(1))):
        view = make_view(1, shift=10.0 * shift)
        view = replace(view, times=torch.tensor([time + shift])).to(device)
        asked.append(Instant.of(view, camera))
    return asked


def plainly(expert, instants: list[Instant], kind: str) -> list:
    """What is asked for, without any detour."""
    sets = [expert.at(instant.time, instant.camera) for instant in instants]
    if kind == "at":
        return sets
    # With the harmonics of a recording; those of gsplat are compared with them elsewhere.
    with replay.recording():
        return [project(g, i.view, near=expert.near) for g, i in zip(sets, instants, strict=True)]


def shapes(value) -> list[torch.Size]:
    return [tensor.shape for tensor in taken_apart(value)[0]]


def answers(asked: Instants, kind: str):
    return asked._gaussians if kind == "at" else asked._sights


def loss_of(sets, instants: list[Instant]) -> torch.Tensor:
    """Depends on every tensor that has a gradient, and draws them."""
    total = torch.zeros((), device=instants[0].time.device)
    for place, (one, instant) in enumerate(zip(sets, instants, strict=True)):
        drawn = (
            render(one, instant.view)
            if isinstance(one, Gaussians)
            else rasterize([one], instant.view)
        )
        total = total + (1 + place) * drawn.rgb.square().mean() + drawn.depth.mean()
        total = total + drawn.gaussian_features.square().sum()
    return total


def gradients(expert) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in expert.named_parameters() if p.grad is not None}


def step_alike(leader, follower) -> None:
    """Step in place: the leader by its gradients, the follower to where the leader is.

    By gradients of their own they would part in the last bit, as sums on a GPU have no order, and
    TF32 turns a last bit that decides a rounding into a thousandth of the number.
    """
    with torch.no_grad():
        pairs = zip(leader.parameters(), follower.parameters(), strict=True)
        for parameter, followed in pairs:
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=0.01)
            followed.copy_(parameter)


@pytest.mark.parametrize("kind", ["at", "seen"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", [*CONFIGS, "ex4dgs"])
def test_training_on_replayed_gaussians_equals_training_on_those_of_the_expert(
    family, device, kind
):
    """Also while parameters are stepped, and after rows were removed, which ends a recording."""
    expert, asked = build(family, device), Instants(build(family, device))
    for step in range(4 * PATIENCE):
        found = []
        for one in (expert, asked.expert):
            one.zero_grad()
            now = instants(device, 0.01 * step)
            is_asked = one is asked.expert
            sets = getattr(asked, kind)(now) if is_asked else plainly(one, now, kind)
            loss = loss_of(sets, now)
            loss.backward()
            found.append((loss.detach(), gradients(one)))
        step_alike(expert, asked.expert)
        if step == 2 * PATIENCE:
            kept = torch.arange(expert.gauss_params.num_rows - 3, device=device)
            for one in (expert, asked.expert):
                one.gauss_params.select_(kept)
        torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-7)
        assert found[0][1].keys() == found[1][1].keys()
        for name, gradient in found[0][1].items():
            torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-6)
    assert (answers(asked, kind).replayed.recording is not None) == (device == "cuda")


class PretendedRecording:
    """Returns what the function returned when it was recorded, whatever the inputs are."""

    made: int

    def __init__(self, function, inputs, module, place) -> None:
        PretendedRecording.made += 1
        self.outputs = function(*inputs)

    def __call__(self, *inputs):
        return self.outputs


@pytest.fixture
def pretended(monkeypatch) -> type[PretendedRecording]:
    """Recordings without a GPU, to see when they are made and used."""
    PretendedRecording.made = 0
    monkeypatch.setattr(GraphedCallable, "_gpu", lambda self, inputs: torch.device("cpu"))
    monkeypatch.setattr(replay, "Place", lambda device: device)
    monkeypatch.setattr(replay, "CapturedGraph", PretendedRecording)
    return PretendedRecording


@pytest.mark.parametrize("kind", ["at", "seen"])
@pytest.mark.parametrize("family", [*CONFIGS, "ex4dgs"])
def test_training_and_showing_in_turns_are_recorded_once_each(pretended, family, kind):
    """Steps of two instants, now and then one of a single instant, and images in between."""
    asked = Instants(build(family, "cpu"))
    ask, replayed = getattr(asked, kind), answers(asked, kind).replayed
    now = instants("cpu")
    for _ in range(PATIENCE + 3):
        assert len(ask(now)) == 2
        assert len(ask(now[:1])) == 1
        with torch.no_grad():
            (shown,), (expected,) = ask(now[:1]), plainly(asked.expert, now[:1], kind)
            for found, wanted in zip(taken_apart(shown)[0], taken_apart(expected)[0], strict=True):
                torch.testing.assert_close(found, wanted)
    assert pretended.made == 3
    # Another set of Gaussians, or colours of another degree, is not what was recorded.
    asked.expert.gauss_params.select_(torch.arange(asked.expert.gauss_params.num_rows - 2))
    assert shapes(ask(now)[0]) == shapes(plainly(asked.expert, now, kind)[0])
    assert replayed.recording is None
    for _ in range(PATIENCE):
        ask(now)
    assert replayed.recording is not None
    asked.expert.active_sh_degree = 1
    assert shapes(ask(now)[0]) == shapes(plainly(asked.expert, now, kind)[0])
    assert replayed.recording is None
    # Nor is what a camera of another size sees.
    if kind == "seen":
        for _ in range(PATIENCE + 1):
            ask(now)
        assert replayed.recording is not None
        ask([Instant.of(replace(i.view, width=i.view.width + 1), i.camera) for i in now])
        assert replayed.recording is None


@pytest.mark.parametrize("calls", [PATIENCE + 1, PAID_OFF - 1, PAID_OFF])
def test_other_gaussians_are_recorded_at_once_if_that_has_paid_off(pretended, calls):
    asked = Instants(build("ed3dgs", "cpu"))
    replayed, now = answers(asked, "seen").replayed, instants("cpu")
    for _ in range(calls):
        asked.seen(now)
    for count in (30, 20):
        asked.expert.gauss_params.select_(torch.arange(count))
        seen = asked.seen(now)
        assert (replayed.recording is not None) == (calls == PAID_OFF)
        assert shapes(seen[0]) == shapes(plainly(asked.expert, now, "seen")[0])
        for _ in range(calls - 1):
            asked.seen(now)
    assert pretended.made == 3
    # Other plain values are no change of memory: what they lead to must be called before.
    asked.expert.active_sh_degree = 1
    asked.seen(now)
    assert replayed.recording is None


def test_only_so_many_kinds_of_calls_are_kept(pretended, monkeypatch):
    monkeypatch.setattr(replay, "MOST_USES", 2)
    called = GraphedCallable(lambda x: (x + 1.0,))
    for size in (1, 2, 3):
        for _ in range(PATIENCE + 1):
            called(torch.zeros(size))
    assert pretended.made == 3 and len(called._uses) == 2
    called(torch.zeros(2))
    assert called.recording is not None
    called(torch.zeros(1))
    assert called.recording is None


@pytest.mark.gpu
@pytest.mark.parametrize("family", [*CONFIGS, "ex4dgs"])
def test_what_is_recorded(family):
    """After a few equal calls, anew when colours gain a degree, and for rendering as well."""
    asked = Instants(build(family, "cuda"))

    def draw(times: int):
        for _ in range(times):
            (gaussians, _) = asked.at(instants("cuda"))
        return gaussians

    rasterize(PATIENCE)
    assert asked._gaussians.replayed.recording is None
    rasterize(1)
    first = asked._gaussians.replayed.recording
    assert first is not None
    assert rasterize(1).means.requires_grad and asked._gaussians.replayed.recording is first
    with torch.no_grad():
        for _ in range(PATIENCE + 1):
            asked.at(instants("cuda")[:1])
        assert asked._gaussians.replayed.recording not in (None, first)
    # A training goes on with its own recording after an image was shown.
    assert rasterize(1).means.requires_grad and asked._gaussians.replayed.recording is first
    asked.expert.active_sh_degree = 3
    rasterize(1)
    assert asked._gaussians.replayed.recording is None
    with torch.no_grad():
        rendered = rasterize(PATIENCE + 1)
        expected = asked.expert.at(instants("cuda")[0].time)
        assert asked._gaussians.replayed.recording is not None
        torch.testing.assert_close(rendered.means, expected.means)
        torch.testing.assert_close(rendered.sh, expected.sh)


@pytest.mark.parametrize("device", DEVICES)
def test_a_deformation_that_is_turned_on_is_recorded_once(device):
    """Its shares grow every step, for thousands of steps."""
    asked, now = Instants(build("ed3dgs", device)), instants(device)
    recordings = set()
    for step in range(2 * PATIENCE):
        asked.expert.set_shares(0.1 * (step + 1), 0.05 * (step + 1))
        with torch.no_grad():
            (found, _), (expected, _) = asked.at(now), plainly(asked.expert, now, "at")
        torch.testing.assert_close(found.means, expected.means)
        torch.testing.assert_close(found.sh, expected.sh)
        torch.testing.assert_close(found.scales, expected.scales)
        recordings.add(asked._gaussians.replayed.recording)
    assert len(recordings) == (2 if device == "cuda" else 1) and None in recordings


@pytest.mark.gpu
def test_losses_and_regularisers_are_replayed():
    supervision = Supervision()
    expert = build("4dgaussians", "cuda")
    recipe = HexPlaneRecipeConfig().setup(expert=expert, budget=1.0, seed=0)
    for step in range(PATIENCE + 3):
        target = images(seed=1).cuda()
        found = []
        for errors in (supervision.plain_errors, Supervision().plain_errors):
            image = images(seed=step).cuda().requires_grad_()
            result = errors(image, target, 0.2)
            found.append((result, *torch.autograd.grad(result.loss, image)))
        torch.testing.assert_close(found[0][0].loss, found[1][0].loss)
        torch.testing.assert_close(found[0][0].ssim, found[1][0].ssim)
        torch.testing.assert_close(found[0][1], found[1][1])
        terms = [recipe._replayed_planes()[0], recipe.plane_regularizer()]
        planes, gradients = list(expert.planes.parameters()), []
        for term in terms:
            expert.zero_grad()
            term.backward()
            gradients.append([plane.grad.clone() for plane in planes])
        torch.testing.assert_close(*gradients)
        torch.testing.assert_close(*terms)
        with torch.no_grad():
            planes[0] += 0.01
    assert supervision._plain[0.2]._replayed.recording is not None
    assert recipe._replayed_planes.recording is not None


def test_an_expert_that_says_nothing_is_never_replayed():
    class Cautious(type(build("stg", "cpu"))):
        replay_key = None

    expert = Cautious(STGExpertConfig(), scene(), cloud(5))
    asked = Instants(expert)
    asked._gaussians.replayed = None
    assert len(asked.at(instants("cpu"))) == 2
