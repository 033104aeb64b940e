"""What files of cameras say of themselves, as a rig that is not calibrated yet."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from moegs_ns.data.dataparsers.recordings import Recording, open_recording
from moegs_ns.data.frames.bars import find_bars
from moegs_ns.data.frames.decoding import FrameGroup, decode_group
from moegs_ns.data.frames.videos import read_rotation
from moegs_ns.data.rig_files import RigCamera
from moegs_ns.data.synchronisation.sound import starts_by_sound
from moegs_ns.data.synchronisation.starts import Start
from moegs_ns.data.synchronisation.timecode import starts_by_timecode

Sync = Literal["none", "timecode", "audio"]
"""What tells the starts of recordings, but for --start."""
_SYNCS: dict[Sync, Callable[[Sequence[Recording]], list[Start]]] = {
    "timecode": starts_by_timecode,
    "audio": starts_by_sound,
}
_BARS_IMAGES, _BARS_WITHIN = 5, 100
"""Images in which black bars are looked for, and the first frames from which they are taken."""
_UNSTEADY = 0.25
"""Fraction of a frame by which an interval between frames may differ from the usual one."""


@dataclass(frozen=True, eq=False)
class Probed:
    """One camera's files."""

    camera: RigCamera
    recording: Recording
    rotation: int
    """Degrees by which players turn the images."""
    synchronised: Start | None = None
    """Where timecode or sound told the start."""

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        times = self.recording.times
        shown = 0.0 if times is None else float(times[-1] - times[0])
        if times is None or len(times) < 2:
            return self.recording.num_frames / self.recording.fps
        return shown * len(times) / (len(times) - 1)

    @property
    def is_steady(self) -> bool:
        """Whether all frames follow one another in equal intervals."""
        times = self.recording.times
        if times is None or len(times) < 3:
            return True
        intervals = np.diff(times)
        usual = np.median(intervals)
        return bool(np.abs(intervals - usual).max() <= _UNSTEADY * usual)


def probe(
    paths: Sequence[Path],
    data: Path,
    starts: dict[str, int],
    fps: float | None,
    sync: Sync = "none",
) -> list[Probed]:
    """The cameras of videos, folders of images, or patterns such as `all/*_03.png`.

    Files are named relative to the scene folder `data` where they lie inside of it. `starts` are
    the frames of some cameras, by name, that show one instant; those of others are their first.
    `fps` is the rate of images, and `sync` what else tells the starts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is broken, names are ambiguous, a start is none, or starts cannot be
            told.
    """
    if starts and sync != "none":
        raise ValueError(
            f"Expected the starts of the cameras from --start or from --sync {sync}, got both; "
            "leave one of them out."
        )
    names = camera_names(paths)
    unknown = sorted(set(starts) - set(names))
    if unknown:
        raise ValueError(
            f"--start expects CAMERA=FRAME with cameras of the rig, which are {', '.join(names)}, "
            f"got {unknown[0]}; name one of them."
        )
    probed = [
        _probe(path, name, data, (starts.get(name, 0) if starts else None), fps)
        for path, name in zip(paths, names, strict=True)
    ]
    for each in probed:
        each.recording.started(each.camera.start or 0)
    if sync == "none":
        return probed
    told = _SYNCS[sync]([each.recording for each in probed])
    return [
        replace(each, camera=replace(each.camera, start=start.frame), synchronised=start)
        for each, start in zip(probed, told, strict=True)
    ]


def camera_names(paths: Sequence[Path]) -> list[str]:
    """Names of files without endings, or of their folders where the files have one name.

    Raises:
        ValueError: neither tells the cameras apart.
    """
    # Images often lie in `images` inside of the camera's folder.
    places = [path.parent if path.name == "images" else path for path in paths]
    by_file = [place.stem.strip("*_-. ") or place.parent.name for place in places]
    by_folder = [place.parent.name for place in places]
    for names in (by_file, by_folder):
        if len(set(names)) == len(names) and all(names):
            return names
    name, count = Counter(by_file).most_common(1)[0]
    raise ValueError(
        f"Expected files or folders whose names tell the cameras apart, but {count} are called "
        f"{name}; name each after its camera."
    )


def _probe(path: Path, name: str, data: Path, start: int | None, fps: float | None) -> Probed:
    # Patterns name several files.
    if "*" not in path.name and not path.exists():
        raise FileNotFoundError(
            f"Expected a video or a folder of images at {path}, but there is nothing; correct the "
            "name."
        )
    recording = open_recording(path, name)
    rate = fps if recording.images and fps is not None else recording.fps
    place = Path(os.path.abspath(path))
    folder = Path(os.path.abspath(data))
    inside = place.relative_to(folder) if place.is_relative_to(folder) else place
    camera = RigCamera(
        name,
        inside.as_posix(),
        width=recording.width,
        height=recording.height,
        start=start,
        fps=rate,
        bars=find_bars(list(decode_group(_first_images(recording), threads=1))),
    )
    return Probed(camera, recording, 0 if recording.images else read_rotation(path))


def _first_images(recording: Recording) -> FrameGroup:
    """Some images of the beginning."""
    last = min(recording.num_frames - 1, _BARS_WITHIN)
    places = sorted(set(np.linspace(0, last, _BARS_IMAGES).astype(int).tolist()))
    sources = tuple(recording.source(place) for place in places)
    return FrameGroup(recording.path, sources, recording.width, recording.height, (0, 0, 0))
