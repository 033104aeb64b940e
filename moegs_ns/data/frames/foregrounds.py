"""Images of which a mask keeps one thing, on black."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from moegs_ns.data.frames.images import decode_mask
from moegs_ns.data.frames.undistortion import Undistorter


@dataclass(frozen=True)
class Foreground:
    """What a mask keeps of an image."""

    path: Path
    """Image file of the size of the image, above 0 on the thing."""
    border: int = 0
    """Pixels around the thing that are kept as well."""

    def alone(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        image_size: tuple[int, int],
        undistort: Undistorter | None,
    ) -> UInt8[np.ndarray, "H W 3"]:
        """An image with black around the thing. `image_size` is its width and height before it was
        undistorted and resized, which the mask still has; the mask gets the nearest values.

        Raises:
            FileNotFoundError: there is no such mask.
            ValueError: it is none, or has another size.
        """
        is_kept = np.where(decode_mask(self.path, image_size), np.uint8(255), np.uint8(0))
        side = 2 * self.border + 1
        kept = cv2.dilate(is_kept, np.ones((side, side), np.uint8))
        if undistort is not None:
            kept = undistort(kept)
        size = (image.shape[1], image.shape[0])
        kept = cv2.resize(kept, size, interpolation=cv2.INTER_NEAREST)
        return np.where(kept[:, :, None] > 0, image, np.uint8(0))
