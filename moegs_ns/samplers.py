"""Samplers: which training images a step sees. Seeded, and resumed exactly."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.scene import FrameTable


class _SeededSampler:
    """What samplers share: a table, a number of views, a random stream, a limit on frames."""

    def __init__(self, table: FrameTable, views: int, seed: int) -> None:
        if len(table) == 0:
            raise ValueError("A sampler expects at least one training image, got none.")
        self.table = table
        self.views = views
        self.generator = torch.Generator().manual_seed(seed)
        self.frame_limit: int | None = None

    def observe(
        self, indices: Int[Tensor, "V"], l1: Float[Tensor, "V"], ssim: Float[Tensor, "V"] | None
    ) -> None:
        """Learn the errors of the images of a step; these samplers do not depend on them."""

    def limit_frames(self, count: int) -> None:
        """From now on draw only images of frames below `count`."""
        if not bool((self.table.frame_ids < count).any()):
            raise ValueError(f"No training image shows a frame below {count}.")
        self.frame_limit = count

    def _allowed(self) -> Int[Tensor, "A"]:
        if self.frame_limit is None:
            return torch.arange(len(self.table))
        return torch.nonzero(self.table.frame_ids < self.frame_limit)[:, 0]

    def _shuffled(self, rows: Int[Tensor, "A"]) -> Int[Tensor, "A"]:
        return rows[torch.randperm(len(rows), generator=self.generator)]

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what is drawn next; tensors and plain types."""
        return {"random": self.generator.get_state(), "frame_limit": self.frame_limit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.generator.set_state(state["random"].cpu())
        self.frame_limit = state["frame_limit"]


class ShuffledSampler(_SeededSampler):
    """Shuffled passes over all images without replacement, `views` of them per step."""

    def __init__(self, table: FrameTable, views: int, seed: int) -> None:
        super().__init__(table, views, seed)
        self.queue = torch.zeros(0, dtype=torch.long)

    def next(self, step: int) -> Int[Tensor, "V"]:
        """Rows of the table for the next step; a limit on frames holds from the next pass on."""
        while len(self.queue) < self.views:
            self.queue = torch.cat([self.queue, self._shuffled(self._allowed())])
        drawn, self.queue = self.queue[: self.views], self.queue[self.views :]
        return drawn

    def state_dict(self) -> dict[str, Any]:
        """See base."""
        return super().state_dict() | {"queue": self.queue.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See base."""
        super().load_state_dict(state)
        self.queue = state["queue"].cpu()


class SameTimeSampler(_SeededSampler):
    """A random frame and up to `views` distinct cameras that show it."""

    def __init__(self, table: FrameTable, views: int, seed: int) -> None:
        super().__init__(table, views, seed)
        self.frames = table.frame_ids.unique()
        self.rows = {
            int(frame): torch.nonzero(table.frame_ids == frame)[:, 0] for frame in self.frames
        }

    def next(self, step: int) -> Int[Tensor, "V"]:
        """Rows of the table for the next step, all of one frame."""
        frames = self.frames
        if self.frame_limit is not None:
            frames = frames[frames < self.frame_limit]
        place = int(torch.randint(len(frames), (), generator=self.generator))
        return self._shuffled(self.rows[int(frames[place])])[: self.views]
