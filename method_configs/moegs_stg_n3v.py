"""`ns-train moegs-stg-n3v`: Spacetime Gaussians as published for Neural 3D Video, the full model.

Numbers: the released configurations of the full N3V models and the training code (mode 1, which
four of the six scenes use; the other two have a rate of sizes of 3e-3 and prune until 9000). The
published models cover 50 frames each and start from points of all frames; train windows with
`--frames` and join them with `+`. The bound on z belongs to the world of the N3V poses: other
scenes may lose everything to it, so use moegs-stg or moegs-stg-lite for them.
"""

from moegs_ns.method_configs.moegs_stg import stg_method

from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.stg.guided_sampling import GuidedSamplingConfig
from moegs_ns.experts.stg.recipe import STGRecipeConfig
from moegs_ns.training.densification import DensificationConfig

method = stg_method(
    "moegs-stg-n3v",
    "Expert: Spacetime Gaussians as published for N3V, decoded features as colour.",
    expert=STGExpertConfig(color="full", head="sigmoid"),
    recipe=STGRecipeConfig(
        densification=DensificationConfig(start=500, stop=1100, every=100),
        guided_sampling=GuidedSamplingConfig(start=1600),
        box_prune_step=10000,
        lowest_z=4.5,
    ),
    log_scale_lr=1.5e-3,
)
