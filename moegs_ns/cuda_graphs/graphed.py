"""CUDA graphs: functions of tensors that are captured once and replayed with one launch.

Scenes of usual size are kernel-launch bound. What is launched again and again with nothing but
other values is captured as a CUDA graph once and replayed from then on.
"""

import gc
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

SWITCH = "MOEGS_CUDA_GRAPHS"
"""Environment variable that turns capturing off where it is 0, to look for errors."""
WARMUP_CALLS = 4
"""Equal calls before a capture, which costs about as much as several of them."""
AMORTIZED_CALLS = 40
"""Equal calls after which a changed memory is captured at once, as it changes whenever Gaussians
are added. With another key something may be used for the first time, which needs warm-up calls."""
MAX_ENTRIES = 8
"""Kinds of calls in the cache; the oldest is evicted."""
MAX_UNUSED_BYTES = 4 * 10**9
"""Memory that dropped graphs may leave behind in torch's allocator before it is freed."""


@dataclass(frozen=True)
class TreeSpec:
    """A dataclass, list or tuple without its tensors."""

    kind: type | None
    """None stands for a tensor."""
    children: tuple[Any, ...] = ()


def flatten(value: Any) -> tuple[list[Tensor], Any]:
    """The tensors of any nest of dataclasses, lists and tuples, and its spec, which is hashable
    where all other values are. torch's own pytree takes dataclasses in its newest releases only."""
    if isinstance(value, Tensor):
        return [value], TreeSpec(None)
    if is_dataclass(value):
        children = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, list | tuple):
        children = value
    else:
        return [], value
    parts = [flatten(child) for child in children]
    spec = TreeSpec(type(value), tuple(spec for _, spec in parts))
    return [tensor for tensors, _ in parts for tensor in tensors], spec


def unflatten(spec: Any, tensors: Iterator[Tensor]) -> Any:
    """The inverse of `flatten`, with the next of `tensors`."""
    if not isinstance(spec, TreeSpec):
        return spec
    if spec.kind is None:
        return next(tensors)
    children = [unflatten(child, tensors) for child in spec.children]
    return spec.kind(*children) if is_dataclass(spec.kind) else spec.kind(children)


class GraphedCallable:
    """A function of tensors, replayed as a CUDA graph where that changes nothing.

    Arguments and results are nests of tensors, dataclasses, lists and tuples; values that are no
    tensors are part of the graph's key. The function must not synchronise with the host, and its
    tensors must be its arguments, or the parameters and buffers of `module`. Outputs alias static
    buffers: consume them before the next call. On the CPU, and until several equal calls were made,
    the function is simply called. Gradients go to `grad` of the parameters in `backward`;
    `torch.autograd.grad` does not see them.
    """

    def __init__(self, function: Callable[..., Any], module: nn.Module | None = None) -> None:
        self.function = function
        # In a tuple, so that no module that holds this object registers the other one again.
        self._module = (module,)
        self._stream: CaptureStream | None = None
        self._memory: Hashable = None
        self._entries: dict[Hashable, CacheEntry] = {}
        self._last = CacheEntry()

    @cached_property
    def _stores(self) -> list[Mapping[str, Tensor | None]]:
        """Those of the module. Looked up late, since while a module that holds this object is
        copied, its copy is still empty."""
        return [] if self._module[0] is None else stores(self._module[0])

    @property
    def graph(self) -> "CapturedGraph | None":
        """What the last call replayed; None if it called the function itself."""
        return self._last.graph

    def __call__(self, *args: Any, key: Hashable | None = ()) -> Any:
        """What the function returns. `key` holds further plain values that it depends on; None
        stands for a function that must not be captured."""
        if key is None or not torch.cuda.is_initialized() or os.environ.get(SWITCH) == "0":
            return self.function(*args)
        tensors, spec = flatten(args)
        device = self._gpu(tensors)
        if device is None:
            return self.function(*args)
        memory = tuple(identity(value) for store in self._stores for value in store.values())
        if memory != self._memory:
            self._memory = memory
            # Captured graphs read and write memory that is gone.
            self._entries = {kind: entry.reset() for kind, entry in self._entries.items()}
        shapes = ((value.shape, value.dtype, value.requires_grad) for value in tensors)
        entry = self._last = self._entry((*grad_mode(), *shapes), (key, spec))
        entry.calls += 1
        if entry.calls <= WARMUP_CALLS:
            return self.function(*args)
        if entry.graph is None:
            self._stream = self._stream or CaptureStream(device)
            with capturing():
                entry.graph = CapturedGraph(self.function, args, self._module[0], self._stream)
        return entry.graph(*tensors)

    def _entry(self, kind: Hashable, key: Hashable) -> "CacheEntry":
        """The cache entry of a kind of call: training and evaluation alternate, and so do steps of
        one time and of several."""
        entry = self._entries.get(kind)
        if entry is None and len(self._entries) == MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
        if entry is None or entry.key != key:
            entry = self._entries[kind] = CacheEntry(key)
        return entry

    def _gpu(self, tensors: Sequence[Tensor]) -> torch.device | None:
        """The GPU that does the work, if one does; single numbers may come from the host."""
        stored = (value for store in self._stores for value in store.values() if value is not None)
        first = next(stored, None)
        values = [value for value in tensors if value.ndim] + ([] if first is None else [first])
        is_there = len(values) > 0 and all(value.is_cuda for value in values)
        return values[0].device if is_there else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "GraphedCallable":
        # Captured graphs work on the memory of the original.
        return GraphedCallable(deepcopy(self.function, memo), deepcopy(self._module[0], memo))


