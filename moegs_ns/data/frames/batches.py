"""Training images in batches on a device, and lists whose items are read when they are wanted."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Generic, TypeVar

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from moegs_ns.data.frames.store import FrameStore
from moegs_ns.gaussians import cat_or_single

T = TypeVar("T")


class TrainImages:
    """Batches of a frame store on one device, with bounded memory.

    On a GPU, images that fit into `cache_gb` are kept there as uint8. Otherwise every batch is
    read from the memory maps, and the next batch is prefetched in the background.
    """

    def __init__(self, store: FrameStore, device: torch.device, cache_gb: float) -> None:
        self.store = store
        self.device = device
        self._cache_gb = cache_gb
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="moegs-prefetch")
        self._expected: tuple[list[int], Future[Tensor]] | None = None

    @property
    def is_cached(self) -> bool:
        """Whether all images are on the device."""
        return self.cache is not None

    def read(self, indices: Int[Tensor, "V"]) -> UInt8[Tensor, "V H W 3"]:
        """Images on the device, to be read only."""
        if self.cache is not None:
            # Slices, because a tensor of indices would have to be copied to the device first.
            return cat_or_single([self.cache[index : index + 1] for index in indices.tolist()])
        expected, self._expected = self._expected, None
        if expected is not None and expected[0] == indices.tolist():
            images = expected[1].result()
        else:
            images = self._gather(indices)
        return images.to(self.device, non_blocking=True)

    def expect(self, indices: Int[Tensor, "V"]) -> None:
        """Prefetch the batch that is probably read next."""
        if self.cache is None:
            self._expected = (indices.tolist(), self._pool.submit(self._gather, indices))

    def _gather(self, indices: Int[Tensor, "V"]) -> UInt8[Tensor, "V H W 3"]:
        images = self.store.gather(indices)
        return images.pin_memory() if self.device.type == "cuda" else images

    @cached_property
    def cache(self) -> UInt8[Tensor, "M H W 3"] | None:
        """All images on the device where they fit, from the first read on."""
        if self.device.type != "cuda" or len(set(self.store.sizes)) != 1:
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        # Half of the memory stays free for the Gaussians, their gradients and optimisers.
        if self.store.num_bytes > min(self._cache_gb * 1e9, 0.5 * free):
            return None
        width, height = self.store.sizes[0]
        shape = (len(self.store), height, width, 3)
        cache = torch.empty(shape, dtype=torch.uint8, device=self.device)
        for index in range(len(self.store)):
            cache[index] = self.store.gather(torch.tensor([index]))[0].to(self.device)
        return cache


class LazySequence(Sequence, Generic[T]):
    """Stands for the lists that nerfstudio expects; each item is read when it is accessed."""

    def __init__(self, length: int, read: Callable[[int], T]) -> None:
        self._length, self._read = length, read

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> T:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._read(range(self._length)[index])
