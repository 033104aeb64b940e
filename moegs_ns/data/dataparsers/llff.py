"""Cameras of LLFF's poses_bounds.npy, by the names of what the rows belong to."""

from pathlib import Path

from moegs_ns.cameras import opengl_from_llff, viewmats_from_opengl
from moegs_ns.data.dataparsers.fixed_rig import FixedCamera
from moegs_ns.data.dataparsers.n3v import read_poses_bounds
from moegs_ns.data.lens_formats import centered_lens


def read_llff_cameras(path: Path, names: list[str]) -> list[FixedCamera]:
    """One camera for each row, with its principal point in the middle.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are other rows than names, or a row is of no camera.
    """
    rows = read_poses_bounds(path, names)
    poses = rows[:, :15].reshape(-1, 3, 5)
    viewmats = viewmats_from_opengl(opengl_from_llff(poses[:, :, :4]))
    cameras = []
    for name, viewmat, row in zip(names, viewmats, rows, strict=True):
        height, width, focal, near, far = row[[4, 9, 14, 15, 16]].tolist()
        if not (min(height, width, focal) > 0.0 and 0.0 <= near < far):
            raise ValueError(
                f"Expected a size and a focal length above 0 and bounds 0 <= near < far for {name} "
                f"in {path}, got {width:g}x{height:g}, {focal:g}, {near:g} and {far:g}; calibrate "
                "the camera again."
            )
        lens = centered_lens(focal, width, height)
        size = round(width), round(height)
        cameras.append(FixedCamera(name, lens, viewmat, *size, (near, far)))
    return cameras
