"""Captured graphs of experts: the same values and gradients as the calls that they stand for."""

from dataclasses import dataclass, replace
from typing import Any

import ex4dgs_helpers
import pytest
import torch
import tracked_helpers
from toys import images, make_view
from training_helpers import cloud, scene

from moegs_ns.cameras import View
from moegs_ns.cuda_graphs import graphed
from moegs_ns.cuda_graphs.graphed import AMORTIZED_CALLS, WARMUP_CALLS, GraphedCallable, flatten
from moegs_ns.experts.ed3dgs.expert import ED3DGSExpertConfig
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig
from moegs_ns.experts.fourdgaussians.recipe import HexPlaneRecipeConfig
from moegs_ns.experts.freetime.expert import FreeTimeExpertConfig
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import project, rasterize, render
from moegs_ns.training.losses import Supervision

CONFIGS = {
    "stg": STGExpertConfig(),
    "stg-full": STGExpertConfig(color="full"),
    "4dgaussians": HexPlaneExpertConfig(space_resolution=8),
    "ed3dgs": ED3DGSExpertConfig(),
    "freetime": FreeTimeExpertConfig(),
    "freetime-gated": FreeTimeExpertConfig(life="gated"),
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def build(family: str, device: str) -> Any:
    torch.manual_seed(0)
    expert: Any
    if family == "ex4dgs":
        expert, _, _ = ex4dgs_helpers.build(dynamic=ex4dgs_helpers.DYNAMIC)
    elif family == "tracked":
        expert, _, _ = tracked_helpers.build(sh_degree=3)
    else:
        expert = CONFIGS[family].setup(scene=scene(), points=cloud(40))
    expert.active_sh_degree = 2
    if hasattr(expert, "is_deforming"):
        expert.is_deforming = True
    with torch.no_grad():
        for parameter in expert.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return expert.to(device)


@dataclass(frozen=True, eq=False)
class Asked:
    """Two views of one time each, and the training cameras whose clocks are matched."""

    views: list[View]
    cameras: list[torch.Tensor | None]

    def first(self) -> "Asked":
        return Asked(self.views[:1], self.cameras[:1])


def asked_of(device: str, shift: float = 0.0) -> Asked:
    """Two times, the second one as a training camera sees it."""
    views = [
        replace(make_view(1, shift=10.0 * shift), times=torch.tensor([time + shift])).to(device)
        for time in (0.2, 0.7)
    ]
    return Asked(views, [None, torch.tensor(1)])


class Graphed:
    """The two functions of an expert that are graphed: its Gaussians, and their projections."""

    def __init__(self, expert, kind: str) -> None:
        self.expert, self.kind = expert, kind
        self.callable = expert.graphed_projection
        if kind == "at":
            self.callable = GraphedCallable(expert.at_all, expert)

    def __call__(self, asked: Asked) -> list:
        if self.kind == "projected":
            return self.expert.project(asked.views, asked.cameras)
        times = [view.times[0] for view in asked.views]
        return self.callable(times, asked.cameras, key=self.expert.graph_key)

    def plainly(self, asked: Asked) -> list:
        """The same without any graph."""
        pairs = zip(asked.views, asked.cameras, strict=True)
        sets = [self.expert.at(view.time, camera) for view, camera in pairs]
        if self.kind == "at":
            return sets
        # With the harmonics of a capture; those of gsplat are compared with them elsewhere.
        with graphed.capturing():
            pairs = zip(sets, asked.views, strict=True)
            return [project(one, view, near=self.expert.near) for one, view in pairs]


def shapes(value) -> list[torch.Size]:
    return [tensor.shape for tensor in flatten(value)[0]]


def loss_of(sets, asked: Asked) -> torch.Tensor:
    """Depends on every tensor that has a gradient, and renders them."""
    total = torch.zeros((), device=asked.views[0].viewmats.device)
    for index, (one, view) in enumerate(zip(sets, asked.views, strict=True)):
        output = render(one, view) if isinstance(one, Gaussians) else rasterize([one], view)
        total = total + (1 + index) * output.rgb.square().mean() + output.depth.mean()
        total = total + output.gaussian_features.square().sum()
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


@pytest.mark.parametrize("kind", ["at", "projected"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", [*CONFIGS, "ex4dgs", "tracked"])
def test_training_on_graphed_gaussians_equals_training_on_those_of_the_expert(family, device, kind):
    """Also while parameters are stepped, and after rows were removed, which ends a graph."""
    plain, other = Graphed(build(family, device), kind), Graphed(build(family, device), kind)
    expert, follower = plain.expert, other.expert
    for step in range(4 * WARMUP_CALLS):
        found, asked = [], asked_of(device, 0.01 * step)
        for one, ask in ((expert, plain.plainly), (follower, other)):
            one.zero_grad()
            loss = loss_of(ask(asked), asked)
            loss.backward()
            found.append((loss.detach(), gradients(one)))
        step_alike(expert, follower)
        if step == 2 * WARMUP_CALLS:
            kept = torch.arange(expert.gauss_params.num_rows - 3, device=device)
            for one in (expert, follower):
                one.gauss_params.select_(kept)
        torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-7)
        assert found[0][1].keys() == found[1][1].keys()
        for name, gradient in found[0][1].items():
            torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-6)
    assert (other.callable.graph is not None) == (device == "cuda")


class PretendedGraph:
    """Returns what the function returned when it was captured, whatever the inputs are."""

    made: int

    def __init__(self, function, args, module, stream) -> None:
        PretendedGraph.made += 1
        self.outputs = function(*args)

    def __call__(self, *inputs):
        return self.outputs


@pytest.fixture
def pretended(monkeypatch) -> type[PretendedGraph]:
    """Captures without a GPU, to see when graphs are captured and replayed."""
    PretendedGraph.made = 0
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(GraphedCallable, "_gpu", lambda self, tensors: torch.device("cpu"))
    monkeypatch.setattr(graphed, "CaptureStream", lambda device: device)
    monkeypatch.setattr(graphed, "CapturedGraph", PretendedGraph)
    return PretendedGraph


@pytest.mark.parametrize("kind", ["at", "projected"])
@pytest.mark.parametrize("family", [*CONFIGS, "ex4dgs", "tracked"])
def test_training_and_rendering_in_turns_are_captured_once_each(pretended, family, kind):
    """Steps of two times, now and then one of a single time, and images in between."""
    ask, asked = Graphed(build(family, "cpu"), kind), asked_of("cpu")
    expert = ask.expert
    for _ in range(WARMUP_CALLS + 3):
        assert len(ask(asked)) == 2
        assert len(ask(asked.first())) == 1
        with torch.no_grad():
            shown, expected = ask(asked.first()), ask.plainly(asked.first())
            for found, wanted in zip(flatten(shown)[0], flatten(expected)[0], strict=True):
                torch.testing.assert_close(found, wanted)
    assert pretended.made == 3
    # Another set of Gaussians, or colours of another degree, is not what was captured.
    expert.gauss_params.select_(torch.arange(expert.gauss_params.num_rows - 2))
    assert shapes(ask(asked)) == shapes(ask.plainly(asked))
    assert ask.callable.graph is None
    for _ in range(WARMUP_CALLS):
        ask(asked)
    assert ask.callable.graph is not None
    expert.active_sh_degree = 1
    assert shapes(ask(asked)) == shapes(ask.plainly(asked))
    assert ask.callable.graph is None
    # Nor is what a camera of another size sees.
    if kind == "projected":
        for _ in range(WARMUP_CALLS + 1):
            ask(asked)
        assert ask.callable.graph is not None
        wider = [replace(view, width=view.width + 1) for view in asked.views]
        ask(Asked(wider, asked.cameras))
        assert ask.callable.graph is None


@pytest.mark.parametrize("calls", [WARMUP_CALLS + 1, AMORTIZED_CALLS - 1, AMORTIZED_CALLS])
def test_other_gaussians_are_captured_at_once_if_that_is_amortized(pretended, calls):
    ask, asked = Graphed(build("ed3dgs", "cpu"), "projected"), asked_of("cpu")
    for _ in range(calls):
        ask(asked)
    for count in (30, 20):
        ask.expert.gauss_params.select_(torch.arange(count))
        projected = ask(asked)
        assert (ask.callable.graph is not None) == (calls == AMORTIZED_CALLS)
        assert shapes(projected) == shapes(ask.plainly(asked))
        for _ in range(calls - 1):
            ask(asked)
    assert pretended.made == 3
    # Other plain values are no change of memory: what they lead to needs warm-up calls.
    ask.expert.active_sh_degree = 1
    ask(asked)
    assert ask.callable.graph is None


def test_only_so_many_kinds_of_calls_are_cached(pretended, monkeypatch):
    monkeypatch.setattr(graphed, "MAX_ENTRIES", 2)
    called = GraphedCallable(lambda x: x + 1.0)
    for size in (1, 2, 3):
        for _ in range(WARMUP_CALLS + 1):
            called(torch.zeros(size))
    assert pretended.made == 3 and len(called._entries) == 2
    called(torch.zeros(2))
    assert called.graph is not None
    called(torch.zeros(1))
    assert called.graph is None


def test_ids_of_cameras_are_not_captured(pretended):
    """They lie on the CPU, and a graph would keep those of its first call."""
    ask, asked = Graphed(build("stg", "cpu"), "projected"), asked_of("cpu")
    for frame in range(WARMUP_CALLS + 2):
        views = [replace(view, frame_ids=torch.tensor([frame])) for view in asked.views]
        ask(Asked(views, asked.cameras))
    assert pretended.made == 1 and len(ask.callable._entries) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("family", [*CONFIGS, "ex4dgs", "tracked"])
def test_what_is_captured(family):
    """After a few equal calls, anew when colours gain a degree, and for rendering as well."""
    ask = Graphed(build(family, "cuda"), "at")

    def call(times: int):
        gaussians: Any = None
        for _ in range(times):
            (gaussians, _) = ask(asked_of("cuda"))
        return gaussians

    call(WARMUP_CALLS)
    assert ask.callable.graph is None
    call(1)
    first = ask.callable.graph
    assert first is not None
    assert call(1).means.requires_grad and ask.callable.graph is first
    with torch.no_grad():
        for _ in range(WARMUP_CALLS + 1):
            ask(asked_of("cuda").first())
        assert ask.callable.graph not in (None, first)
    # A training goes on with its own graph after an image was rendered.
    assert call(1).means.requires_grad and ask.callable.graph is first
    ask.expert.active_sh_degree = 3
    call(1)
    assert ask.callable.graph is None
    with torch.no_grad():
        found = call(WARMUP_CALLS + 1)
        expected = ask.expert.at(asked_of("cuda").views[0].time)
        assert ask.callable.graph is not None
        torch.testing.assert_close(found.means, expected.means)
        torch.testing.assert_close(found.sh, expected.sh)


@pytest.mark.parametrize("device", DEVICES)
def test_a_deformation_that_is_turned_on_is_captured_once(device):
    """Its weights grow every step, for thousands of steps."""
    ask, asked = Graphed(build("ed3dgs", device), "at"), asked_of(device)
    graphs = set()
    for step in range(2 * WARMUP_CALLS):
        ask.expert.set_weights(0.1 * (step + 1), 0.05 * (step + 1))
        with torch.no_grad():
            (found, _), (expected, _) = ask(asked), ask.plainly(asked)
        torch.testing.assert_close(found.means, expected.means)
        torch.testing.assert_close(found.sh, expected.sh)
        torch.testing.assert_close(found.scales, expected.scales)
        graphs.add(ask.callable.graph)
    assert len(graphs) == (2 if device == "cuda" else 1) and None in graphs


@pytest.mark.gpu
def test_losses_and_regularisers_are_replayed():
    supervision = Supervision()
    expert = build("4dgaussians", "cuda")
    recipe = HexPlaneRecipeConfig().setup(expert=expert, budget=1.0, seed=0)
    for step in range(WARMUP_CALLS + 3):
        target = images(seed=1).cuda()
        found = []
        for errors in (supervision.plain_errors, Supervision().plain_errors):
            image = images(seed=step).cuda().requires_grad_()
            result = errors(image, target, 0.2)
            found.append((result, *torch.autograd.grad(result.loss, image)))
        torch.testing.assert_close(found[0][0].loss, found[1][0].loss)
        torch.testing.assert_close(found[0][0].ssim, found[1][0].ssim)
        torch.testing.assert_close(found[0][1], found[1][1])
        terms = [recipe.graphed_planes(), recipe.plane_regularizer()]
        planes, gradients = list(expert.planes.parameters()), []
        for term in terms:
            expert.zero_grad()
            term.backward()
            gradients.append([plane.grad.clone() for plane in planes])
        torch.testing.assert_close(*gradients)
        torch.testing.assert_close(*terms)
        with torch.no_grad():
            planes[0] += 0.01
    assert supervision._graphed_errors[0.2].graph is not None
    assert recipe.graphed_planes.graph is not None


def test_an_expert_without_a_graph_key_is_never_captured(pretended):
    class Cautious(type(build("stg", "cpu"))):
        graph_key = None

    expert = Cautious(STGExpertConfig(), scene(), cloud(5))
    for _ in range(WARMUP_CALLS + 1):
        assert len(expert.project(asked_of("cpu").views)) == 2
    assert pretended.made == 0
