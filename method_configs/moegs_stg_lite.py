"""`ns-train moegs-stg-lite`: the lite Spacetime Gaussians, as published for scenes of one's own.

Numbers: the released "custom" configuration of the lite model (plain RGB, temporal widths of e^-2
clips, twelve rounds of densification, mode 3), without guided sampling, which the authors advise
against on other scenes, and without the prune outside of the initial cloud's box, which presumes
that the cloud covers the scene.
"""

from moegs_ns.method_configs.moegs_stg import stg_method

from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.stg.recipe import STGRecipeConfig

method = stg_method(
    "moegs-stg-lite",
    "Expert: Spacetime Gaussians, the published lite model with plain RGB.",
    expert=STGExpertConfig(color="lite", initial_time_log_scale=-2.0),
    recipe=STGRecipeConfig(),
)
