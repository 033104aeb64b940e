"""Functions of tensors that a GPU replays in one launch.

Scenes of usual size cost a GPU less to compute than the host to launch. What is launched again and
again with nothing but other values is recorded as a CUDA graph once and replayed from then on.
"""

import gc
import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

SWITCH = "MOEGS_CUDA_GRAPHS"
"""Environment variable that turns recording off where it is 0, to look for errors."""
PATIENCE = 4
"""Equal calls before a recording is made, as it costs about as much as several of them."""
PAID_OFF = 40
"""Equal calls after which the next recording is made at once when only the memory has changed, as
it does whenever Gaussians are added. With another key something may be used for the first time."""
MOST_USES = 8
"""Kinds of calls that are told apart at once; with more of them the oldest is forgotten."""

SPARE_BYTES = 4 * 10**9
"""Memory that recordings may leave behind before it is freed."""

Outputs = tuple[Tensor, ...]


class GraphedCallable:
    """A function of tensors, replayed where that changes nothing.

    It must not read values on the host, and its tensors must be its arguments, or the parameters
    and buffers of `module`. What it returns is overwritten by the next call. On the CPU, and until
    several calls of a kind were alike, it is simply called. Gradients go to `grad` of the
    parameters in `backward`; `torch.autograd.grad` does not see them.
    """

    def __init__(self, function: Callable[..., Outputs], module: nn.Module | None = None) -> None:
        self.function = function
        # In a tuple, so that no module that holds this object registers the other one again.
        self._module = (module,)
        self._place: Place | None = None
        self._memory: Hashable = None
        self._uses: dict[Hashable, Use] = {}
        self._last = Use()

    @cached_property
    def _stores(self) -> list[Mapping[str, Tensor | None]]:
        """Those of the module; not looked up before they are needed, as a copy of a module that
        holds this object is still empty when this one is copied."""
        return [] if self._module[0] is None else stores(self._module[0])

    @property
    def recording(self) -> "CapturedGraph | None":
        """What the last call replayed; None if it called the function itself."""
        return self._last.recording

    def __call__(self, *inputs: Tensor, key: Hashable = ()) -> Outputs:
        """What the function returns; `key` are the plain values that it depends on."""
        device = self._gpu(inputs)
        if device is None:
            return self.function(*inputs)
        memory = tuple(identity(value) for store in self._stores for value in store.values())
        if memory != self._memory:
            self._memory = memory
            # What was recorded reads and writes memory that is gone.
            self._uses = {kind: use.begun_anew() for kind, use in self._uses.items()}
        forms = ((value.shape, value.dtype, value.requires_grad) for value in inputs)
        use = self._last = self._use_for((*circumstances(), *forms), key)
        use.calls += 1
        if use.calls <= PATIENCE:
            return self.function(*inputs)
        if use.recording is None:
            self._place = self._place or Place(device)
            with no_tracing(), recording():
                use.recording = CapturedGraph(self.function, inputs, self._module[0], self._place)
        return use.recording(*inputs)

    def _use_for(self, kind: Hashable, key: Hashable) -> "Use":
        """What is known of calls of a kind; training and showing come in turns, and so do steps of
        one instant and of several."""
        use = self._uses.get(kind)
        if use is None and len(self._uses) == MOST_USES:
            del self._uses[next(iter(self._uses))]
        if use is None or use.key != key:
            use = self._uses[kind] = Use(key)
        return use

    def _gpu(self, inputs: Sequence[Tensor]) -> torch.device | None:
        """The GPU that does the work, if one does; numbers may come from the host."""
        if not torch.cuda.is_initialized() or os.environ.get(SWITCH) == "0":
            return None
        kept = (value for store in self._stores for value in store.values() if value is not None)
        first = next(kept, None)
        values = [value for value in inputs if value.ndim] + ([] if first is None else [first])
        is_there = len(values) > 0 and all(value.is_cuda for value in values)
        return values[0].device if is_there else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "GraphedCallable":
        # Recordings are of the memory of the original.
        return GraphedCallable(deepcopy(self.function, memo), deepcopy(self._module[0], memo))