@dataclass
class CacheEntry:
    """Calls of one kind, and the graph that was captured for them."""

    key: Hashable = None
    calls: int = 0
    """Those with the same key since the last one with another, or with other memory."""
    graph: "CapturedGraph | None" = None

    def reset(self) -> "CacheEntry":
        """For other memory; warms up again if the graph was not called often enough."""
        return CacheEntry(self.key, WARMUP_CALLS if self.calls >= AMORTIZED_CALLS else 0)


class CaptureStream:
    """The stream on which the graphs of one function are captured, one after the other."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self._unavoidable = 0
        self.warm_modes: set[Hashable] = set()
        """Grad modes in which libraries have initialised themselves for the stream, as they do at
        first use, which must not be captured."""
        self._set_up_matmul()

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _set_up_matmul(self) -> None:
        """Multiply matrices once, forward and backward, which runs in another thread: a function
        may begin to do so long after its first capture."""
        with torch.cuda.stream(self.stream):
            one = torch.ones(1, 1, device=self.device, requires_grad=True)
            torch.autograd.grad(torch.addmm(one[0], one, one @ one).sum(), one)

    def tidy(self) -> None:
        """Free what dropped graphs have left, once it is much: no other graph can use it.

        torch.cuda.graph would empty the allocator's cache every time, but sets of Gaussians change
        so often that allocating again would cost more than the capture.
        """
        if unused_memory(self.device) - self._unavoidable > MAX_UNUSED_BYTES:
            torch.cuda.empty_cache()
            self._unavoidable = unused_memory(self.device)

    @contextmanager
    def capture(self, graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
        """Capture what is launched; other threads, which read images ahead, may use the GPU."""
        # Freeing a graph, as the garbage collector might, is illegal during a capture.
        collects = gc.isenabled()
        gc.disable()
        try:
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                yield
            finally:
                graph.capture_end()
        finally:
            if collects:
                gc.enable()


class CapturedGraph:
    """The launches of a function and of its backward pass, on static buffers."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        module: nn.Module | None,
        stream: CaptureStream,
    ) -> None:
        inputs, spec = flatten(args)
        self._call = _FlatCall(function, module, spec)
        named = dict(self._call.named_parameters())
        self.parameters = list(named.values())
        device = stream.device
        # Leaves of their own, on the same memory: those of the module belong to autograd graphs of
        # other steps, on a stream that must not be waited for during the capture.
        self._leaves = {name: leaf(value) for name, value in named.items()}
        self.inputs = [leaf(value, value.detach().to(device, copy=True)) for value in inputs]
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self.gradients: list[Tensor | None] = []
        pool = torch.cuda.graph_pool_handle()
        stream.tidy()
        stream.stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream.stream):
            if grad_mode() not in stream.warm_modes:
                first = self._run()
                self._gradients(first, [torch.zeros_like(value) for value in first])
                stream.warm_modes.add(grad_mode())
                del first
            with stream.capture(self._forward, pool):
                self.outputs = self._run()
            self.output_gradients = [torch.zeros_like(value) for value in self.outputs]
            if any(value.requires_grad for value in self.outputs):
                with stream.capture(self._backward, pool):
                    self.gradients = self._gradients(self.outputs, self.output_gradients)
        torch.cuda.current_stream(device).wait_stream(stream.stream)
        self._anchor = torch.empty(0, device=device, requires_grad=True)
        """Ties the outputs to the autograd graph, whatever the inputs are."""
        pairs = zip(self.parameters, self.gradients[len(self.inputs) :], strict=False)
        self._pairs = [(own, gradient) for own, gradient in pairs if gradient is not None]
        """Parameters and their gradients; no pair where nothing is differentiable."""
        self.is_differentiable = [value.requires_grad for value in self.outputs]
        self.outputs = tuple(value.detach() for value in self.outputs)

    def _run(self) -> tuple[Tensor, ...]:
        return functional_call(self._call, self._leaves, tuple(self.inputs))

    def _gradients(
        self, outputs: tuple[Tensor, ...], output_gradients: Sequence[Tensor]
    ) -> list[Tensor | None]:
        """Those of all inputs and parameters; None where unused or not required."""
        pairs = [(v, g) for v, g in zip(outputs, output_gradients, strict=True) if v.requires_grad]
        sources = [*self.inputs, *self._leaves.values()]
        wanted = [value for value in sources if value.requires_grad]
        if not pairs:
            return [None] * len(sources)
        values, gradients = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(values, wanted, gradients, allow_unused=True))
        return [laid_out_like(value, next(found)) if value.requires_grad else None
                for value in sources]  # fmt: skip

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's result for other values of the input tensors and parameters."""
        replay = partial(_Replay.apply, self, self._anchor) if self.gradients else self.replay
        outputs = replay(*inputs)
        return unflatten(self._call.output_spec, iter(outputs))

    def replay(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Forward pass; the outputs alias static buffers."""
        for own, value in zip(self.inputs, inputs, strict=True):
            own.detach().copy_(value, non_blocking=True)
        self._forward.replay()
        return tuple(value.detach() for value in self.outputs)

    def replay_backward(self, output_gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Backward pass; the gradients of the inputs, in static buffers.

        Those of parameters are accumulated here: autograd's accumulation node by node would take
        the host as long as all the rest.
        """
        of_inputs = self.gradients[: len(self.inputs)]
        for parameter, gradient in self._pairs:
            kept = parameter.grad
            if kept is not None and kept.data_ptr() == gradient.data_ptr():
                parameter.grad = kept.clone()  # Gradients of several steps are being added up.
        buffers = zip(self.output_gradients, output_gradients, self.is_differentiable, strict=True)
        for own, value, is_used in buffers:
            if is_used:
                own.zero_() if value is None else own.copy_(value)
        self._backward.replay()
        for parameter, gradient in self._pairs:
            kept = parameter.grad
            parameter.grad = gradient if kept is None else kept + gradient
        return [None if value is None else value.detach() for value in of_inputs]


class _FlatCall(nn.Module):
    """A function on flat tensors, as a module that holds the parameters it reads."""

    def __init__(self, function: Callable[..., Any], module: nn.Module | None, spec: Any) -> None:
        super().__init__()
        self.function = function
        self.module = module
        self.input_spec = spec
        self.output_spec: Any = None

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs, self.output_spec = flatten(
            self.function(*unflatten(self.input_spec, iter(inputs)))
        )
        return tuple(outputs)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, graph: CapturedGraph, anchor: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.graph = graph
        ctx.set_materialize_grads(False)  # Zeros for what is not used cost a launch each.
        outputs = graph.replay(*inputs)
        plain = [v for v, d in zip(outputs, graph.is_differentiable, strict=True) if not d]
        ctx.mark_non_differentiable(*plain)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *output_gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.graph.replay_backward(output_gradients)


_thread = threading.local()


@contextmanager
def capturing() -> Iterator[None]:
    """What this thread launches is captured, or warms up for a capture."""
    before = is_capturing()
    _thread.is_capturing = True
    try:
        yield
    finally:
        _thread.is_capturing = before


def is_capturing() -> bool:
    """Whether this thread's launches must be capturable: on the current stream, and on memory that
    is neither cached nor copied from the host."""
    return getattr(_thread, "is_capturing", False)


def leaf(value: Tensor, memory: Tensor | None = None) -> Tensor:
    """A tensor on the same memory, or on another, that is differentiated like `value`."""
    memory = value.detach() if memory is None else memory
    return memory.requires_grad_(value.requires_grad)


def laid_out_like(value: Tensor, gradient: Tensor | None) -> Tensor | None:
    """A gradient with the strides of its tensor, as optimisers expect."""
    if gradient is None or gradient.stride() == value.stride():
        return gradient
    return torch.empty_like(value).copy_(gradient).detach()


def stores(module: nn.Module) -> list[Mapping[str, Tensor | None]]:
    """The dictionaries of parameters and buffers of a module and its submodules, looked up once:
    walking through all modules takes longer than many a captured function."""
    found = [(part._parameters, part._buffers) for part in module.modules()]
    return [store for pair in found for store in pair]


def unused_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory that torch holds without a tensor in them."""
    return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def grad_mode() -> tuple[bool, bool]:
    """What autograd would record of a call now."""
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled()


def identity(value: Tensor | None) -> Hashable:
    """Which memory a tensor is, and whose."""
    return (
        value if value is None else (id(value), value.data_ptr(), value.shape, value.requires_grad)
    )
