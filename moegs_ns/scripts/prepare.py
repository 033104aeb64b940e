"""`moegs prepare`: cameras, poses and initial points, made before training."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.atomic_files import atomic_write
from moegs_ns.data.dataparsers.n3v import POSES_BOUNDS
from moegs_ns.data.dataparsers.recordings import find_recordings
from moegs_ns.data.frames.dataset import split_cameras, with_image_ids
from moegs_ns.data.points.colmap_poses import poses_bounds_from_colmap
from moegs_ns.data.points.initial import PREPARED_POINTS, find_points
from moegs_ns.data.points.moving_seeds import MovingSeeds
from moegs_ns.data.points.prepared import (
    FEW_POINTS,
    PreparedPointsOptions,
    prepare_points,
    seeds_picture,
)
from moegs_ns.data.points.triangulation import require_pycolmap
from moegs_ns.launch.cli_args import output_option
from moegs_ns.scripts.prepare_calibrate import PrepareCalibrate
from moegs_ns.scripts.prepare_check import PrepareCheck
from moegs_ns.scripts.prepare_parsers import Parser
from moegs_ns.scripts.prepare_rig import PrepareRig


@dataclass(kw_only=True)
class PreparePoints(PreparedPointsOptions):
    """Make initial points: SIFT features of the training cameras, triangulated with their known
    poses, and the visual hull of what moves where these are few. The parser finds the file by
    itself; features need `pip install moegs_ns[prepare]`."""

    dataparser: Parser
    """The scene, with the options that its training will use."""
    data: Path | None = None
    """Folder of the scene."""
    val_cameras: tuple[int, ...] = ()
    """Cameras whose images are not used, as those that the parser holds out. Numbers of n3v-data
    are indices, from 0, in alphabetical order; those of panoptic-data are cam_ids, those of
    rig-data places in rig.json, from 0."""
    output: Annotated[Path | None, output_option("--output-path")] = None
    """File to write (.npz); by default moegs_points.npz in the scene folder."""
    overwrite: bool = False
    """Replace the file if it exists."""
    fewer: bool = False
    """Also if training would start from fewer points than it does from the scene's file now."""

    def main(self) -> None:
        """Triangulate, write the file, print what is in it."""
        # Check what needs no image.
        if self.method != "hull":
            require_pycolmap()
        config = replace(self.dataparser, data=self.data or self.dataparser.data)
        output = self.output or config.data / PREPARED_POINTS
        if output.suffix != ".npz":
            raise ValueError(f"--output expects the name of a .npz file, got {output}.")
        if output.exists() and not self.overwrite:
            raise FileExistsError(
                f"The points {output} exist already; add --overwrite to replace them, or name "
                "another --output."
            )
        # Parse the training split, without the validation cameras.
        parser = config.setup()
        outputs = with_image_ids(parser.get_dataparser_outputs(split="train"))
        if self.val_cameras:
            outputs, _ = split_cameras(outputs, self.val_cameras)
        # Triangulate and write; the file in the scene's folder is read instead of that of today.
        search = (PREPARED_POINTS, *getattr(parser, "point_files", ()))
        present = find_points(Path(config.data), None, search)
        may_be_fewer = self.output is not None or self.fewer
        found = prepare_points(
            outputs, self, output, Path(config.data), present, may_be_fewer=may_be_fewer
        )
        CONSOLE.print(f"{output}: {found.origin}.")
        CONSOLE.print(f"Points by the cameras that found them: {_listed(found.per_camera)}.")
        if found.seeds is not None:
            _tell_of_seeds(found.seeds, seeds_picture(output))
        if found.count < FEW_POINTS:
            CONSOLE.print(
                f"Warning: {found.count} points hardly tell where surfaces are; look at the poses, "
                "try --method hull or a larger --triangulation.max-error, or add cameras between "
                "these. Training adds random points where its parser says so."
            )
        if self.output is not None:
            CONSOLE.print(f"Train with --points-file {output.resolve()} after the parser's name.")


def _tell_of_seeds(seeds: MovingSeeds, picture: Path) -> None:
    CONSOLE.print(f"Moving seeds by key frame: {_listed(seeds.per_frame)}.")
    CONSOLE.print(f"{picture}: these seeds over the images, with their way until the next frame.")
    frames = {region.frame for region in seeds.unseeded}
    if frames:
        CONSOLE.print(
            f"Warning: something that moves got no seed in {len(frames)} of "
            f"{len(seeds.per_frame)} key frames; the largest is {seeds.unseeded[0]}. Look at "
            "the picture: reflections and faint shadows need none, but what fewer than half of the "
            "cameras see, or tell from its background, gets none either."
        )


def _listed(counts: dict[int, int]) -> str:
    return ", ".join(f"{number}: {count:,}" for number, count in sorted(counts.items()))


@dataclass
class PreparePoses:
    """Write the camera poses of n3v-data (poses_bounds.npy) from a COLMAP model with one image of
    each camera, called like its video: cam00.png, or cam00/0000.png, for cam00.mp4. The videos must
    be undistorted, as the model; needs `pip install moegs_ns[prepare]`."""

    data: Path
    """Folder of the scene, with a video (or folder of images) for each camera."""
    colmap: Path
    """Folder of the COLMAP model (cameras, images, points3D), for example DATA/sparse/0."""
    overwrite: bool = False
    """Replace poses_bounds.npy if it exists."""

    def main(self) -> None:
        """Read the model, write the file."""
        require_pycolmap("Reading a COLMAP model")
        output = self.data / POSES_BOUNDS
        if output.exists() and not self.overwrite:
            raise FileExistsError(
                f"The poses {output} exist already; add --overwrite to replace them."
            )
        # Find the cameras of the scene, and their poses in the model.
        recordings = find_recordings(self.data)
        poses_bounds = poses_bounds_from_colmap(self.colmap, recordings)
        with atomic_write(output, "poses", "make the folder writable") as file:
            np.save(file, poses_bounds)
        names = f"{recordings[0].name} to {recordings[-1].name}"
        CONSOLE.print(f"{output}: poses of {len(recordings)} cameras ({names}).")


@dataclass
class Prepare:
    """Give a scene cameras, poses or initial points before training, and check its footage."""

    what: Annotated[
        Annotated[PreparePoints, tyro.conf.subcommand("points", prefix_name=False)]
        | Annotated[PreparePoses, tyro.conf.subcommand("poses", prefix_name=False)]
        | Annotated[PrepareRig, tyro.conf.subcommand("rig", prefix_name=False)]
        | Annotated[PrepareCalibrate, tyro.conf.subcommand("calibrate", prefix_name=False)]
        | Annotated[PrepareCheck, tyro.conf.subcommand("check", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]
    """What to prepare."""

    def main(self) -> None:
        """Run the chosen command."""
        self.what.main()
