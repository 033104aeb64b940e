"""Experts that are computed side by side on a GPU."""

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mixture_helpers import mixture, views

from moegs_ns.mixture import expert_streams
from moegs_ns.mixture.expert_streams import SWITCH, side_by_side


class FakeStreams:
    """Stands for torch.cuda, and records what is launched where."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, ...]] = []
        self.now = "main"
        main = self.stream("main")
        patch.setattr(torch.cuda, "current_stream", lambda: main)
        patch.setattr(torch.cuda, "stream", self.within)
        named = [self.stream("first"), self.stream("second")]
        patch.setattr(expert_streams, "streams", lambda device, count: tuple(named[:count]))

    def stream(self, name: str) -> Any:
        def waits(other: Any) -> None:
            self.events.append((name, "waits for", other.name))

        return SimpleNamespace(name=name, device=torch.device("cpu"), wait_stream=waits)

    @contextmanager
    def within(self, stream: Any):
        before, self.now = self.now, stream.name
        yield
        self.now = before

    def call(self, value: int):
        def launched() -> int:
            self.events.append((self.now, "launches", str(value)))
            return value

        return launched


WAITS = [("first", "waits for", "main"), ("second", "waits for", "main")]
WAITED = [("main", "waits for", "first"), ("main", "waits for", "second")]


def test_streams_begin_after_the_current_one_which_waits_for_them(monkeypatch: pytest.MonkeyPatch):
    fake = FakeStreams(monkeypatch)
    assert side_by_side([fake.call(k) for k in range(3)]) == [0, 1, 2]
    launched = [(name, "launches", str(k)) for k, name in enumerate(("main", "first", "second"))]
    assert fake.events == [*WAITS, *launched, *WAITED]


def test_the_current_stream_waits_after_an_error_too(monkeypatch: pytest.MonkeyPatch):
    fake = FakeStreams(monkeypatch)

    def fail() -> int:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        side_by_side([fake.call(0), fail, fake.call(2)])
    assert fake.events == [*WAITS, ("main", "launches", "0"), *WAITED]


@pytest.mark.parametrize("reason", ["switch", "capture", "one"])
def test_all_stays_on_one_stream(reason: str, monkeypatch: pytest.MonkeyPatch):
    fake = FakeStreams(monkeypatch)
    if reason == "switch":
        monkeypatch.setenv(SWITCH, "0")
    if reason == "capture":
        monkeypatch.setattr(expert_streams, "is_capturing", lambda: True)
    calls = [fake.call(k) for k in range(1 if reason == "one" else 3)]
    side_by_side(calls)
    assert fake.events == [("main", "launches", str(k)) for k in range(len(calls))]


@pytest.mark.gpu
def test_images_are_those_of_one_stream(monkeypatch: pytest.MonkeyPatch):
    """Also once graphs are captured, and where many frames follow each other without a wait."""
    built = mixture(4000, 3000, 2000).to("cuda").eval()
    cameras = [view.to("cuda") for view in views(3)] * 10
    images = {}
    with torch.no_grad():
        for switch in ("0", "1"):
            monkeypatch.setenv(SWITCH, switch)
            images[switch] = [built.render(view).rgb.clone() for view in cameras]
    for one, other in zip(images["0"], images["1"], strict=True):
        torch.testing.assert_close(one, other)


def test_experts_have_gradients_where_they_or_cameras_are_learned():
    """Then they must stay on one stream."""
    built, cameras = mixture(20, 30), views()[:1]
    assert not built.has_expert_gradients(cameras)
    cameras[0].viewmats.requires_grad_(True)
    assert built.has_expert_gradients(cameras)
    assert built.project(cameras[0])[1].projection.means2d.requires_grad
    built.thaw()
    assert built.has_expert_gradients(views())
    with torch.no_grad():
        assert not built.has_expert_gradients(cameras)
