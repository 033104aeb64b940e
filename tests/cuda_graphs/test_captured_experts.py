"""Recordings of any function: its gradients, its memory, and what may not happen meanwhile."""

import gc
from copy import deepcopy

import pytest
import torch

from moegs_ns.cuda_graphs import graphed as replay
from moegs_ns.cuda_graphs.graphed import PATIENCE, GraphedCallable


def test_no_garbage_is_collected_in_the_middle_of_a_recording():
    class Graph:
        def capture_begin(self, **options):
            assert not gc.isenabled()

        capture_end = capture_begin

    place = object.__new__(replay.Place)
    assert gc.isenabled() and not replay.is_capturing()
    with pytest.raises(RuntimeError), replay.recording(), place.recorded(Graph(), None):
        with replay.recording():
            pass
        assert not gc.isenabled() and replay.is_capturing()
        raise RuntimeError
    assert gc.isenabled() and not replay.is_capturing()


@pytest.mark.gpu
def test_gradients_are_laid_out_like_their_parameters():
    """Those of a sum are expanded, those of a transposed product transposed."""
    layer = torch.nn.Linear(3, 2).cuda()
    call = GraphedCallable(
        lambda x: ((layer.weight.T * 2.0).sum() + layer.bias.sum() + x.sum(),), layer
    )
    for _ in range(PATIENCE + 2):
        layer.zero_grad()
        call(torch.ones(4, device="cuda"))[0].backward()
    assert call.recording is not None
    for parameter in layer.parameters():
        assert parameter.grad.stride() == parameter.stride()
    torch.testing.assert_close(layer.weight.grad, torch.full_like(layer.weight, 2.0))


@pytest.mark.gpu
def test_gradients_of_several_steps_add_up():
    layer = torch.nn.Linear(3, 2).cuda()
    double = GraphedCallable(lambda x: (2.0 * layer(x),), layer)
    for _ in range(PATIENCE + 1):
        layer.zero_grad()
        double(torch.ones(4, 3, device="cuda"))[0].sum().backward()
    for _ in range(2):
        double(torch.full((4, 3), 2.0, device="cuda"))[0].sum().backward()
    assert double.recording is not None
    double(torch.ones(4, 3, device="cuda"))[0].sum().add(layer.weight.sum()).backward()
    torch.testing.assert_close(
        layer.weight.grad, torch.full_like(layer.weight, 8.0 + 16.0 + 16.0 + 9.0)
    )


@pytest.mark.gpu
def test_what_a_loss_leaves_out_has_no_gradient():
    """Nor does it keep that of the step before."""
    layer = torch.nn.Linear(3, 2).cuda()
    both = GraphedCallable(lambda x: (layer(x), x * layer.weight.sum()), layer)
    x = torch.ones(4, 3, device="cuda")
    for used in [*[(0, 1)] * (PATIENCE + 2), (0,), (1,), (0, 1)]:
        layer.zero_grad()
        sum(both(x)[place].sum() for place in used).backward()
        expected = 4.0 * (0 in used) + 12.0 * (1 in used)
        torch.testing.assert_close(layer.weight.grad, torch.full_like(layer.weight, expected))
    assert both.recording is not None


@pytest.mark.gpu
def test_memory_of_old_recordings_is_freed(monkeypatch):
    """Sets of Gaussians grow hundreds of times in a training."""
    monkeypatch.setattr(replay, "SPARE_BYTES", 10**8)
    rows = torch.nn.ParameterDict({"means": torch.zeros(10, 1000)}).cuda()
    call = GraphedCallable(lambda x: ((rows["means"].sin().cos() * x).sin(),), rows)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for count in range(10_000, 30_000, 500):
        rows["means"] = torch.nn.Parameter(torch.zeros(count, 1000, device="cuda"))
        for _ in range(PATIENCE + 1):
            call(torch.ones(1000, device="cuda"))[0].sum().backward()
        assert call.recording is not None
    largest = 4 * 30_000 * 1000
    assert torch.cuda.memory_reserved() - before < 30 * largest


@pytest.mark.gpu
def test_the_switch_turns_recording_off(monkeypatch):
    monkeypatch.setenv(replay.SWITCH, "0")
    called = GraphedCallable(lambda x: (x + 1.0,))
    for _ in range(PATIENCE + 2):
        called(torch.ones(2, device="cuda"))
    assert called.recording is None


def test_a_copy_of_what_holds_a_replayed_function_has_its_own_module():
    layer = torch.nn.Linear(3, 2)
    replayed = GraphedCallable(torch.nn.Identity(), layer)
    own, copied = deepcopy((layer, replayed))
    assert copied._module[0] is own and own is not layer
