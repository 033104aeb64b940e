"""`moegs prepare rig` and `calibrate`: from recordings and a calibration to `rig.json`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from nerfstudio.utils.rich_utils import CONSOLE
from rich.table import Table

from moegs_ns.data.calibrations.formats import read_calibration_file
from moegs_ns.data.calibrations.matching import Verdict, calibrate_rig
from moegs_ns.data.dataparsers.alignment import choose_clip
from moegs_ns.data.dataparsers.multiview import checked_fps
from moegs_ns.data.rig_files import RIG, Rig, read_rig, write_rig
from moegs_ns.data.rig_probing import Probed, probe


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
        starts = {name: _frame(name, value) for name, value in _pairs(self.start, "--start")}
        probed = probe(self.videos, data, starts, fps)
        write_rig(output, Rig(tuple(each.camera for each in probed)))
        CONSOLE.print(_probe_table(probed))
        note = _agreement(probed)
        CONSOLE.print(f"{output}: {len(probed)} cameras, not calibrated yet. {note}".strip())


@dataclass
class PrepareCalibrate:
    """Give the cameras of rig.json lenses and poses from a calibration of Qualisys (.qca.txt),
    anipose (.toml), EasyMocap (intri.yml), CMU Panoptic (.json), COLMAP (folder of a model; needs
    `pip install moegs_ns[prepare]`), nerfstudio (transforms.json), LLFF (poses_bounds.npy) or
    Immersive Light Field Video (models.json)."""

    data: Path
    """Folder of the scene, with rig.json."""
    source: Annotated[Path, tyro.conf.arg(name="from")]
    """File or folder of the calibration."""
    names: tuple[str, ...] = ()
    """CAMERA=CALIBRATED: names of cameras in the calibration, where they differ from the rig's in
    more than what stands around them (hd_00_05 and 00_05 belong together by themselves)."""
    overwrite: bool = False
    """Replace the calibration that the rig has."""

    def main(self) -> None:
        """Read the calibration, write it into the rig file, print a verdict on each camera."""
        output = self.data / RIG
        rig = read_rig(output)
        if any(camera.is_calibrated for camera in rig.cameras) and not self.overwrite:
            raise FileExistsError(
                f"The rig {output} is calibrated already; add --overwrite to replace that."
            )
        calibration, name = read_calibration_file(self.source)
        names = dict(_pairs(self.names, "--names"))
        calibrated, verdicts = calibrate_rig(rig, calibration, self.data, names)
        write_rig(output, calibrated)
        CONSOLE.print(_calibration_table(verdicts))
        unused = {c.name for c in calibration.cameras} - {v.calibrated_as for v in verdicts} - {""}
        if unused:
            CONSOLE.print(f"Without a recording: {', '.join(sorted(unused))}.")
        faulty = [verdict for verdict in verdicts if verdict.fault]
        good = len(verdicts) - len(faulty)
        CONSOLE.print(f"{output}: {good} of {len(verdicts)} cameras calibrated, from {name}.")
        if faulty:
            reasons = "; ".join(f"{each.camera.name}: {each.fault}" for each in faulty)
            raise ValueError(
                f"Expected a usable calibration of every camera in {self.source}, but {reasons}. "
                "Correct it and calibrate again with --overwrite, or train without these cameras "
                "(--exclude-cameras after rig-data)."
            )


def _pairs(texts: Sequence[str], option: str) -> list[tuple[str, str]]:
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
    if any(each.camera.start is not None for each in probed):
        return "Frames are counted from the given starts."
    if len({bool(each.recording.images) for each in probed}) > 1:
        return "Warning: some cameras are videos, others images; extract the frames of the videos."
    try:
        clip = choose_clip([each.recording for each in probed], None, None)
    except ValueError as error:
        return f"Warning: {error}"
    return f"All share {len(clip.shared)} frames at {clip.fps:.4g} per second."


def _probe_table(probed: Sequence[Probed]) -> Table:
    table = Table("camera", "size", "frames", "per second", "seconds", "turned", "start")
    for each in probed:
        camera, rate = each.camera, f"{each.camera.fps:.4g}"
        table.add_row(
            camera.name,
            f"{camera.width}x{camera.height}",
            str(each.recording.num_frames),
            rate if each.is_steady else f"{rate}, varies",
            f"{each.seconds:.2f}",
            f"{each.rotation} degrees" if each.rotation else "no",
            "by clock" if camera.start is None else f"frame {camera.start}",
        )
    return table


def _calibration_table(verdicts: Sequence[Verdict]) -> Table:
    table = Table("camera", "calibrated as", "size", "focal (px)", "off-centre", "lens moves", "")
    for each in verdicts:
        camera = each.camera
        size = f"{camera.width}x{camera.height}"
        if camera.lens is None:
            table.add_row(camera.name, "-", size, "-", "-", "-", each.fault)
            continue
        table.add_row(
            camera.name,
            each.calibrated_as,
            size,
            f"{camera.lens.fx:.1f}, {camera.lens.fy:.1f}",
            f"{each.center_offset:.1f} px",
            f"{each.corner_shift:.1f} px",
            each.fault or "good",
        )
    return table
