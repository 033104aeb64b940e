"""`ns-train moegs-4dgaussians-dnerf`: 4DGaussians as published for D-NeRF.

Numbers: the released D-NeRF configurations. Their cells along time, 25 to 100, are half the
distinct times of each scene, as is the default here. They prune every 8000 steps, and like all of
this family only above 200 000 Gaussians, which these scenes do not reach.
"""

from moegs_ns.method_configs.moegs_4dgaussians import WHITE, hexplane_method, published_recipe
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig
from moegs_ns.training.densification import DensificationConfig

method = hexplane_method(
    "moegs-4dgaussians-dnerf",
    "Expert: 4DGaussians as published for D-NeRF.",
    expert=HexPlaneExpertConfig(
        background=WHITE, channels=32, width=64, deform_opacity=False, deform_sh=False
    ),
    recipe=published_recipe(
        views=1,
        densification=DensificationConfig(start=500, stop=15000, every=100),
        reset_every=3000,
        weight_space_smoothness=1e-4,
        weight_time_smoothness=1e-2,
    ),
    fine_steps=20000,
    final_ratio=0.01,
    datamanager=MoegsDataManagerConfig(dataparser=DNeRFDataParserConfig(), num_random_points=2000),
)
