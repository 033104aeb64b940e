"""`moegs prepare calibrate`: lenses and poses into `rig.json`, from files or from recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from nerfstudio.utils.rich_utils import CONSOLE
from rich.table import Table

from moegs_ns.data.calibrations.formats import read_calibration_file
from moegs_ns.data.calibrations.matching import Verdict, calibrate_rig
from moegs_ns.data.rig_files import RIG, Rig, read_rig, write_rig
from moegs_ns.data.structure_from_motion.calibrating import (
    SMALL_RIG,
    CalibrationOptions,
    CameraVerdict,
    calibrate_from_recordings,
)
from moegs_ns.data.structure_from_motion.observations import WORK, forget
from moegs_ns.scripts.prepare_rig import name_pairs


@dataclass(kw_only=True)
class PrepareCalibrate(CalibrationOptions):
    """Give the cameras of rig.json lenses and poses: with --from from a calibration of Qualisys
    (.qca.txt), anipose (.toml), EasyMocap (intri.yml), CMU Panoptic (.json), COLMAP (folder of a
    model), nerfstudio (transforms.json), LLFF (poses_bounds.npy), NeuralBody (annots.npy) or
    Immersive Light Field Video (models.json); without, from features of the recordings. COLMAP
    models and recordings need `pip install moegs_ns[prepare]`."""

    data: Path
    """Folder of the scene, with rig.json."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """File or folder of the calibration; by default, cameras are calibrated from what their
    recordings show at several instants, in a world of unknown unit."""
    names: tuple[str, ...] = ()
    """With --from: CAMERA=CALIBRATED, names of cameras in the calibration, where they differ from
    the rig's in more than what stands around them (hd_00_05 and 00_05 belong together by
    themselves)."""
    overwrite: bool = False
    """Replace the calibration that the rig has."""

    def main(self) -> None:
        """Write lenses and poses into the rig file, print a verdict on each camera."""
        output = self.data / RIG
        rig = read_rig(output)
        if any(camera.is_calibrated for camera in rig.cameras) and not self.overwrite:
            raise FileExistsError(
                f"The rig {output} is calibrated already; add --overwrite to replace that."
            )
        if self.source is None:
            self._from_recordings(rig, output)
        else:
            self._from_file(rig, output, self.source)

    def _from_file(self, rig: Rig, output: Path, source: Path) -> None:
        default = CalibrationOptions()
        for name, value in vars(default).items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"--from expects no --{name.replace('_', '-')}, which says how cameras are "
                    "calibrated from their recordings; leave one or the other out."
                )
        calibration, name = read_calibration_file(source)
        names = dict(name_pairs(self.names, "--names"))
        calibrated, verdicts = calibrate_rig(rig, calibration, self.data, names)
        write_rig(output, calibrated)
        CONSOLE.print(_file_table(verdicts))
        unused = {c.name for c in calibration.cameras} - {v.calibrated_as for v in verdicts} - {""}
        if unused:
            CONSOLE.print(f"Without a recording: {', '.join(sorted(unused))}.")
        faulty = [verdict for verdict in verdicts if verdict.fault]
        good = len(verdicts) - len(faulty)
        CONSOLE.print(f"{output}: {good} of {len(verdicts)} cameras calibrated, from {name}.")
        if faulty:
            reasons = "; ".join(f"{each.camera.name}: {each.fault}" for each in faulty)
            raise ValueError(
                f"Expected a usable calibration of every camera in {source}, but {reasons}. "
                "Correct it and calibrate again with --overwrite, or train without these cameras "
                "(--exclude-cameras after rig-data)."
            )

    def _from_recordings(self, rig: Rig, output: Path) -> None:
        if self.names:
            raise ValueError(
                "--names expects a calibration, whose names it is about; add --from, or leave it "
                "out."
            )
        calibrated, verdicts = calibrate_from_recordings(rig, self.data, self)
        CONSOLE.print(_recordings_table(verdicts))
        faulty = [verdict for verdict in verdicts if verdict.fault]
        good = len(verdicts) - len(faulty)
        if good:
            write_rig(output, calibrated)
            CONSOLE.print(
                f"{output}: {good} of {len(verdicts)} cameras calibrated, in a world of unknown "
                "unit."
            )
        if faulty:
            raise ValueError(_advice(faulty, len(verdicts), self.data / WORK))
        forget(self.data)


def _advice(faulty: Sequence[CameraVerdict], total: int, work: Path) -> str:
    reasons = "; ".join(f"{each.camera.name}: {each.fault}" for each in faulty)
    good = total - len(faulty)
    written = f"The {good} others are written" if good else "Nothing was written"
    if total <= SMALL_RIG:
        repair = (
            f"a rig of {total} cameras that stand far apart shares too few features for this, so "
            "calibrate it by a file (--from) of a calibration that you have, or of a board filmed "
            "by all cameras (anipose makes one)"
        )
    else:
        repair = (
            "try again with more --instants and --overwrite (features that are found already are "
            f"kept in {work}), or hand over a calibration with --from"
        )
        if good:
            repair += ", or train without these cameras (--exclude-cameras after rig-data)"
    return f"Expected recordings that tell every camera's pose, but {reasons}. {written}; {repair}."


def _file_table(verdicts: Sequence[Verdict]) -> Table:
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


def _recordings_table(verdicts: Sequence[CameraVerdict]) -> Table:
    table = Table(
        *("camera", "size", "features", "matches", "points", "cameras a point", "median error"),
        *("mean error", "focal (px)", ""),
    )
    for each in verdicts:
        camera, placed = each.camera, each.placed
        row = [camera.name, f"{camera.width}x{camera.height}"]
        row += [str(each.num_features), str(each.num_matches)]
        if placed is None or not len(placed.errors):
            row += ["-"] * 5
        else:
            row += [
                str(len(placed.errors)),
                f"{np.mean(placed.track_lengths):.1f}",
                f"{np.median(placed.errors):.2f} px",
                f"{np.mean(placed.errors):.2f} px",
                f"{placed.lens.fx:.1f}, {placed.lens.fy:.1f}",
            ]
        table.add_row(*row, each.fault or "good")
    return table
