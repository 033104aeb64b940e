"""A picture of seeds over the images that they were made from."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from moegs_ns.data.points.moving_hull import Rig
from moegs_ns.data.points.visual_hull import pixels_of

_ROWS = 12
"""Key frames that are drawn; of more, some are chosen evenly."""
_COLUMNS = 4
"""Cameras that are drawn, chosen evenly."""
_WIDTH = 400
"""Pixels of one image."""
_DIM = 0.6
"""Brightness of the images, so that seeds stand out."""
_SEED_COLOUR = (255, 255, 0)
_MOTION_COLOUR = (255, 0, 255)
_ARROWS = 150
"""Motions that are drawn in one image."""


class SeedPicture:
    """Rows of key frames, columns of cameras; seeds are yellow, and their motion until the next
    frame is a purple line."""

    def __init__(self, keys: Sequence[int]) -> None:
        places = np.linspace(0, len(keys) - 1, min(len(keys), _ROWS)).round().astype(int)
        self.drawn_frames = {keys[place] for place in places.tolist()}
        self.rows: list[UInt8[np.ndarray, "h w 3"]] = []

    def add(
        self,
        frame: int,
        images: Sequence[UInt8[np.ndarray, "H W 3"]],
        rig: Rig,
        xyz: Float[np.ndarray, "N 3"],
        later: Float[np.ndarray, "N 3"],
        cameras: Sequence[int],
    ) -> None:
        """Draw a key frame, if it is among those that are drawn; `later` is where seeds are a frame
        later."""
        if frame not in self.drawn_frames:
            return
        places = np.linspace(0, len(images) - 1, _COLUMNS).round().astype(int).tolist()
        panels = [
            _panel(images[i], rig, i, xyz, later, f"frame {frame}, camera {cameras[i]}")
            for i in places
        ]
        self.rows.append(np.concatenate(panels, axis=1))

    def drawn(self) -> UInt8[np.ndarray, "H W 3"]:
        """All rows."""
        return np.concatenate(self.rows)


def _panel(
    image: UInt8[np.ndarray, "H W 3"],
    rig: Rig,
    index: int,
    xyz: Float[np.ndarray, "N 3"],
    later: Float[np.ndarray, "N 3"],
    title: str,
) -> UInt8[np.ndarray, "h w 3"]:
    scale = _WIDTH / rig.width
    size = _WIDTH, max(1, round(scale * rig.height))
    panel = cv2.convertScaleAbs(cv2.resize(image, size, interpolation=cv2.INTER_AREA), alpha=_DIM)
    column, row, depth = pixels_of(xyz, rig.viewmats[index], rig.Ks[index])
    end_column, end_row, end_depth = pixels_of(later, rig.viewmats[index], rig.Ks[index])
    is_shown = (depth > 0) & (end_depth > 0)
    is_shown &= (column >= 0) & (column < rig.width) & (row >= 0) & (row < rig.height)
    starts = (scale * np.stack([column, row], 1)[is_shown]).astype(int)
    ends = (scale * np.stack([end_column, end_row], 1)[is_shown]).astype(int)
    every = max(1, len(starts) // _ARROWS)
    for start, end in zip(starts[::every].tolist(), ends[::every].tolist(), strict=True):
        cv2.line(panel, start, end, _MOTION_COLOUR, 1)
    x, y = np.minimum(starts, np.array(size) - 1).T
    panel[y, x] = _SEED_COLOUR
    cv2.putText(panel, title, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
    return panel
