"""FreeTimeGS (Wang et al., CVPR 2025): `moegs-freetime`."""

from moegs_ns.method_configs.shared import adam, expert_method, gaussian_optimizers

from moegs_ns.experts.freetime.expert import FreeTimeExpertConfig
from moegs_ns.experts.freetime.recipe import FreeTimeRecipeConfig
from moegs_ns.training.optimizers import LogLinearSchedulerConfig

POSITIONS = LogLinearSchedulerConfig(final_ratio=0.01, max_steps=30000)

# Rates of the re-implementation that FreeTimeGS++ published as its base: times are in seconds, and
# their rates are not per extent.
moegs_freetime = expert_method(
    "moegs-freetime",
    "Expert: FreeTimeGS, Gaussians with times, lives and velocities of their own.",
    FreeTimeExpertConfig(),
    FreeTimeRecipeConfig(),
    gaussian_optimizers(POSITIONS)
    | {
        "velocities": adam(1.6e-3, POSITIONS),
        "time_centers": adam(1.6e-4),
        "durations": adam(5e-3),
        "gate_logits": adam(1e-3),
        "flat_halves": adam(1.6e-4),
    },
    30000,
)
