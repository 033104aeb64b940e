"""`moegs prepare check`: is the footage of a scene good enough to train on?"""

import json
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from nerfstudio.utils.rich_utils import CONSOLE
from rich.table import Table

from moegs_ns.atomic_files import atomic_write_text
from moegs_ns.data.checks.footage import read_footage
from moegs_ns.data.checks.sheet import save_sheet
from moegs_ns.data.checks.verdicts import (
    CameraVerdict,
    CheckOptions,
    SceneVerdict,
    check_footage,
)
from moegs_ns.launch.cli_args import output_option
from moegs_ns.scripts.prepare_parsers import Parser


@dataclass(kw_only=True)
class PrepareCheck:
    """Check the footage of a scene of fixed cameras against its calibration: poses, swapped and
    turned cameras, cameras at one place, clocks, and frames that are repeated, missing, blurred,
    black or exposed otherwise. Prints a table; ends with exit status 1 if a camera is bad."""

    dataparser: Parser
    """The scene, with the options that its training will use."""
    data: Path | None = None
    """Folder of the scene."""
    output: Annotated[Path | None, output_option()] = None
    """File for the table (.json)."""
    sheet: Path | None = None
    """File for a picture (.png): a frame of every camera with its verdict, and the rig in 3-D; by
    default moegs_check.png in the scene's folder."""
    check: CheckOptions = field(default_factory=CheckOptions)
    """What is looked at."""

    def main(self) -> None:
        """Check, print and write."""
        self.check.check()
        config = replace(self.dataparser, data=self.data or self.dataparser.data)
        sheet = self.sheet or Path(config.data) / "moegs_check.png"
        _check_target(sheet, ".png", "sheet")
        if self.output is not None:
            _check_target(self.output, ".json", "output")
        footage = read_footage(config)
        verdict = check_footage(footage, self.check)
        CONSOLE.print(_table(verdict))
        if self.output is not None:
            content = json.dumps(_record(verdict), indent=1) + "\n"
            atomic_write_text(self.output, content, "table", "name another --output")
        save_sheet(verdict, sheet)
        CONSOLE.print(f"{sheet}: a frame of every camera with its verdict.")
        bad = verdict.bad
        if bad:
            reasons = "; ".join(f"{camera.name}: {camera.text}" for camera in bad)
            raise ValueError(
                f"Expected {len(verdict.cameras)} good cameras, but {len(bad)} "
                f"{'is' if len(bad) == 1 else 'are'} not: {reasons}. Correct the recordings or "
                "rig.json, or train without these cameras (--exclude-cameras after the parser's "
                "name)."
            )
        CONSOLE.print(f"All {len(verdict.cameras)} cameras are good.")


def _check_target(path: Path, ending: str, option: str) -> None:
    """Raise a ValueError before minutes of work if a file cannot be written at the end."""
    if path.suffix != ending:
        raise ValueError(f"--{option} expects the name of a {ending} file, got {path}.")
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise ValueError(
            f"Expected to write {path}, but the folder {folder} is read-only; name another place "
            f"with --{option}."
        )


def _table(verdict: SceneVerdict) -> Table:
    table = Table(
        "camera", "tracks", "reprojection", "epipolar", "clock", "in step", "sharpness", "verdict"
    )
    for camera in verdict.cameras:
        timing = camera.timing
        known = timing is not None and timing.offset is not None
        table.add_row(
            camera.name,
            str(camera.num_tracks),
            _pixels(camera.reprojection),
            _pixels(camera.epipolar),
            f"{timing.offset:+d} frames" if timing is not None and known else "-",
            f"{timing.share:.2f}, beside {timing.share_beside:.2f}"
            if timing is not None and known
            else "-",
            f"{camera.frames.sharpness:.2f}",
            camera.text,
        )
    return table


def _pixels(value: float) -> str:
    return f"{value:.2f} px" if math.isfinite(value) else "-"


def _record(verdict: SceneVerdict) -> dict[str, Any]:
    """What the table shows, and the places of faulty frames."""
    return {
        "epipolar_limit": verdict.limit,
        "cameras": [_entry(camera) for camera in verdict.cameras],
    }


def _entry(camera: CameraVerdict) -> dict[str, Any]:
    timing, frames = camera.timing, camera.frames
    return {
        "name": camera.name,
        "is_good": not camera.faults,
        "faults": list(camera.faults),
        "num_tracks": camera.num_tracks,
        "reprojection_px": camera.reprojection if math.isfinite(camera.reprojection) else None,
        "epipolar_px": camera.epipolar if math.isfinite(camera.epipolar) else None,
        "offset_frames": None if timing is None else timing.offset,
        "offsets_at_the_ends": None if timing is None else timing.at_ends,
        "share_in_step": None if timing is None else timing.share,
        "share_one_frame_beside": None if timing is None else timing.share_beside,
        "share_as_given": None if timing is None else timing.share_as_given,
        "sharpness": frames.sharpness,
        "black_frames": list(frames.black),
        "blurred_frames": list(frames.blurred),
        "repeated_frames": list(frames.repeated),
        "frames_after_missing_ones": list(frames.skipped),
        "exposure_jumps": list(frames.jumps),
    }
