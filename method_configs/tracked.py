"""Dynamic3DGaussians (Luiten et al., 3DV 2024) over the whole clip at once: `moegs-tracked`."""

from moegs_ns.method_configs.shared import adam, expert_method, gaussian_optimizers

from moegs_ns.experts.keyframe_recipe import DYNAMIC
from moegs_ns.experts.tracked.expert import TrackedExpertConfig
from moegs_ns.experts.tracked.recipe import TrackedRecipeConfig
from moegs_ns.training.optimizers import LogLinearSchedulerConfig

POSITIONS = LogLinearSchedulerConfig(final_ratio=0.01, max_steps=30000)

# Rates of the released code; steps and their decay are those of 3D Gaussian splatting, as there is
# no pass from frame to frame.
moegs_tracked = expert_method(
    "moegs-tracked",
    "Expert: Dynamic3DGaussians of the whole clip, a pose for each Gaussian that moves and frame.",
    TrackedExpertConfig(),
    TrackedRecipeConfig(),
    gaussian_optimizers(POSITIONS)
    | {
        f"{DYNAMIC}means": adam(1.6e-4, POSITIONS),
        f"{DYNAMIC}quats": adam(1e-3),
        f"{DYNAMIC}scales": adam(5e-3),
        f"{DYNAMIC}opacities": adam(0.05),
        f"{DYNAMIC}sh0": adam(2.5e-3),
        f"{DYNAMIC}shN": adam(2.5e-3 / 20),
    },
    30000,
)
