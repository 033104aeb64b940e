"""Which images E-D3DGS trains on: far cameras, badly rendered frames, bursts of one frame."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.configs.base_config import PrintableConfig
from torch import Tensor

from moegs_ns.scene import FrameTable
from moegs_ns.training.optimizers import scaled_steps
from moegs_ns.training.samplers import Sampler

UNSEEN_ERROR = 100.0
"""Error of an image that has not been trained on, so that its frame comes soon."""
NO_IMAGE = -1
MAX_COMPARED = 1000
"""Cameras whose distances are compared; of more, as a single moving one has, some are left out."""


@dataclass
class ErrorSamplingConfig(PrintableConfig):
    """When frames are drawn by their errors; steps are those of the full recipe."""

    random_until: int = 10000
    """Step up to which frames are drawn evenly; published as 60000 for Technicolor."""
    burst_every: int = 50
    """Steps from one burst to the next, at any budget. In a burst cameras change and the frame
    stays, and the loss includes D-SSIM."""
    burst_steps: int = 5
    """Steps of a burst. In the release a sixth one shows the same frame without that term."""
    far_quantile: float = 0.5
    """A camera follows another one that is farther away than this fraction of the distances between
    all cameras, if there is one; the paper says 0.4."""

    def scaled(self, budget: float) -> "ErrorSamplingConfig":
        """The schedule of a run that gets a fraction `budget` of the steps, which the methods below
        are asked about; they count from 1."""
        return replace(self, random_until=scaled_steps(self.random_until, budget))

    def is_burst(self, done: int) -> bool:
        """Whether a step belongs to a burst."""
        return done >= self.random_until and done % self.burst_every < self.burst_steps

    def keeps_frame(self, done: int) -> bool:
        """Whether a step shows the frame of the one before."""
        is_first = done % self.burst_every == 0 or not self.is_burst(done - 1)
        return self.is_burst(done) and not is_first

    def is_by_error(self, done: int) -> bool:
        """Whether a step draws its frame by errors: in bursts and else every other time."""
        return self.is_burst(done) or (done >= self.random_until and done % 2 == 0)


@dataclass(frozen=True, eq=False)
class Observation:
    """Errors of a step's images, perhaps still on their way from the GPU."""

    step: int
    indices: Int[Tensor, "V"]
    l1: Float[Tensor, "V"]
    arrival: torch.cuda.Event | None = None

    def arrived(self) -> Float[Tensor, "V"]:
        """The errors, for which it waits if need be."""
        if self.arrival is not None:
            self.arrival.synchronize()
        return self.l1


