"""Training images on their way to the device: all at once where they fit, else batch by batch."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from moegs_ns.data.frames.store import FrameStore
from moegs_ns.gaussians import cat_or_single


class TrainImages:
    """Batches of a frame store on one device, with bounded memory.

    On a GPU, images that fit into `cache_gb` are kept there as uint8. Otherwise every batch is
    read from the memory maps, and the batch that is expected next is read in the background.
    """

    def __init__(self, store: FrameStore, device: torch.device, cache_gb: float) -> None:
        self.store = store
        self.device = device
        self._cache_gb = cache_gb
        self._cache: UInt8[Tensor, "M H W 3"] | None = None
        self._decided = False
        self._pool: ThreadPoolExecutor | None = None
        self._expected: tuple[list[int], Future[Tensor]] | None = None

    @property
    def is_cached(self) -> bool:
        """Whether all images lie on the device."""
        return self._cache is not None

    def read(self, indices: Int[Tensor, "V"]) -> UInt8[Tensor, "V H W 3"]:
        """Images on the device, to be read only."""
        if not self._decided:
            self._fill_cache()
        if self._cache is not None:
            # One by one, since numbers on the device would have to be copied there first.
            return cat_or_single([self._cache[index : index + 1] for index in indices.tolist()])
        expected, self._expected = self._expected, None
        if expected is not None and expected[0] == indices.tolist():
            images = expected[1].result()
        else:
            images = self._gather(indices)
        return images.to(self.device, non_blocking=True)

    def expect(self, indices: Int[Tensor, "V"]) -> None:
        """Begin to read a batch that will probably be asked for next."""
        if self._cache is not None:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="moegs-prefetch")
        self._expected = (indices.tolist(), self._pool.submit(self._gather, indices))

    def _gather(self, indices: Int[Tensor, "V"]) -> UInt8[Tensor, "V H W 3"]:
        images = self.store.gather(indices)
        return images.pin_memory() if self.device.type == "cuda" else images

    def _fill_cache(self) -> None:
        self._decided = True
        if self.device.type != "cuda" or len(set(self.store.spec.sizes)) != 1:
            return
        free, _ = torch.cuda.mem_get_info(self.device)
        # The other half of the memory belongs to the Gaussians, their gradients and optimisers.
        if self.store.num_bytes > min(self._cache_gb * 1e9, 0.5 * free):
            return
        width, height = self.store.spec.sizes[0]
        shape = (len(self.store), height, width, 3)
        cache = torch.empty(shape, dtype=torch.uint8, device=self.device)
        for index in range(len(self.store)):
            cache[index] = self.store.gather(torch.tensor([index]))[0].to(self.device)
        self._cache = cache