@dataclass
class Use:
    """Calls of one kind, and the recording that they have led to."""

    key: Hashable = None
    calls: int = 0
    """Those with the same key since the last one with another, or with other memory."""
    recording: "CapturedGraph | None" = None

    def begun_anew(self) -> "Use":
        """For other memory; patient again if the recording was not called often enough."""
        return Use(self.key, PATIENCE if self.calls >= PAID_OFF else 0)


class Place:
    """Where the recordings of one function are made, one after the other."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self._unavoidable = 0
        self.warm: set[Hashable] = set()
        """Circumstances in which libraries have set themselves up for the stream, as they do at
        first use, which must not be recorded."""
        self._set_up_products()

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _set_up_products(self) -> None:
        """Multiply matrices once, forward and backward, which happens in another thread: a function
        may begin to do so long after its first recording."""
        with torch.cuda.stream(self.stream):
            one = torch.ones(1, 1, device=self.device, requires_grad=True)
            torch.autograd.grad(torch.addmm(one[0], one, one @ one).sum(), one)

    def tidy(self) -> None:
        """Free what earlier recordings have left, once it is much: no other one can use it.

        torch.cuda.graph would free all cached memory every time, but sets of Gaussians change so
        often that to ask for it again would cost more than the recording.
        """
        if unused_memory(self.device) - self._unavoidable > SPARE_BYTES:
            torch.cuda.empty_cache()
            self._unavoidable = unused_memory(self.device)

    @contextmanager
    def recorded(self, graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
        """Record what is launched; other threads, which read images ahead, may use the GPU."""
        # To free a graph, as the garbage collector might, is not allowed in the middle of another.
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
    """The launches of a function and of its backward pass, on memory that stays where it is."""

    def __init__(
        self,
        function: Callable[..., Outputs],
        inputs: Sequence[Tensor],
        module: nn.Module | None,
        place: Place,
    ) -> None:
        self._call = _Call(function, module)
        named = dict(self._call.named_parameters())
        self.parameters = list(named.values())
        device = place.device
        # Leaves of their own, on the same memory: those of the module belong to graphs of gradients
        # of other steps, on a stream that must not be waited for while recording.
        self._leaves = {name: leaf(value) for name, value in named.items()}
        self.inputs = [leaf(value, value.detach().to(device, copy=True)) for value in inputs]
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self.gradients: list[Tensor | None] = []
        pool = torch.cuda.graph_pool_handle()
        place.tidy()
        place.stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(place.stream):
            if circumstances() not in place.warm:
                first = self._run()
                self._gradients(first, [torch.zeros_like(value) for value in first])
                place.warm.add(circumstances())
                del first
            with place.recorded(self._forward, pool):
                self.outputs = self._run()
            self.output_gradients = [torch.zeros_like(value) for value in self.outputs]
            if any(value.requires_grad for value in self.outputs):
                with place.recorded(self._backward, pool):
                    self.gradients = self._gradients(self.outputs, self.output_gradients)
        torch.cuda.current_stream(device).wait_stream(place.stream)
        self._anchor = torch.empty(0, device=device, requires_grad=True)
        """Ties the outputs to the graph of gradients, whatever the inputs are."""
        pairs = zip(self.parameters, self.gradients[len(self.inputs) :], strict=False)
        self._pairs = [(own, gradient) for own, gradient in pairs if gradient is not None]
        """Parameters and their gradients; no pair where nothing is differentiable."""
        self.is_differentiable = [value.requires_grad for value in self.outputs]
        self.outputs = tuple(value.detach() for value in self.outputs)

    def _run(self) -> Outputs:
        return functional_call(self._call, self._leaves, tuple(self.inputs))

    def _gradients(
        self, outputs: Outputs, output_gradients: Sequence[Tensor]
    ) -> list[Tensor | None]:
        """Of all inputs and parameters; None for those that need none or are not used."""
        pairs = [
            (value, gradient)
            for value, gradient in zip(outputs, output_gradients, strict=True)
            if value.requires_grad
        ]
        sources = [*self.inputs, *self._leaves.values()]
        wanted = [value for value in sources if value.requires_grad]
        if not pairs:
            return [None] * len(sources)
        values, gradients = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(values, wanted, gradients, allow_unused=True))
        return [laid_out_like(value, next(found)) if value.requires_grad else None
                for value in sources]  # fmt: skip

    def __call__(self, *inputs: Tensor) -> Outputs:
        """The outputs for other values of the inputs and parameters."""
        if not self.gradients:
            return self.replay(inputs)
        return _Replay.apply(self, self._anchor, *inputs)

    def replay(self, inputs: Sequence[Tensor]) -> Outputs:
        """Forward pass; the outputs are views of memory that is written again next time."""
        for own, value in zip(self.inputs, inputs, strict=True):
            own.detach().copy_(value, non_blocking=True)
        self._forward.replay()
        return tuple(value.detach() for value in self.outputs)

    def replay_backward(self, output_gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Backward pass; the gradients of inputs, on memory that is written again next time.

        Those of parameters are added to the parameters' own here, as to hand them on one by one
        takes the host as long as all the rest.
        """
        of_inputs = self.gradients[: len(self.inputs)]
        for parameter, gradient in self._pairs:
            kept = parameter.grad
            if kept is not None and kept.data_ptr() == gradient.data_ptr():
                parameter.grad = kept.clone()  # Gradients of several steps are being added up.
        for own, value, is_used in zip(
            self.output_gradients, output_gradients, self.is_differentiable, strict=True
        ):
            if not is_used:
                continue
            if value is None:
                own.zero_()
            else:
                own.copy_(value)
        self._backward.replay()
        for parameter, gradient in self._pairs:
            kept = parameter.grad
            parameter.grad = gradient if kept is None else kept + gradient
        return [None if value is None else value.detach() for value in of_inputs]


