"""The parsers of scenes that `moegs prepare` works on, as subcommands."""

from typing import TYPE_CHECKING

import tyro
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.plugins.registry_dataparser import discover_dataparsers

if TYPE_CHECKING:
    Parser = DataParserConfig
else:
    _CONFIGS, _DESCRIPTIONS = discover_dataparsers()
    _PARSERS = {name: c for name, c in _CONFIGS.items() if hasattr(c, "points_file")}
    # Listed so that it is refused with a reason, not as an unknown argument.
    _PARSERS["dnerf-data"] = DNeRFDataParserConfig()
    _DESCRIPTIONS["dnerf-data"] = "Refused: one image of every time."
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
