"""What a benchmark compares draws the same image, in turns, and is timed as it says."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mixture_helpers import mixture, views
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn

from moegs_ns.cameras import View
from moegs_ns.mixture import fused_blend
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.reports.benchmark import frames, steps
from moegs_ns.reports.benchmark.frames import cameras_apart, frame_rows, frames_of
from moegs_ns.reports.benchmark.steps import PARTS, WHOLE, Mark, Training, measured_steps, step_rows
from moegs_ns.reports.benchmark.ways import (
    FRAME,
    NO_GPU,
    Way,
    WholeMixture,
    environment,
    named,
    tensors_of,
)
from moegs_ns.routers import VolumeRouterConfig
from moegs_ns.splatting import backend_numba

OTHERS = ("separate passes", "released way", "experts offloaded to the host")


@pytest.fixture
def subject() -> WholeMixture:
    return WholeMixture(("a", "b"), mixture(40, 30).eval())


@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_every_way_draws_the_same_image(subject: WholeMixture, name: str):
    for view in views():
        ways = subject.ways(view)
        expected, drawn = named(ways, FRAME).render(view), named(ways, name).render(view)
        torch.testing.assert_close(drawn, expected, rtol=0.0, atol=1e-6)
        assert not torch.allclose(drawn, named(ways, "a alone").render(view), atol=1e-2)


@pytest.mark.skipif(fused_blend.kernels() is None, reason="Triton comes with torch for Linux only")
@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton interprets on CPUs only")
@pytest.mark.parametrize("name", OTHERS[:2])
@torch.no_grad()
def test_the_kernel_takes_what_passes_of_their_own_made(subject: WholeMixture, name: str):
    view = views()[0]
    expected = subject.frame(view)
    with environment({fused_blend.SWITCH: "1"}):
        assert subject.mixture.is_fusible(view, [view])
        drawn = named(subject.ways(view), name).render(view)
    torch.testing.assert_close(drawn, expected, rtol=0.0, atol=1e-5)


@torch.no_grad()
def test_ways_rasterise_as_often_as_they_say(subject: WholeMixture, monkeypatch):
    view, images, rasterize = views()[0], [], backend_numba.rasterize

    def counted(projection: Any, channels: Tensor, ids: Tensor, shape: Any) -> Any:
        images.append((shape[0], channels.shape[1]))
        return rasterize(projection, channels, ids, shape)

    monkeypatch.setattr(backend_numba, "rasterize", counted)
    found = {}
    for way in subject.ways(view):
        if not way.missing:
            images.clear()
            way.render(view)
            found[way.name] = list(images)
    assert found[FRAME] == found["raster alone"] == [(2, 7)]
    assert found["separate passes"] == [(1, 7), (1, 7)]
    assert found["released way"] == [(1, 4), (1, 3), (1, 4), (1, 3)]
    assert found["a alone"] == found["b alone"] == [(1, 4)]


def test_offloaded_experts_go_home_unchanged(subject: WholeMixture):
    own = {tensor.data_ptr() for tensor in subject.mixture.expert_modules.parameters()}
    first = subject.offloaded.experts[0]
    before = [(each.data_ptr(), each.detach().clone()) for each in tensors_of(first)]
    assert not own & {place for place, _ in before}
    with subject.offloaded.on(torch.device("cpu"), 0) as expert:
        assert expert is first
        for each in tensors_of(expert):
            each.data = each.data + 1  # Other memory, as on a GPU.
    for each, (place, value) in zip(tensors_of(first), before, strict=True):
        assert each.data_ptr() == place and torch.equal(each, value)


@torch.no_grad()
def test_a_copy_for_memory_draws_the_same(subject: WholeMixture):
    """On memory of its own; with offloading it holds no Gaussians."""
    view = views()[1]
    for way in subject.ways(view):
        if way.missing and not way.offloads:
            continue
        copy = subject.copied(way, view)
        torch.testing.assert_close(copy.render(view), way.render(view), rtol=0.0, atol=1e-6)
        mine = {each.data_ptr() for each in copy.module.parameters() if each.numel()}
        assert way.name.endswith("alone") or not mine & {
            each.data_ptr() for each in way.module.parameters()
        }
        if way.offloads:
            assert isinstance(copy.module, Mixture) and copy.module.num_gaussians == 0


def test_what_needs_a_gpu_is_left_out_with_the_reason(subject: WholeMixture):
    view = views()[0]
    missing = {way.name: way.missing for way in subject.ways(view) if way.missing}
    gpu_only = ("no CUDA graphs", "no fused kernel", "experts offloaded to the host")
    assert missing == dict.fromkeys(gpu_only, NO_GPU)
    one_set = WholeMixture(("a", "b"), mixture(40, 30, router=VolumeRouterConfig()))
    missing = {way.name: way.missing for way in one_set.ways(view) if way.missing}
    assert "one set" in missing["separate passes"] and "one set" in missing["released way"]
    assert "one set" in missing["raster alone"] and FRAME not in missing


def test_rows_of_frames(subject: WholeMixture):
    rows = {row["what"]: row for row in frame_rows(subject, frames_of(views(), 2), 60.0)}
    assert list(rows) == [way.name for way in subject.ways(views()[0])]
    for row in rows.values():
        if row["fps"] is None:
            assert row["reason"] == NO_GPU and row["median_ms"] is None and row["n"] is None
        else:
            assert row["n"] == 6 and row["min_ms"] <= row["median_ms"] <= row["max_ms"]
            assert row["fps"] == pytest.approx(1e3 / row["median_ms"], rel=1e-2)
            assert row["peak_mb"] is None and f"peak_mb: {NO_GPU}" in row["reason"]
    assert rows["separate passes"]["largest_difference"] <= 1e-6
    assert rows["a alone"]["largest_difference"] is None
    assert (rows[FRAME]["gaussians"], rows["a alone"]["gaussians"]) == (70, 40)
    assert rows["a alone"]["mb"] < rows[FRAME]["mb"]


def test_every_frame_shows_a_time_of_its_own_and_all_cameras():
    drawn = frames_of(views(3), 10)
    times = sorted(float(view.time) for view in drawn)
    torch.testing.assert_close(torch.tensor(times), torch.linspace(0, 1, 30))
    assert times != [float(view.time) for view in drawn]
    poses = [tuple(view.viewmats.flatten().tolist()) for view in drawn]
    assert sorted(map(poses.count, set(poses))) == [10, 10, 10]


def fake_way(name: str, calls: list[str]) -> Way:
    """Tells what is called."""

    def draw(prepared: View) -> Tensor:
        calls.append(f"draw {name}")
        return torch.zeros(1, 1, 3)

    def prepare(view: View) -> View:
        calls.append(f"prepare {name}")
        return view

    return Way(name, draw, nn.Identity(), prepare)


def test_frames_are_drawn_in_turns_and_warmed_up(monkeypatch):
    calls: list[str] = []

    def timed(call: Callable[[], object]) -> float:
        calls.append("clock")
        call()
        return float(calls.count("clock"))

    monkeypatch.setattr(frames, "timed", timed)
    drawn = frames_of(views(), 2)
    ways = [fake_way("a", calls), fake_way("b", calls)]
    times = frames.time_in_turns_of_views(ways, drawn, 60.0)
    warm = ["prepare a", "draw a", "prepare b", "draw b"] * frames.WARM_UP_FRAMES
    turn = ["prepare a", "clock", "draw a", "prepare b", "clock", "draw b"]
    assert calls == warm + turn * len(drawn)
    assert times == {"a": [1.0, 3.0, 5.0, 7.0, 9.0, 11.0], "b": [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]}


def test_slow_frames_end_in_time(monkeypatch):
    now = iter(range(0, 10**6, 10))
    monkeypatch.setattr(frames, "monotonic", lambda: next(now))
    ways = [fake_way("a", []), fake_way("b", [])]
    times = frames.time_in_turns_of_views(ways, frames_of(views(), 30), 35.0)
    assert len(times["a"]) == len(times["b"]) == 4


class FakeTraining(Training):
    """Parts of 1, 2, 3 ... ms of work on a device that runs behind the host."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        device = SimpleNamespace(now=0.0, queued=0.0, waits=0)
        vars(self).update(name="a", total=100, model=nn.Linear(2, 1), device=device, numbers=[])
        monkeypatch.setattr(steps, "synchronize", self.synchronize)
        monkeypatch.setattr(steps, "perf_counter", lambda: device.now)

    def synchronize(self) -> None:
        device = vars(self)["device"]
        device.waits += 1
        device.now, device.queued = device.now + device.queued, 0.0

    def step(self, number: int, mark: Mark = lambda part: None) -> None:
        vars(self)["numbers"].append(number)
        for index, part in enumerate(PARTS):
            is_timed = number > self.total + steps.WARM_UP_STEPS
            vars(self)["device"].queued += 1e-3 * (index + 1 if is_timed else 99)
            mark(part)


