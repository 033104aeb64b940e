"""`ns-train moegs-ex4dgs-technicolor`: Ex4DGS with the numbers published for Technicolor.

Numbers: the released Technicolor configurations; where its five scenes differ, what most of them
use, and for the thresholds of densification the one pair that two scenes share. What the released
code does not do as it means to is done as meant, as in moegs-ex4dgs.
"""

from moegs_ns.method_configs.moegs_ex4dgs import ex4dgs_method

from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpertConfig
from moegs_ns.experts.ex4dgs.recipe import ConversionConfig, Ex4DGSRecipeConfig
from moegs_ns.training.densification import DensificationConfig

method = ex4dgs_method(
    "moegs-ex4dgs-technicolor",
    "Expert: Ex4DGS with the numbers published for Technicolor.",
    expert=Ex4DGSExpertConfig(time_padding=3),
    recipe=Ex4DGSRecipeConfig(
        densification=DensificationConfig(
            start=500, stop=30000, every=300, gradient_threshold=2.5e-4, prune_opacity=0.01
        ),
        dynamic_gradient_threshold=8e-5,
        conversion=ConversionConfig(every=3777),
        weight_displacement=2e-4,
    ),
    rates={
        "dynamic_opacities": 1e-4,
        "dynamic_sh0": 2.5e-4,
        "dynamic_shN": 2.5e-4 / 20,
        "dynamic_opacity_centers": 1e-3,
        "dynamic_opacity_log_widths": 1e-3,
    },
)
