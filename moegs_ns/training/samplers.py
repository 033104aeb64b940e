"""Samplers: which training images the next step looks at.

A sampler owns its random stream, so a run that is resumed from `state_dict` draws exactly what the
uninterrupted run would have drawn.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from moegs_ns.scene import FrameTable


class Sampler:
    """What the datamanager and the recipes need: the frame table, which of its images may be drawn,
    and the random stream that all samplers share."""

    def __init__(self, table: FrameTable, views: int, seed: int) -> None:
        if len(table) == 0:
            raise ValueError("There are no training images to sample; check the data folder.")
        if views < 1:
            raise ValueError(f"A step needs at least 1 view, got {views}.")
        self.table = table
        self.views = views
        self._limit = int(table.frame_ids.max()) + 1
        self._left_out = torch.zeros(len(table), dtype=torch.bool)
        self._generator = torch.Generator().manual_seed(seed)
        self._rebuild()

    def limit_frames(self, n: int) -> None:
        """Draw only frames below `n` from now on; unchanged limits change nothing.

        Raises:
            ValueError: no training image has a frame below `n`.
        """
        n = min(int(n), int(self.table.frame_ids.max()) + 1)
        frames = self.table.frame_ids[~self._left_out]
        if not bool((frames < n).any()):
            raise ValueError(
                f"No training image shows a frame below {n}; the first one is frame "
                f"{int(frames.min())}."
            )
        if n != self._limit:
            self._limit = n
            self._rebuild()

    def leave_out(self, rows: Bool[Tensor, "M"] | None) -> None:
        """Draw none of the marked images from now on; None for none left out.

        Raises:
            ValueError: no image below the limit of frames would be left.
        """
        rows = torch.zeros(len(self.table), dtype=torch.bool) if rows is None else rows.cpu()
        if not bool((~rows & (self.table.frame_ids < self._limit)).any()):
            raise ValueError(
                "No training image is left to draw; leave fewer cameras out (--honest-cameras)."
            )
        if not torch.equal(rows, self._left_out):
            self._left_out = rows
            self._rebuild()

    @property
    def may_draw(self) -> Bool[Tensor, "M"]:
        """The images that are drawn: below the limit of frames and not left out."""
        return (self.table.frame_ids < self._limit) & ~self._left_out

    def observe(
        self, indices: Int[Tensor, "V"], l1: Float[Tensor, "V"], ssim: Float[Tensor, "V"] | None
    ) -> None:
        """Take note of the errors of images that were just trained on; ignored by default."""

    def peek(self) -> Int[Tensor, "V"]:
        """What `next` will return if nothing changes until then; draws nothing."""
        state = self.state_dict()
        indices = self.next(0)
        self.load_state_dict(state)
        return indices

    def next(self, step: int) -> Int[Tensor, "V"]:
        """Rows of the frame table to train on at this step."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The random stream, the frame limit and what is left out."""
        return {
            "generator": self._generator.get_state(),
            "limit": self._limit,
            "left_out": self._left_out.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        left_out = state.get("left_out", self._left_out).cpu()
        if int(state["limit"]) != self._limit or not torch.equal(left_out, self._left_out):
            self._limit, self._left_out = int(state["limit"]), left_out
            self._rebuild()
        # Checkpoints may be mapped to a GPU on load, but a generator's state lives on the CPU.
        self._generator.set_state(state["generator"].cpu())

    def _rebuild(self) -> None:
        """Prepare for other images that may be drawn."""
        raise NotImplementedError


class ShuffledSampler(Sampler):
    """Passes over all images in random order, without replacement within a pass.

    With more than one view the images of a step show different times; such a batch is rendered
    one image after the other.
    """

    def next(self, step: int) -> Int[Tensor, "V"]:
        """The next `views` images of the shuffled pass (fewer when fewer exist)."""
        wanted = min(self.views, len(self._eligible))
        drawn = self._order[self._cursor : self._cursor + wanted]
        self._cursor += len(drawn)
        if len(drawn) < wanted:
            self._shuffle()
            # An image that ends the old pass must not come twice in one step.
            fresh = self._order[~torch.isin(self._order, drawn)][: wanted - len(drawn)]
            rest = self._order[~torch.isin(self._order, fresh)]
            self._order, self._cursor = torch.cat([fresh, rest]), len(fresh)
            drawn = torch.cat([drawn, fresh])
        return drawn.clone()

    def state_dict(self) -> dict[str, Any]:
        """The random stream, the frame limit and what is left of the current pass."""
        return {**super().state_dict(), "order": self._order.clone(), "cursor": self._cursor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on in the middle of the pass where `state` was taken."""
        super().load_state_dict(state)
        self._order = state["order"].cpu().clone()
        self._cursor = int(state["cursor"])

    def _rebuild(self) -> None:
        self._eligible = torch.nonzero(self.may_draw).reshape(-1)
        self._order, self._cursor = self._eligible[:0], 0

    def _shuffle(self) -> None:
        permutation = torch.randperm(len(self._eligible), generator=self._generator)
        self._order, self._cursor = self._eligible[permutation], 0


class SameTimeSampler(Sampler):
    """One random frame per step, seen by `views` distinct cameras (fewer when fewer show it)."""

    def next(self, step: int) -> Int[Tensor, "V"]:
        """Images of one frame by distinct cameras."""
        which = int(torch.randint(len(self._rows_of_frame), (), generator=self._generator))
        rows = self._rows_of_frame[which]
        return rows[torch.randperm(len(rows), generator=self._generator)[: self.views]]

    def _rebuild(self) -> None:
        first_row: dict[int, dict[int, int]] = {}
        pairs = zip(self.table.frame_ids.tolist(), self.table.camera_ids.tolist(), strict=True)
        may_draw = self.may_draw.tolist()
        for row, (frame, camera) in enumerate(pairs):
            if may_draw[row]:
                first_row.setdefault(frame, {}).setdefault(camera, row)
        self._rows_of_frame = [
            torch.tensor(list(first_row[frame].values())) for frame in sorted(first_row)
        ]