def test_steps_are_timed_whole_and_by_part(monkeypatch):
    training = FakeTraining(monkeypatch)
    state = vars(training)
    rows = {row["part"]: row for row in step_rows(training, 20, 60.0)}
    assert list(rows) == [WHOLE, *PARTS]
    assert [rows[part]["median_ms"] for part in PARTS] == pytest.approx([1, 2, 3, 4, 5, 6])
    # The warm-up's work was still queued when the first block began, and is not part of it.
    assert rows[WHOLE]["median_ms"] == pytest.approx(21)
    assert rows[WHOLE]["seconds_per_1000_steps"] == pytest.approx(21)
    assert rows[WHOLE]["n"] == 2 and rows["draw"]["n"] == 20
    assert rows[WHOLE]["peak_mb"] is None and NO_GPU in rows[WHOLE]["reason"]
    # Whole blocks and steps by part in turns, all after the end of the training.
    count = steps.WARM_UP_STEPS + 2 * (steps.BLOCK + 10)
    assert state["numbers"] == list(range(101, 101 + count))
    assert state["device"].waits == 2 * (2 + 10 * (1 + len(PARTS)))


def test_a_training_that_cannot_be_set_up_says_why():
    def fails() -> Iterator[None]:
        raise FileNotFoundError("Expected the teacher's run, but it is gone.")

    [row] = measured_steps("a", fails, 10, 1.0)  # type: ignore[arg-type]
    assert row["median_ms"] is None and row["reason"].startswith("Expected the teacher's run")


@pytest.mark.parametrize(("numbers", "count"), [([7, 7, 9], 2), (None, 3)])
def test_cameras_are_told_apart_by_their_numbers(numbers: list[int] | None, count: int):
    poses = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[:3].repeat(3, 1, 1)
    metadata = None if numbers is None else {"camera_id": torch.tensor(numbers)[:, None]}
    cameras = Cameras(
        poses, 20.0, 20.0, 12.0, 9.0, 24, 18, times=torch.rand(3, 1), metadata=metadata
    )
    assert len(cameras_apart(cameras, "cpu")) == count
