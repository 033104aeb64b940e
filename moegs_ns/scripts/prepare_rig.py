"""`moegs prepare rig`: from recordings to `rig.json`."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from nerfstudio.utils.rich_utils import CONSOLE
from rich.table import Table

from moegs_ns.data.dataparsers.alignment import choose_clip
from moegs_ns.data.dataparsers.multiview import checked_fps
from moegs_ns.data.frames.bars import Bars
from moegs_ns.data.rig_files import RIG, Rig, write_rig
from moegs_ns.data.rig_probing import Probed, Sync, probe


@dataclass
class PrepareRig:
    """Describe the cameras of a scene in rig.json: videos, folders of images, or quoted patterns
    such as 'all/*_03.png', one for each camera. `moegs prepare calibrate` adds lenses and poses."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Recordings, one for each camera."""
    data: Path | None = None
    """Folder of the scene, where rig.json is written; by default the folder of the recordings."""
    start: tuple[str, ...] = ()
    """CAMERA=FRAME: frames, from 0, that show one instant, the first of the scene. Cameras that are
    not named start with their first frame. By default, clocks and numbers of the files tell."""
    sync: Sync = "none"
    """What tells the starts instead of --start: the timecode in the files, or their sound, which is
    compared with that of the first camera."""
    fps: float | None = None
    """Frames per second of images, 30 by default; videos say it themselves."""
    overwrite: bool = False
    """Replace rig.json if it exists."""

    def main(self) -> None:
        """Probe the recordings, write the file, print what is in it."""
        if not self.videos:
            raise ValueError("Expected the recordings of the cameras, got none; name their files.")
        parents = [os.path.abspath(path.parent) for path in self.videos]
        data = self.data or Path(os.path.commonpath(parents))
        output = data / RIG
        if output.exists() and not self.overwrite:
            raise FileExistsError(
                f"The rig {output} exists already; add --overwrite to replace it, with its "
                "calibration."
            )
        fps = None if self.fps is None else checked_fps(self.fps)
        starts = {name: _frame(name, value) for name, value in name_pairs(self.start, "--start")}
        probed = probe(self.videos, data, starts, fps, self.sync)
        write_rig(output, Rig(tuple(each.camera for each in probed)))
        CONSOLE.print(_probe_table(probed))
        note = _agreement(probed)
        CONSOLE.print(f"{output}: {len(probed)} cameras, not calibrated yet. {note}".strip())


def name_pairs(texts: Sequence[str], option: str) -> list[tuple[str, str]]:
    """Names of cameras and values of an option like `--start cam00=12`.

    Raises:
        ValueError: a text is no pair, or a camera appears twice.
    """
    pairs = [(name, value) for name, _, value in (text.rpartition("=") for text in texts)]
    for text, (name, value) in zip(texts, pairs, strict=True):
        if not (name and value):
            raise ValueError(f"{option} expects pairs like cam00=VALUE, got {text}; correct it.")
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError(f"{option} expects each camera once, got {' '.join(texts)}; correct it.")
    return pairs


def _frame(name: str, value: str) -> int:
    if not value.isdecimal():
        raise ValueError(
            f"--start expects the number of a frame, from 0, got {name}={value}; correct it."
        )
    return int(value)


def _agreement(probed: Sequence[Probed]) -> str:
    """One sentence about frames that belong together."""
    if any(each.synchronised is not None for each in probed):
        return _shared_rest(probed)
    if any(each.camera.start is not None for each in probed):
        return "Frames are counted from the given starts."
    if len({bool(each.recording.images) for each in probed}) > 1:
        return "Warning: some cameras are videos, others images; extract the frames of the videos."
    try:
        clip = choose_clip([each.recording for each in probed], None, None)
    except ValueError as error:
        return f"Warning: {error}"
    return f"All share {len(clip.shared)} frames at {clip.fps:.4g} per second."


def _shared_rest(probed: Sequence[Probed]) -> str:
    """What is left from the starts on."""
    lengths = [
        (each.recording.num_frames - (each.camera.start or 0)) / each.recording.fps
        for each in probed
    ]
    largest = max(abs(each.synchronised.early) for each in probed if each.synchronised)
    return (
        f"From their starts on, all show {min(lengths):.2f} s, at most {largest:.2f} frames away "
        "from one another's instants."
    )


def _start(probed: Probed) -> str:
    start, told = probed.camera.start, probed.synchronised
    if start is None:
        return "by clock"
    if told is None:
        return f"frame {start}"
    surely = "" if told.confidence is None else f", confidence {told.confidence:.1f}"
    return f"frame {start}, {told.early:+.2f} frames off{surely}"


def _bars(bars: Bars) -> str:
    sides = [f"{width} {side}" for side, width in asdict(bars).items() if width]
    return f"{', '.join(sides)} px" if sides else "no"


def _probe_table(probed: Sequence[Probed]) -> Table:
    table = Table("camera", "size", "bars", "frames", "per second", "seconds", "turned", "start")
    for each in probed:
        camera, rate = each.camera, f"{each.camera.fps:.4g}"
        table.add_row(
            camera.name,
            f"{camera.width}x{camera.height}",
            _bars(camera.bars),
            str(each.recording.num_frames),
            rate if each.is_steady else f"{rate}, varies",
            f"{each.seconds:.2f}",
            f"{each.rotation} degrees" if each.rotation else "no",
            _start(each),
        )
    return table
