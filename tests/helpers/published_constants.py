"""Numbers of the code outside of configurations, each with the place that it comes from; see
`published_numbers` for the commits of the sources."""

from typing import Any

from published_numbers import OWN, SPLATTING

CONSTANTS: dict[str, tuple[Any, str]] = {
    "moegs_ns.training.losses:SSIM_LAMBDA": (0.2, SPLATTING),
    "moegs_ns.training.losses:WINDOW": (11, SPLATTING),
    "moegs_ns.training.densification:RESET_OPACITY": (0.01, SPLATTING),
    "moegs_ns.experts.base:INITIAL_OPACITY": (0.1, SPLATTING),
    "moegs_ns.experts.base:LARGEST_SCALE": (0.1, OWN),
    "moegs_ns.experts.stg.expert:FRAMES_PER_UNIT": (50, "STG: clips of 50 frames"),
    "moegs_ns.experts.stg.guided_sampling:EXPOSURE_OFFSET": (0.01, "STG, released code"),
    "moegs_ns.experts.stg.guided_sampling:TILE": (16, "STG, released code"),
    "moegs_ns.experts.stg.guided_sampling:BORDER": (0.1, "STG, released code"),
    "moegs_ns.experts.ex4dgs.recipe:LOG_OFFSET": (1e-3, "Ex4DGS, released code"),
    "moegs_ns.experts.ex4dgs.recipe:MIN_DISPLACEMENT": (1e-6, "Ex4DGS, released code"),
    "moegs_ns.experts.ex4dgs.error_backtracking:MIN_WEIGHT": (0.01, "Ex4DGS, released code"),
    "moegs_ns.experts.ex4dgs.expert:FULL_WIDTH": (2.36, "Ex4DGS, released code"),
    "moegs_ns.experts.keyframe_recipe:SHRINK": (1.6, SPLATTING),
    "moegs_ns.experts.ex4dgs.dynamic_params:EDGE": (0.5, "Ex4DGS, released code"),
    "moegs_ns.experts.ex4dgs.dynamic_params:MARGIN": (0.2, "Ex4DGS, released code"),
    "moegs_ns.experts.ex4dgs.dynamic_params:EDGE_LOG_WIDTH": (1.0, "Ex4DGS, released code"),
    "moegs_ns.experts.ex4dgs.dynamic_params:SMALLEST_LOG_WIDTH": (0.5, "Ex4DGS, released code"),
    "moegs_ns.experts.ex4dgs.dynamic_params:CHILD_LOG_WIDTH": (2.0, "Ex4DGS, released code"),
    "moegs_ns.experts.ed3dgs.embedding_smoothness:SHARPNESS": (2000.0, "E-D3DGS"),
    "moegs_ns.experts.ed3dgs.error_sampling:UNSEEN_ERROR": (100.0, "E-D3DGS, released code"),
    "moegs_ns.experts.freetime.expert:START_OPACITY": (0.5, "FreeTimeGS++, released code"),
    "moegs_ns.experts.freetime.expert:USUAL_FPS": (30.0, OWN),
    "moegs_ns.experts.freetime.lives:LONGEST": (1 / 6, "FreeTimeGS++, released code"),
    "moegs_ns.experts.freetime.lives:GATE_SHARPNESS": (20.0, "FreeTimeGS++, released code"),
    "moegs_ns.experts.freetime.lives:CLOSED_GATE": (-1.0, "FreeTimeGS++, released code"),
    "moegs_ns.experts.freetime.lives:OPEN_GATE": (0.1, OWN),
    "moegs_ns.experts.freetime.lives:FLAT_START": (1e-6, "SharpTimeGS, paper"),
    "moegs_ns.experts.tracked.expert:START_OPACITY": (0.5, "Dynamic3DGaussians, released code"),
    "moegs_ns.experts.tracked.expert:REACH": (4.0, OWN),
    "moegs_ns.experts.tracked.rigidity:SPREAD": (2.0, OWN),
    "moegs_ns.experts.tracked.rigidity:SPACING_OF": (3, SPLATTING),
    "moegs_ns.training.densification:LEAST_VISIBILITY": (0.05, "TAD-GS, released code"),
    "moegs_ns.training.relocation:MOST_COPIES": (51, "gsplat 1.4.0"),
    "moegs_ns.training.growth:GROWTH_RATE": (0.05, "3DGS-MCMC, released code"),
    "moegs_ns.splatting.projection:NEAR": (0.01, SPLATTING),
    "moegs_ns.splatting.projection:MIN_ALPHA": (1 / 255, SPLATTING),
    "moegs_ns.splatting.projection:MIN_TRANSMITTANCE": (1e-4, SPLATTING),
    "moegs_ns.splatting.projection:MAX_ALPHA": (0.999, "gsplat 1.4.0"),
}
"""Numbers of the code outside of configurations, by module and name."""
