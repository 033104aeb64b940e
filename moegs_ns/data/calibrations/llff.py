"""LLFF: `poses_bounds.npy`, rows without names."""

from pathlib import Path

import numpy as np

from moegs_ns.cameras import opengl_from_llff, viewmats_from_opengl
from moegs_ns.data.calibrations.reading import reading
from moegs_ns.data.damaged_files import damage_as_value_error
from moegs_ns.data.lens_formats import centered_lens
from moegs_ns.data.rig_files import Rig, RigCamera


def read_llff(path: Path) -> Rig:
    """One pinhole for each row, with its principal point in the middle of the image; rows belong to
    the cameras in alphabetical order, so they have no names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no array [cameras, 17].
    """
    with reading(path, "LLFF poses, an array [cameras, 17],"):
        with damage_as_value_error():
            rows = np.load(path, allow_pickle=False).astype(np.float64)
        if rows.ndim != 2 or rows.shape[1] != 17:
            raise ValueError(f"its shape is {list(rows.shape)}")
        poses = rows[:, :15].reshape(-1, 3, 5)
        viewmats = viewmats_from_opengl(opengl_from_llff(poses[:, :, :4]))
        cameras = []
        for (height, width, focal), viewmat in zip(poses[:, :, 4], viewmats, strict=True):
            lens = centered_lens(focal, width, height)
            cameras.append(RigCamera("", "", round(width), round(height), lens, viewmat[:3]))
        return Rig(tuple(cameras))
