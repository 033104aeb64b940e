"""`moegs prepare`: what a scene can be given before training; so far initial points."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.plugins.registry_dataparser import discover_dataparsers
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.image_ids import split_cameras, with_image_ids
from moegs_ns.data.initial_points import PREPARED_POINTS
from moegs_ns.data.prepared_points import PreparedPointsOptions, prepare_points
from moegs_ns.data.triangulation import TriangulationOptions, require_pycolmap

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
class Prepare:
    """Make initial points: SIFT features of the training cameras, triangulated with their known
    poses. The parser finds the file by itself; needs `pip install moegs_ns[prepare]`."""

    what: Annotated[Literal["points"], tyro.conf.Positional]
    """What to prepare."""
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
