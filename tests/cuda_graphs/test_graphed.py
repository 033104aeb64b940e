"""Captured graphs of any function: arguments, gradients, memory, and what a capture forbids."""

import gc
from copy import deepcopy
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from toys import make_gaussians, make_view

from moegs_ns.cuda_graphs import graphed
from moegs_ns.cuda_graphs.graphed import WARMUP_CALLS, GraphedCallable, flatten, unflatten


def test_a_nest_of_dataclasses_is_flattened_and_put_together_again(generator):
    gaussians, view = make_gaussians(generator, 5), make_view(2)
    nest = [gaussians, (view, None, 3), torch.ones(2)]
    tensors, spec = flatten(nest)
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors)
    again, (same, nothing, number), ones = unflatten(spec, iter(tensors))
    assert nothing is None and number == 3 and ones is nest[2]
    assert vars(again) == vars(gaussians) and vars(same) == vars(view)
    # What is no tensor tells specs apart, and the values of tensors do not.
    other = replace(view, viewmats=2.0 * view.viewmats)
    assert (
        hash(flatten(view)[1]) == hash(flatten(other)[1]) and flatten(view)[1] == flatten(other)[1]
    )
    assert flatten(view)[1] != flatten(replace(view, width=1))[1]


def test_no_garbage_is_collected_during_a_capture():
    def begin_or_end(**options):
        assert not gc.isenabled()

    names = ("capture_begin", "capture_end")
    graph = Mock(spec=torch.cuda.CUDAGraph, **dict.fromkeys(names, begin_or_end))
    stream = object.__new__(graphed.CaptureStream)
    assert gc.isenabled() and not graphed.is_capturing()
    with pytest.raises(RuntimeError), graphed.capturing(), stream.capture(graph, None):
        with graphed.capturing():
            pass
        assert not gc.isenabled() and graphed.is_capturing()
        raise RuntimeError
    assert gc.isenabled() and not graphed.is_capturing()


@pytest.mark.gpu
def test_gradients_are_laid_out_like_their_parameters():
    """Those of a sum are expanded, those of a transposed product transposed."""
    layer = torch.nn.Linear(3, 2).cuda()
    call = GraphedCallable(
        lambda x: (layer.weight.T * 2.0).sum() + layer.bias.sum() + x.sum(), layer
    )
    for _ in range(WARMUP_CALLS + 2):
        layer.zero_grad()
        call(torch.ones(4, device="cuda")).backward()
    assert call.graph is not None
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()
    torch.testing.assert_close(layer.weight.grad, torch.full_like(layer.weight, 2.0))


@pytest.mark.gpu
def test_gradients_of_several_steps_add_up():
    layer = torch.nn.Linear(3, 2).cuda()
    double = GraphedCallable(lambda x: 2.0 * layer(x), layer)
    for _ in range(WARMUP_CALLS + 1):
        layer.zero_grad()
        double(torch.ones(4, 3, device="cuda")).sum().backward()
    for _ in range(2):
        double(torch.full((4, 3), 2.0, device="cuda")).sum().backward()
    assert double.graph is not None
    double(torch.ones(4, 3, device="cuda")).sum().add(layer.weight.sum()).backward()
    torch.testing.assert_close(
        layer.weight.grad, torch.full_like(layer.weight, 8.0 + 16.0 + 16.0 + 9.0)
    )


@pytest.mark.gpu
def test_what_a_loss_leaves_out_has_no_gradient():
    """Nor does it keep that of the step before."""
    layer = torch.nn.Linear(3, 2).cuda()
    both = GraphedCallable(lambda x: (layer(x), x * layer.weight.sum()), layer)
    x = torch.ones(4, 3, device="cuda")
    for used in [*[(0, 1)] * (WARMUP_CALLS + 2), (0,), (1,), (0, 1)]:
        layer.zero_grad()
        sum((both(x)[index].sum() for index in used), torch.zeros(())).backward()
        expected = 4.0 * (0 in used) + 12.0 * (1 in used)
        torch.testing.assert_close(layer.weight.grad, torch.full_like(layer.weight, expected))
    assert both.graph is not None


@pytest.mark.gpu
def test_memory_of_dropped_graphs_is_freed(monkeypatch):
    """Sets of Gaussians grow hundreds of times in a training."""
    monkeypatch.setattr(graphed, "MAX_UNUSED_BYTES", 10**8)
    rows = torch.nn.ParameterDict({"means": torch.zeros(10, 1000)}).cuda()
    call = GraphedCallable(lambda x: (rows["means"].sin().cos() * x).sin(), rows)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for count in range(10_000, 30_000, 500):
        rows["means"] = torch.nn.Parameter(torch.zeros(count, 1000, device="cuda"))
        for _ in range(WARMUP_CALLS + 1):
            call(torch.ones(1000, device="cuda")).sum().backward()
        assert call.graph is not None
    largest = 4 * 30_000 * 1000
    assert torch.cuda.memory_reserved() - before < 30 * largest


@pytest.mark.gpu
def test_the_switch_turns_capturing_off(monkeypatch):
    monkeypatch.setenv(graphed.SWITCH, "0")
    called = GraphedCallable(lambda x: x + 1.0)
    for _ in range(WARMUP_CALLS + 2):
        called(torch.ones(2, device="cuda"))
    assert called.graph is None


def test_a_copy_of_what_holds_a_graphed_callable_has_its_own_module():
    layer = torch.nn.Linear(3, 2)
    graphed_layer = GraphedCallable(torch.nn.Identity(), layer)
    own, copied = deepcopy((layer, graphed_layer))
    assert copied._module[0] is own and own is not layer
