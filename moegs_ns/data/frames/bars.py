"""Black bars that were added around the images of a recording to reach another shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Float, UInt8

_BLACK = 16.0
"""Mean grey level of a black row, at most: the black of video levels."""
_IMAGE = 32.0
"""Mean grey level of the first row of the image, at least; what is dark by itself ends softly."""
_MOST = 0.25
"""Largest bar, as a fraction of the side of the image."""


@dataclass(frozen=True)
class Bars:
    """Widths of the bars in pixels."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        return any((self.left, self.top, self.right, self.bottom))

    def inside(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what they leave of an image of this size.

        Raises:
            ValueError: they leave nothing, or are none.
        """
        size = (width - self.left - self.right, height - self.top - self.bottom)
        if min(self.left, self.top, self.right, self.bottom) < 0 or min(size) < 1:
            raise ValueError(
                f"Expected bars of at least 0 pixels that leave something of {width}x{height}, got "
                f"{self.left}, {self.top}, {self.right} and {self.bottom} at left, top, right and "
                "bottom; correct them."
            )
        return size

    def scaled(self, x: float, y: float) -> "Bars":
        """The bars where the image is resized by these factors; those of a part of a pixel count
        as whole ones."""
        return Bars(
            *(ceil(side * scale - 1e-6) for side, scale in
              ((self.left, x), (self.top, y), (self.right, x), (self.bottom, y)))
        )  # fmt: skip


NO_BARS = Bars()


def find_bars(images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Bars:
    """The bars that all these images of one camera have: rows and columns at the border that are
    black in each and end at once. Images that are black altogether have none."""
    brightest = np.max([image.mean(-1) for image in images], axis=0)
    columns, rows = brightest.mean(0), brightest.mean(1)
    return Bars(
        left=_black_until(columns),
        top=_black_until(rows),
        right=_black_until(columns[::-1]),
        bottom=_black_until(rows[::-1]),
    )


def _black_until(levels: Float[np.ndarray, "N"]) -> int:
    """Place of the first row that is not black, if it clearly is not; else 0."""
    is_image = levels > _BLACK
    first = int(np.argmax(is_image))
    clear = is_image.any() and first <= _MOST * len(levels) and levels[first] >= _IMAGE
    return first if clear else 0