class _Call(nn.Module):
    """A function as a module that holds the parameters it reads."""

    def __init__(self, function: Callable[..., Outputs], module: nn.Module | None) -> None:
        super().__init__()
        self.function = function
        self.module = module

    def forward(self, *inputs: Tensor) -> Outputs:
        return self.function(*inputs)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: CapturedGraph, anchor: Tensor, *inputs: Tensor) -> Outputs:
        ctx.recording = recording
        ctx.set_materialize_grads(False)  # Zeros for what is not used cost a launch each.
        outputs = recording.replay(inputs)
        plain = [v for v, d in zip(outputs, recording.is_differentiable, strict=True) if not d]
        ctx.mark_non_differentiable(*plain)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *output_gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.recording.replay_backward(output_gradients)


_thread = threading.local()


@contextmanager
def recording() -> Iterator[None]:
    """What this thread launches is recorded, or tried out before that."""
    before = is_capturing()
    _thread.is_capturing = True
    try:
        yield
    finally:
        _thread.is_capturing = before


def is_capturing() -> bool:
    """Whether this thread's launches must be of the kind that can be recorded: on the current
    stream, and on memory that is neither kept nor copied from the host."""
    return getattr(_thread, "is_capturing", False)


@contextmanager
def no_tracing() -> Iterator[None]:
    """No tracing: nerfstudio's viewer breaks off a render by raising from a trace function, which
    must not happen in the middle of a recording or of a kernel."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def leaf(value: Tensor, memory: Tensor | None = None) -> Tensor:
    """A tensor on the same memory, or on another, that is differentiated like `value`."""
    memory = value.detach() if memory is None else memory
    return memory.requires_grad_(value.requires_grad)


def laid_out_like(value: Tensor, gradient: Tensor | None) -> Tensor | None:
    """A gradient with the strides of its tensor, as optimisers ask for."""
    if gradient is None or gradient.stride() == value.stride():
        return gradient
    return torch.empty_like(value).copy_(gradient).detach()


def stores(module: nn.Module) -> list[Mapping[str, Tensor | None]]:
    """Where a module and those in it keep parameters and buffers, looked up once: to walk through
    all modules takes longer than many a function that is replayed."""
    kept = [(part._parameters, part._buffers) for part in module.modules()]
    return [store for pair in kept for store in pair]


def unused_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory that torch holds without a tensor in them."""
    return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def circumstances() -> tuple[bool, bool]:
    """What torch would record of a call now."""
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled()


def identity(value: Tensor | None) -> Hashable:
    """Which memory a tensor is, and whose."""
    if value is None:
        return None
    return id(value), value.data_ptr(), value.shape, value.requires_grad
