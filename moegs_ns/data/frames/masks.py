"""Masks that come with images: which of their pixels count in losses and figures."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from nerfstudio.data.utils.data_utils import get_image_mask_tensor_from_path
from torch import Tensor

from moegs_ns.data.frames.images import missing_file


class ImageMasks:
    """The masks of M images as nerfstudio reads them: pixels above 0 count.

    Each file is read once, at its first use, and then kept with one bit per pixel.
    """

    def __init__(
        self, paths: Sequence[Path], sizes: Sequence[tuple[int, int]], scale_factor: float = 1.0
    ) -> None:
        """Opens no file yet.

        Each image has a mask file and a size (width, height), which the mask must have after
        `scale_factor` is applied to it.
        """
        self._paths, self._sizes, self._scale = tuple(paths), tuple(sizes), scale_factor
        self._bits: dict[tuple[Path, tuple[int, int]], UInt8[np.ndarray, "_"]] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Bool[Tensor, "H W 1"]:
        """The mask of one image.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no mask, or has another size than the image.
        """
        path, (width, height) = self._paths[index], self._sizes[index]
        key = path, (width, height)
        if key not in self._bits:
            self._bits[key] = np.packbits(_read(path, width, height, self._scale))
        bits = np.unpackbits(self._bits[key], count=height * width)
        return torch.from_numpy(bits).bool().reshape(height, width, 1)

    def gather(self, indices: Int[Tensor, "V"]) -> Bool[Tensor, "V H W 1"]:
        """The masks of some images of one size."""
        return torch.stack([self[index] for index in indices.tolist()])

    def describe(self) -> str:
        """One sentence that shows masks which are the wrong way round.

        Raises:
            ValueError: no pixel of any image counts.
        """
        counted = sum(int(self[index].sum()) for index in range(len(self)))
        total = sum(width * height for width, height in self._sizes)
        if counted == 0:
            raise ValueError(
                f"Expected masks that are above 0 where images count, but those of all {len(self)} "
                f"training images are 0 everywhere, such as {self._paths[0]}; save them the right "
                "way round."
            )
        return f"Masks: {counted / total:.1%} of the training pixels count in losses and figures."

    def read_all(self) -> None:
        """Read what has not been read yet; see `__getitem__` for errors."""
        first = {key: index for index, key in enumerate(zip(self._paths, self._sizes, strict=True))}
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.__getitem__, first.values()))


def _read(path: Path, width: int, height: int, scale_factor: float) -> Bool[np.ndarray, "h w 1"]:
    try:
        mask = get_image_mask_tensor_from_path(path, scale_factor).numpy()
    except FileNotFoundError:
        raise missing_file(path, "a mask") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"Expected a mask of one channel at {path}, but it cannot be read as one "
            f"({str(error).splitlines()[0]}); save it as a grey image whose pixels are 0 where the "
            "image does not count."
        ) from error
    if mask.shape != (height, width, 1):
        raise ValueError(
            f"Expected a mask of the image's size ({width}x{height}) at {path}, but it has "
            f"{mask.shape[1]}x{mask.shape[0]}; save it in that size, or remove mask_path from the "
            "data."
        )
    return mask