class ErrorSampler(Sampler):
    """One image per step, by a camera far from the last one (Bae et al., ECCV 2024).

    Errors count from the step after next on, so that no step waits for the GPU to finish the one
    before. The release reads camera centres in another order than images, so that its cameras are
    far from each other by chance only; here they are.
    """

    def __init__(self, table: FrameTable, schedule: ErrorSamplingConfig, seed: int) -> None:
        self.schedule = schedule
        self._errors = torch.full((len(table),), UNSEEN_ERROR)
        self._pending: list[Observation] = []
        self._last_index, self._last_step = NO_IMAGE, -1
        self._frames, self._frame_of_image = torch.unique(table.frame_ids, return_inverse=True)
        self._far_distance = far_distance(table, schedule.far_quantile)
        super().__init__(table, 1, seed)

    def next(self, step: int) -> Int[Tensor, "V"]:
        """The index of the image to train on at this step."""
        self._last_index, self._last_step = self._draw(step), step
        return torch.tensor([self._last_index])

    def peek(self) -> Int[Tensor, "V"]:
        """What `next` will return for the following step; draws nothing."""
        state = self._generator.get_state()
        index = self._draw(self._last_step + 1)
        self._generator.set_state(state)
        return torch.tensor([index])

    def observe(
        self, indices: Int[Tensor, "V"], l1: Float[Tensor, "V"], ssim: Float[Tensor, "V"] | None
    ) -> None:
        """Take note of the absolute errors of images that were just trained on."""
        arrival, host = None, l1.detach().to("cpu", non_blocking=True, copy=True)
        if l1.is_cuda:
            arrival = torch.cuda.Event()
            arrival.record()
        self._pending.append(Observation(self._last_step, indices.cpu(), host, arrival))

    def _draw(self, step: int) -> int:
        self._update_errors(step)
        images = self._far_images(self._images_of_frame[self._draw_frame(step + 1)])
        return int(images[torch.randint(len(images), (), generator=self._generator)])

    def _update_errors(self, step: int) -> None:
        """Enter all errors but those of the step that may not be finished."""
        while self._pending and self._pending[0].step < step - 1:
            observation = self._pending.pop(0)
            self._errors[observation.indices] = observation.arrived()

    def _draw_frame(self, done: int) -> int:
        """Index of a frame among the distinct ones."""
        if self.schedule.keeps_frame(done) and self._last_index != NO_IMAGE:
            frame = int(self._frame_of_image[self._last_index])
            # A frame that one camera shows would be the same image again and again.
            if self._is_drawn[frame] and len(self._images_of_frame[frame]) > 1:
                return frame
        weights = self._is_drawn.float()
        if self.schedule.is_by_error(done):
            weights = self._frame_weights()
        return int(torch.multinomial(weights, 1, generator=self._generator))

    def _frame_weights(self) -> Float[Tensor, "F"]:
        """Mean error of each frame over the images of it that may be drawn: 0 for the best frame, 1
        for the worst one; even where all are equal.
        """
        frames, errors = self._frame_of_image[self.may_draw], self._errors[self.may_draw]
        sums = torch.zeros(len(self._frames)).index_add_(0, frames, errors)
        counts = torch.bincount(frames, minlength=len(self._frames))
        errors = sums[self._is_drawn] / counts[self._is_drawn]
        spread = errors.amax() - errors.amin()
        weights = self._is_drawn.float()
        if float(spread) > 0.0:
            weights[self._is_drawn] = (errors - errors.amin()) / spread
        return weights

    def _far_images(self, images: Int[Tensor, "V"]) -> Int[Tensor, "W"]:
        """Those of the images that another camera took, and far from the last one if any is."""
        if self._last_index == NO_IMAGE:
            return images
        cameras, positions = self.table.camera_ids, self.table.positions
        others = images[cameras[images] != cameras[self._last_index]]
        if len(others) == 0:
            return images
        if positions is None:
            return others
        distances = (positions[others] - positions[self._last_index]).norm(dim=-1)
        far = others[distances >= self._far_distance]
        return far if len(far) else others

    def _rebuild(self) -> None:
        may_draw = self.may_draw
        self._images_of_frame = [
            torch.nonzero(may_draw & (self._frame_of_image == frame))[:, 0]
            for frame in range(len(self._frames))
        ]
        self._is_drawn = torch.tensor([len(images) > 0 for images in self._images_of_frame])

    def state_dict(self) -> dict[str, Any]:
        """The random stream, the errors, those that are not entered yet, and the last draw."""
        return {
            **super().state_dict(),
            "errors": self._errors.clone(),
            "pending": [(o.step, o.indices, o.arrived().clone()) for o in self._pending],
            "last": [self._last_index, self._last_step],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        super().load_state_dict(state)
        self._errors = state["errors"].cpu().clone()
        self._pending = [
            Observation(int(step), ids.cpu(), l1.cpu()) for step, ids, l1 in state["pending"]
        ]
        self._last_index, self._last_step = (int(value) for value in state["last"])


def far_distance(table: FrameTable, quantile: float) -> float:
    """The given quantile of the distances between cameras, each taken where it is seen first; 0 for
    a single camera or unknown positions.
    """
    if table.positions is None or len(table) == 0:
        return 0.0
    ids = table.camera_ids.tolist()
    first = list({camera: index for index, camera in reversed(list(enumerate(ids)))}.values())
    every = len(first) // MAX_COMPARED + 1
    distances = torch.pdist(table.positions[first[::every]])
    return float(distances.quantile(quantile)) if len(distances) else 0.0
