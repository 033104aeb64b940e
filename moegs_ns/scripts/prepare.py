"""`moegs prepare`: what a scene can be given before training: initial points, camera poses."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.plugins.registry_dataparser import discover_dataparsers
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.dataparsers.n3v import POSES_BOUNDS, find_recordings
from moegs_ns.data.frames.dataset import split_cameras, with_image_ids
from moegs_ns.data.points.colmap_poses import poses_bounds_from_colmap, write_poses_bounds
from moegs_ns.data.points.initial import PREPARED_POINTS
from moegs_ns.data.points.prepared import PreparedPointsOptions, prepare_points
from moegs_ns.data.points.triangulation import TriangulationOptions, require_pycolmap

if TYPE_CHECKING:
    Parser = DataParserConfig
else:
    _CONFIGS, _DESCRIPTIONS = discover_dataparsers()
    _PARSERS = {name: c for name, c in _CONFIGS.items() if hasattr(c, "points_file")}
    # People will try this one as well; better refused with a reason than as an unknown word.
    _PARSERS["dnerf-data"] = DNeRFDataParserConfig()
    _DESCRIPTIONS["dnerf-data"] = "Refused: one image of every instant."
    Parser = tyro.conf.OmitSubcommandPrefixes[
        tyro.conf.SuppressFixed[
            tyro.conf.FlagConversionOff[
                tyro.extras.subcommand_type_from_defaults(
                    _PARSERS, _DESCRIPTIONS, prefix_names=False
                )
            ]
        ]
    ]
"""The parsers that read a file of points, as subcommands with their options."""


@dataclass
class PreparePoints:
    """Make initial points: SIFT features of the training cameras, triangulated with their known
    poses. The parser finds the file by itself; needs `pip install moegs_ns[prepare]`."""

    dataparser: Parser
    """The scene, with the options that its training will use."""
    data: Path | None = None
    """Folder of the scene."""
    every: int = 0
    """0 triangulates the first frame; K the frames 0, K, 2K, ... and merges them."""
    max_points: int | None = 100_000
    """Merged points beyond this number are thinned out, evenly in space."""
    val_cameras: tuple[int, ...] = ()
    """Cameras whose images are not used, as those that the parser holds out. A number of n3v-data
    is a position, from 0, in alphabetical order; one of panoptic-data is a cam_id."""
    output: Path | None = None
    """File to write (.npz); by default moegs_points.npz in the scene folder."""
    overwrite: bool = False
    """Replace the file if it exists."""
    seed: int = 0
    """Seed of the choice among the points."""
    triangulation: TriangulationOptions = field(default_factory=TriangulationOptions)

    def main(self) -> None:
        """Triangulate, write the file, say what is in it.

        Raises:
            FileExistsError: the file exists already.
            ImportError: pycolmap is not installed.
            ValueError: the scene or an option does not allow it.
        """
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
        options = PreparedPointsOptions(self.every, self.max_points, self.seed, self.triangulation)
        outputs = with_image_ids(config.setup().get_dataparser_outputs(split="train"))
        if self.val_cameras:
            outputs, _ = split_cameras(outputs, self.val_cameras)
        origin = prepare_points(outputs, options, output, Path(config.data))
        CONSOLE.print(f"{output}: {origin}.")
        if self.output is not None:
            CONSOLE.print(f"Train with --points-file {output.resolve()} after the parser's name.")


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
        """Read the model, write the file.

        Raises:
            FileExistsError: the file exists already.
            FileNotFoundError: there is no such scene or model.
            ImportError: pycolmap is not installed.
            ValueError: the model lacks a camera, or is distorted.
        """
        require_pycolmap("Reading a COLMAP model")
        output = self.data / POSES_BOUNDS
        if output.exists() and not self.overwrite:
            raise FileExistsError(
                f"The poses {output} exist already; add --overwrite to replace them."
            )
        recordings = find_recordings(self.data)
        write_poses_bounds(output, poses_bounds_from_colmap(self.colmap, recordings))
        names = f"{recordings[0].name} to {recordings[-1].name}"
        CONSOLE.print(f"{output}: poses of {len(recordings)} cameras ({names}).")


@dataclass
class Prepare:
    """Give a scene initial points or camera poses before training."""

    what: Annotated[
        Annotated[PreparePoints, tyro.conf.subcommand("points", prefix_name=False)]
        | Annotated[PreparePoses, tyro.conf.subcommand("poses", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]
    """What to prepare."""

    def main(self) -> None:
        """See the commands."""
        self.what.main()
