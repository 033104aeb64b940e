"""`ns-train moegs-ex4dgs-n3v`: Ex4DGS as released for Neural 3D Video.

Numbers: the released N3V configuration, and what the released code makes of it where it does not do
what it means to: keys whose rate never decays, static Gaussians that slow down when the clip grows,
opacity that fades in by the later centre, windows of opacity that begin open, no bound on pruning
by errors. moegs-ex4dgs has the same numbers and does what is meant.
"""

from moegs_ns.method_configs.moegs_ex4dgs import ex4dgs_method

from moegs_ns.experts.ex4dgs.error_backtracking import ErrorPruneConfig
from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpertConfig
from moegs_ns.experts.ex4dgs.recipe import ConversionConfig, Ex4DGSRecipeConfig, GrowthConfig

method = ex4dgs_method(
    "moegs-ex4dgs-n3v",
    "Expert: Ex4DGS as released for N3V.",
    expert=Ex4DGSExpertConfig(fade_in="later"),
    recipe=Ex4DGSRecipeConfig(
        growth=GrowthConfig(keep_speed=False),
        conversion=ConversionConfig(width=100.0),
        error_prune=ErrorPruneConfig(max_share=1.0),
    ),
    final_key_ratio=1.0,
)
