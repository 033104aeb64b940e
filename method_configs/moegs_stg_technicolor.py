"""`ns-train moegs-stg-technicolor`: Spacetime Gaussians for Technicolor, the full model.

Numbers: the released configurations of the full Technicolor models (mode 3, twelve rounds of
densification, temporal widths of e^-2 clips).
"""

from moegs_ns.method_configs.moegs_stg import stg_method

from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.stg.guided_sampling import GuidedSamplingConfig
from moegs_ns.experts.stg.recipe import STGRecipeConfig

method = stg_method(
    "moegs-stg-technicolor",
    "Expert: Spacetime Gaussians as published for Technicolor, decoded features as colour.",
    expert=STGExpertConfig(color="full", head="clamp", initial_time_log_scale=-2.0),
    recipe=STGRecipeConfig(guided_sampling=GuidedSamplingConfig(start=1600), box_prune_step=10000),
)
