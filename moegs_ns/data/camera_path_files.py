"""Camera paths in files: the JSON of the viewer's Render tab, and what may be wrong in it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.scene_files import check_ordinary

LARGEST = 1_000_000_000
"""Bytes of a camera path; a frame has some four hundred."""
MOST_PIXELS = 16_384
"""Width and height of a video at most."""
SHORTEST, LONGEST = 1e-3, 24 * 3600.0
"""Seconds of a video."""


def read_camera_path(path: Path) -> dict[str, Any]:
    """The content of a camera path.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none.
    """
    if path.exists() and not path.is_dir():
        check_ordinary(path, "a camera path", LARGEST)
    try:
        content = json.loads(path.read_text("utf8"))
    except (ValueError, RecursionError):
        content = None
    except OSError as error:
        raise OSError(
            f"Expected a camera path at {path}, but it cannot be read ({error.strerror}); name "
            "another file."
        ) from error
    if not isinstance(content, dict) or not content.get("camera_path"):
        raise ValueError(
            "Expected a camera path, the JSON of the viewer's Render tab or of `moegs render`, but "
            f"{path} is none; name another file."
        )
    frames = content["camera_path"]
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(
            f"Expected a list of frames under 'camera_path' in {path}; write the path again."
        )
    return content


def has_own_times(content: dict[str, Any]) -> bool:
    """Whether the frames of a path say which instants they show: their times differ, or somebody
    chose the one that they have."""
    times = [frame.get("render_time") for frame in content["camera_path"]]
    chosen = any(key.get("override_time_enabled") for key in content.get("keyframes") or [])
    return None not in times and (chosen or len(times) == 1 or len(set(times)) > 1)


def check_pinholes(content: dict[str, Any], path: Path) -> None:
    """Raise ValueError if a path asks for cameras that are no pinholes."""
    kind = str(content.get("camera_type", "perspective"))
    # nerfstudio would take any other name for this one.
    if kind.lower() != "perspective":
        raise ValueError(
            f"Expected a path of pinhole cameras, but {path} asks for the camera type {kind}, "
            "which Gaussians are not rendered for here; choose the type Perspective."
        )


def check_camera_path(content: dict[str, Any], path: Path) -> None:
    """Look at a path before anything is loaded; print a note where time stands still by mistake.

    Raises:
        ValueError: it asks for cameras that are no pinholes, some frames have no time, or a number
            is missing or none that a camera can have.
    """
    check_pinholes(content, path)
    frames = content["camera_path"]
    missing = [index for index, frame in enumerate(frames) if frame.get("render_time") is None]
    if 0 < len(missing) < len(frames):
        raise ValueError(
            f"Expected a render_time for every frame of {path}, but {len(missing)} of "
            f"{len(frames)} have none, the first one number {missing[0]}; add them, from 0 to 1 "
            "over the clip."
        )
    check_numbers_of_path(content, path)
    keys = content.get("keyframes") or []
    if not missing and len(keys) > 1 and not has_own_times(content):
        CONSOLE.print(
            f"All {len(frames)} frames of {path} show the time {frames[0]['render_time']:g}, the "
            "default of the Render tab; for time to run, switch on Override Time at its key "
            f"frames, or use `moegs render RUN path:file --path.file {path}`.",
            soft_wrap=True,
        )


def check_numbers_of_path(content: dict[str, Any], path: Path) -> None:
    """Raise ValueError unless size, length, poses, fields of view and times can be drawn."""
    numbers: list[tuple[str, Any, float, float]] = [
        (name, content.get(name), 1.0, MOST_PIXELS) for name in ("render_width", "render_height")
    ]
    numbers.append(("seconds", content.get("seconds"), SHORTEST, LONGEST))
    for index, frame in enumerate(content["camera_path"]):
        where = f" of frame {index}"
        numbers.append((f"fov{where}", frame.get("fov"), 0.01, 179.0))
        if frame.get("render_time") is not None:
            # Times outside of the clip are moved to its ends when they are drawn.
            numbers.append((f"render_time{where}", frame["render_time"], -math.inf, math.inf))
        _check_pose(frame.get("camera_to_world"), index, path)
    for name, value, least, most in numbers:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not least <= value <= most:
            expected = f"a number from {least:g} to {most:g}" if least > -math.inf else "a number"
            raise ValueError(
                f"Expected {expected} as {name} in the camera path {path}, got {value!r}; correct "
                "it, or write the path again."
            )


def _check_pose(value: Any, index: int, path: Path) -> None:
    try:
        pose = np.array(value, dtype=np.float64).reshape(4, 4)[:3, :3]
        is_rotation = np.allclose(pose.T @ pose, np.eye(3), atol=1e-2)
        is_finite = np.isfinite(np.array(value, dtype=np.float64)).all()
    except (TypeError, ValueError):
        is_rotation = is_finite = False
    if not (is_rotation and is_finite):
        raise ValueError(
            f"Expected 16 numbers of a rotation and a position as camera_to_world of frame {index} "
            f"in the camera path {path}, got others; write the path again."
        )
