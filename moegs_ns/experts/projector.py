"""An expert at the instants of a step, replayed on a GPU where that is possible."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.cameras import UNKNOWN_ID, View
from moegs_ns.cuda_graphs.graphed import GraphedCallable, Outputs
from moegs_ns.cuda_graphs.pytree import Form, taken_apart
from moegs_ns.experts.base import Expert
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting.projected import ProjectedGaussians, project


@dataclass(frozen=True, eq=False)
class Instant:
    """What an expert is asked for."""

    time: Float[Tensor, ""]
    camera: Int[Tensor, ""] | None = None
    """The training camera that is to be matched; None for a neutral choice."""
    view: View | None = None
    """The cameras that look, all at this time."""

    @staticmethod
    def of(view: View, camera: Int[Tensor, ""] | None = None) -> "Instant":
        """The one that the cameras of a view share."""
        return Instant(view.time, camera, view)

    @property
    def tensors(self) -> list[Tensor]:
        """What changes from one question to the next of a kind."""
        looks = [] if self.view is None else [self.view.viewmats, self.view.Ks]
        return [self.time, *looks] + ([] if self.camera is None else [self.camera])

    @property
    def kind(self) -> Hashable:
        """Everything else."""
        size = None if self.view is None else (self.view.width, self.view.height)
        return self.camera is not None, size


class Instants:
    """Asks one expert for several instants at once.

    Equal to asking for each alone, but on a GPU the answer lies in memory that the next call writes
    again: it is to be used up before.
    """

    def __init__(self, expert: Expert) -> None:
        # In a tuple, so that no module that holds this object registers the expert again.
        self._expert = (expert,)
        self._gaussians = _Answers(self._at, expert)
        self._sights = _Answers(self._seen, expert)

    @property
    def expert(self) -> Expert:
        """The expert that is asked."""
        return self._expert[0]

    def at(self, instants: Sequence[Instant]) -> list[Gaussians]:
        """The Gaussians at each of the instants."""
        return self._gaussians(instants, self.expert.replay_key)

    def seen(self, instants: Sequence[Instant]) -> list[ProjectedGaussians]:
        """What the views of the instants show of the expert."""
        return self._sights(instants, self.expert.replay_key)

    def _at(self, instants: Sequence[Instant]) -> list[Gaussians]:
        times, cameras = zip(*((instant.time, instant.camera) for instant in instants), strict=True)
        return self.expert.at_all(times, cameras)

    def _seen(self, instants: Sequence[Instant]) -> list[ProjectedGaussians]:
        sets = []
        for gaussians, instant in zip(self._at(instants), instants, strict=True):
            assert instant.view is not None
            sets.append(project(gaussians, instant.view, near=self.expert.near))
        return sets


class _Answers:
    """Answers of one kind, a dataclass of tensors for each instant."""

    def __init__(self, answer: Callable[[Sequence[Instant]], list[Any]], expert: Expert) -> None:
        self._answer = answer
        self.replayed = GraphedCallable(self._flat, expert)
        self._asked: Sequence[Instant] = ()
        self._forms: dict[Hashable, list[Form]] = {}
        """Of the answers to each kind of question, which training and showing ask in turns."""

    def __call__(self, instants: Sequence[Instant], key: Hashable | None) -> list[Any]:
        if key is None:
            return self._answer(instants)
        self._asked = instants
        kinds = tuple(instant.kind for instant in instants)
        inputs = [value for instant in instants for value in instant.tensors]
        flat = iter(self.replayed(*inputs, key=(key, kinds)))
        return [form.filled(flat) for form in self._forms[kinds]]

    def _flat(self, *inputs: Tensor) -> Outputs:
        """All tensors of all answers to what was asked last, with other values of its tensors."""
        left = iter(inputs)
        answers = self._answer([_with_tensors(instant, left) for instant in self._asked])
        parts = [taken_apart(answer) for answer in answers]
        kinds = tuple(instant.kind for instant in self._asked)
        self._forms[kinds] = [form for _, form in parts]
        return tuple(value for values, _ in parts for value in values)


def _with_tensors(instant: Instant, tensors: Any) -> Instant:
    """The same question with the next of `tensors`, in the order of `Instant.tensors`."""
    time, view = next(tensors), instant.view
    if view is not None:
        viewmats, Ks = next(tensors), next(tensors)
        unknown = torch.full((len(viewmats),), UNKNOWN_ID)
        times = time.expand(len(viewmats))
        view = View(viewmats, Ks, view.width, view.height, times, unknown, unknown)
    return Instant(time, None if instant.camera is None else next(tensors), view)
