"""The recordings that `rig.json` describes, calibrated or not, and the frames that they share.

Imports neither datamanagers nor models, see `multiview`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from moegs_ns.data.dataparsers.alignment import Clip, choose_clip
from moegs_ns.data.dataparsers.multiview import Align
from moegs_ns.data.dataparsers.recordings import Recording, open_recording
from moegs_ns.data.frames.images import has_shape
from moegs_ns.data.rig_files import RIG, RigCamera


def open_recordings(cameras: Sequence[RigCamera], data: Path) -> list[Recording]:
    """The recordings of cameras in the scene folder `data`, from their starts on, at the sizes of
    their files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a recording cannot be the one that is described.
    """
    # Given starts count for all cameras.
    is_started = has_starts(cameras)
    return [_open(camera, data, is_started) for camera in cameras]


def has_starts(cameras: Sequence[RigCamera]) -> bool:
    """Whether frames are counted from given starts, not as clocks or numbers tell."""
    return any(camera.start is not None for camera in cameras)


def shared_clip(
    recordings: list[Recording],
    frames: tuple[int, int] | None,
    align: Align | None,
    *,
    is_started: bool,
) -> Clip:
    """The frames that all cameras have; see `choose_clip`.

    Raises:
        ValueError: some are videos and others images, or they disagree.
    """
    kinds = {bool(recording.images) for recording in recordings}
    if len(kinds) > 1:
        video = next(each for each in recordings if not each.images)
        raise ValueError(
            f"Expected videos of all cameras or images of all, but {video.path} is a video and "
            "others are images; extract the frames of the videos."
        )
    if is_started and align is None:
        # Recordings that start together rarely end together, which then is no fault.
        align = "number" if recordings[0].images else "time"
    return choose_clip(recordings, frames, align)


def _open(camera: RigCamera, data: Path, is_started: bool) -> Recording:
    recording = open_recording(data / camera.file, camera.name)
    if is_started:
        recording = recording.started(camera.start or 0)
    if camera.fps is not None:
        recording = replace(recording, fps=camera.fps)
    if camera.width is None or camera.height is None:
        return recording
    recording = recording.as_calibrated(camera.width, camera.height)
    found = (recording.width, recording.height)
    if not has_shape(*found, of=(camera.width, camera.height)):
        raise ValueError(
            f"Expected images of {camera.name} in the proportions of {camera.width}x"
            f"{camera.height}, for which {data / RIG} describes it, but {recording.path} is "
            f"{found[0]}x{found[1]} as it is shown; use the recording that was calibrated, or "
            "calibrate this one."
        )
    return recording
