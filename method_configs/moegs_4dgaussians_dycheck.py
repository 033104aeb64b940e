"""`ns-train moegs-4dgaussians-dycheck`: 4DGaussians as published for DyCheck.

Numbers: the released DyCheck configuration, which is that of HyperNeRF with 150 cells along time
and 60 000 steps of the fine stage.
"""

from moegs_ns.method_configs.moegs_4dgaussians import WHITE, hexplane_method, published_recipe
from nerfstudio.data.dataparsers.dycheck_dataparser import DycheckDataParserConfig

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig

method = hexplane_method(
    "moegs-4dgaussians-dycheck",
    "Expert: 4DGaussians as published for DyCheck.",
    expert=HexPlaneExpertConfig(
        background=WHITE,
        levels=(1, 2, 4),
        time_resolution=150,
        deform_opacity=False,
        deform_sh=False,
    ),
    recipe=published_recipe(views=2),
    fine_steps=60000,
    datamanager=MoegsDataManagerConfig(dataparser=DycheckDataParserConfig()),
)
