"""Every number of the methods' configurations with the place that it comes from.

Sources are the papers and the authors' released code, read at these commits: STG 427abfc, Ex4DGS
7fac649, 4DGaussians 843d5ac, E-D3DGS a68543e, FreeTimeGS++ 8005d2f, Dynamic3DGaussians 7dbbd4d.
What no source has is this project's own, and is listed in docs/defaults.md with the reason;
`tests/test_published_numbers.py` checks both.
"""

from functools import partial
from typing import Any

from method_settings import Rate

OWN = "docs/defaults.md"
"""Source of this project's own numbers."""
PAPER_41 = "MoE-GS, section 4.1: RAdam; appendix B.3: 0.5 for w and w_dir, 0.05 for w_time and Φ"
RELEASE = "MoE-GS, released code"
SPLATTING = "3D Gaussian splatting, which all families start from"

Numbers = dict[str, dict[str, Any]]
"""By source, then by the name of `method_settings.decisive_settings`."""

adam = partial(Rate, "FusedAdam", eps=1e-15)
radam = partial(Rate, "FusedRAdam", eps=1e-8)

CAMERAS: dict[str, Any] = {
    "rate.camera_opt": adam(1e-4, final_ratio=0.01, decay_steps=30000),
    "rate.color_correction": adam(1e-3),
    "rate.camera_clock": adam(3e-3),
}
"""Of corrections of cameras, which no paper has."""
ANY_EXPERT: Numbers = {
    SPLATTING: {
        "expert.sh_degree": 3,
        "recipe.sh_degree_every": 1000,
        "recipe.densification.grow_scale3d": 0.01,
        "rate.opacities": adam(0.05),
        "rate.scales": adam(5e-3),
        "rate.quats": adam(1e-3),
        "rate.sh0": adam(2.5e-3),
        "rate.shN": adam(1.25e-4),
    },
    "TAD-GS, released code": {"recipe.densification.life_threshold.exponent": 0.8},
    "4C4D": {"recipe.opacity_decay.start": 500},
    OWN: {
        "expert.near": 0.15,
        "recipe.densification.min_observations": 20,
        "recipe.densification.counted": "contained",
        "recipe.densification.growth": "gradients",
        "recipe.densification.life_threshold.share": 1.0,
        "recipe.opacity_decay.factor": 1.0,
        "recipe.dropout.fraction": 0.0,
        "recipe.dropout.steps": 30000,
        "recipe.weight_scale": 0.0,
        "recipe.cameras_per_time": None,
        "recipe.densification.reference_pixels": None,
        "recipe.random_background": False,
        "recipe.weight_opacity": 0.0,
        "num_random_points": 10000,
        **CAMERAS,
    },
}
STG: Numbers = {
    "STG, section 4 and released loss": {"recipe.ssim_lambda": 0.2},
    "STG, released training code": {
        "steps": 30000,
        "rate.means": adam(1.6e-4, final_ratio=0.01, decay_steps=30000),
        "rate.motion": adam(2.8e-4),  # 0.5 times 3.5 times that of positions
        "rate.angular_rates": adam(1e-4),
        "rate.time_centers": adam(1e-4),
        "rate.time_log_scales": adam(0.03),
        "rate.base_rgb": adam(2.5e-3),
        "rate.view_features": adam(2.5e-3),
        "rate.time_features": adam(1e-3),
        "rate.decoder": adam(1e-4),
        "expert.background": (0.0, 0.0, 0.0),
        "recipe.densification.refine_start_iter": 500,
        "recipe.densification.refine_every": 100,
        "recipe.densification.grow_grad2d": 2e-4,
        "recipe.densification.prune_opa": 0.005,
        "recipe.prune_stop": 7000,  # modes 1 and 3
        "recipe.reset_every": 3000,
        "recipe.reset_stop": 6000,  # the last one below 9000
        "recipe.guided_sampling.gap": 100,
        "recipe.guided_sampling.num_cameras": 2,
        "recipe.guided_sampling.candidate_ssim": 0.91,
        "recipe.guided_sampling.act_ssim": 0.88,
        "recipe.guided_sampling.error_quantile": 0.6,
        "recipe.guided_sampling.tile_fraction": 0.85,
        "recipe.guided_sampling.depth_factors": (0.7, 7.5),
        "recipe.guided_sampling.jitter": 0.05,
    },
    "STG, released Technicolor and custom configurations: 12 rounds": {
        "recipe.densification.refine_stop_iter": 1700,
        "expert.head": "clamp",
    },
    "STG, released N3V configurations": {"expert.initial_time_log_scale": 0.0},
    RELEASE: {"expert.color": "sh"},
    OWN: {
        "recipe.densification.max_gaussians": 360000,
        "recipe.guided_sampling.start": None,
        "recipe.box_prune_step": None,
        "recipe.lowest_z": None,
    },
}
HEXPLANE: Numbers = {
    "4DGaussians, released N3V configuration": {
        "steps": 17000,  # 3000 static and 14000 with deformation
        "recipe.coarse_steps": 3000,
        "recipe.views": 2,  # in four of six scenes
        "expert.channels": 16,
        "expert.levels": (1, 2),
        "expert.width": 128,
        "expert.deform_opacity": True,
        "expert.deform_sh": True,
        "recipe.weight_space_smoothness": 2e-4,
        "recipe.weight_time_smoothness": 1e-3,
        "recipe.weight_time_identity": 1e-4,
        "recipe.densification.refine_stop_iter": 10000,
    },
    "4DGaussians, released training code": {
        "rate.means": adam(1.6e-4, final_ratio=0.01, decay_steps=20000, restart_step=3000),
        "rate.decoder": adam(1.6e-4, final_ratio=0.1, decay_steps=20000, restart_step=3000),
        "rate.planes": adam(1.6e-3, final_ratio=0.1, decay_steps=20000, restart_step=3000),
        "expert.space_resolution": 64,
        "expert.time_resolution": None,  # half the frames, the authors' rule of thumb
        "expert.full_time_range": False,
        "recipe.densification.refine_start_iter": 500,
        "recipe.densification.refine_every": 100,
        "recipe.densification.prune_opa": 0.005,
        "recipe.densification.max_gaussians": 360000,
        "recipe.prune_above": 200000,
    },
    "4DGaussians, released multipleview configuration": {"recipe.reset_every": 3000},
    OWN: {
        "expert.background": (0.0, 0.0, 0.0),
        "expert.tf32": True,
        "recipe.ssim_lambda": 0.2,
        "recipe.densification.grow_grad2d": 5e-4,
    },
}
EX4DGS: Numbers = {
    "Ex4DGS, released N3V configuration": {
        "steps": 40000,
        "expert.key_interval": 10,
        "expert.time_padding": 2,
        "recipe.densification.refine_start_iter": 500,
        "recipe.densification.refine_stop_iter": 30000,
        "recipe.densification.refine_every": 300,
        "recipe.densification.grow_grad2d": 2e-4,
        "recipe.densification.prune_opa": 0.01,
        "recipe.dynamic_grow_grad2d": 1e-4,
        "recipe.growth.after": 500,
        "recipe.growth.every": 400,
        "recipe.growth.start_keys": 1,
        "recipe.conversion.every": 3980,
        "recipe.conversion.delay": 100,
        "recipe.conversion.fraction": 0.02,
        "recipe.weight_displacement": 1e-4,
        "recipe.weight_key_spread": 1e-4,
        "rate.dynamic_opacities": radam(0.01),
        "rate.dynamic_opacity_centers": radam(0.01),
        "rate.dynamic_opacity_log_widths": radam(1e-4),
    },
    "Ex4DGS, released training code": {
        "expert.background": (1.0, 1.0, 1.0),
        "expert.extra_width": 3.0,
        "expert.eps2d": 0.1,
        "rate.means": radam(1.6e-4, final_ratio=0.01, decay_steps=30000),
        # Meant so; the released loop never gets to this group.
        "rate.dynamic_means": radam(1.6e-4, final_ratio=0.1, decay_steps=30000),
        "rate.displacements": radam(1e-4),
        "rate.quats": radam(1e-5),
        "rate.scales": radam(5e-3),
        "rate.opacities": radam(0.05),
        "rate.sh0": radam(2.5e-3),
        "rate.shN": radam(1.25e-4),
        "rate.dynamic_quats": radam(1e-3),
        "rate.dynamic_scales": radam(5e-3),
        "rate.dynamic_sh0": radam(2.5e-3),
        "rate.dynamic_shN": radam(1.25e-4),
        "recipe.ssim_lambda": 0.2,
        "recipe.random_background": True,
        "recipe.error_prune.start": 20000,
        "recipe.error_prune.every_rounds": 5,
        "recipe.error_prune.max_l1": 0.08,
        "recipe.error_prune.min_ssim": 0.6,
        "recipe.error_prune.visibility_start": 6000,
        "recipe.error_prune.min_radius": 5.0,
        "recipe.adjust_lead": 3000,
        "recipe.growth.stop": 12800,  # 300 frames, 400 steps for every ten of them
    },
    OWN: {
        "expert.as_released": False,
        "recipe.as_released": False,
        "recipe.densification.max_gaussians": 360000,
        "recipe.densification.reference_pixels": 1352 * 1014,
        "recipe.error_prune.max_fraction": 0.02,
    },
}
ED3DGS: Numbers = {
    "E-D3DGS, released N3V configuration": {
        "steps": 80000,
        "rate.means": adam(1.6e-4, final_ratio=0.01, decay_steps=80000),
        # 1.6e-4 per unit of extent, in a scene of extent 5.
        "rate.decoders": adam(8e-4, final_ratio=0.1, decay_steps=80000),
        "rate.time_grid": adam(8e-4, final_ratio=0.1, decay_steps=80000),
        "rate.time_offsets": adam(2e-5),
        "expert.time_rows": None,  # half the frames: 150 of 300
        "expert.coarse_time_rows": None,  # a tenth of them: 30
        "expert.time_spread": 0.01,
        "expert.deform_opacity": True,
        "expert.deform_sh": True,
        "recipe.densification.refine_start_iter": 5000,
        "recipe.densification.grow_grad2d": 3e-4,
        "recipe.weight_embedding": 1.0,
        "recipe.weight_time_smoothness": 0.0,
        "recipe.motion_steps": 1000,
        "recipe.appearance_start": 5000,
        "recipe.appearance_steps": 1000,
        "recipe.time_growth_steps": 10000,
        "recipe.sampling.random_until": 10000,
    },
    "E-D3DGS, released training code": {
        "rate.embeddings": adam(2.5e-3),
        "expert.background": (1.0, 1.0, 1.0),
        "expert.embedding_size": 32,
        "expert.time_size": 256,
        "expert.width": 128,
        "recipe.densification.refine_every": 100,
        "recipe.densification.prune_opa": 0.005,
        "recipe.ssim_lambda": 1 / 3,  # L1 + (1 - SSIM) / 2
        "recipe.ssim_lambda_between": 0.0,
        "recipe.weight_opacity": 1e-4,
        "recipe.num_neighbours": 20,
        "recipe.sampling.burst_every": 50,
        "recipe.sampling.burst_steps": 5,
        "recipe.sampling.far_quantile": 0.5,  # 0.4 in the paper
    },
    OWN: {
        "expert.tf32": True,
        "recipe.densification.max_gaussians": 360000,
        "recipe.densification.refine_stop_iter": 79900,
    },
}
FREETIME: Numbers = {
    "FreeTimeGS, paper, and FreeTimeGS++, released base configuration": {
        "steps": 30000,
        "rate.means": adam(1.6e-4, final_ratio=0.01, decay_steps=30000),
        "rate.velocities": adam(1.6e-3, final_ratio=0.01, decay_steps=30000),
        "rate.time_centers": adam(1.6e-4),  # seconds, not per extent
        "rate.durations": adam(5e-3),
        "rate.gate_logits": adam(1e-3),
        "expert.life": "bell",
        "recipe.ssim_lambda": 0.2,
        "recipe.densification.refine_start_iter": 500,
        "recipe.densification.refine_stop_iter": 24900,  # the last one before 25000
        "recipe.densification.refine_every": 100,
        "recipe.densification.prune_opa": 0.005,
        "recipe.weight_visible_opacity": 0.01,
        "recipe.weight_scale": 0.0,  # 0.01 in FreeTimeGS++
    },
    "FreeTimeGS++, released final configuration": {"recipe.weight_gate": 1e-3},
    SPLATTING: {"expert.background": (0.0, 0.0, 0.0)},
    OWN: {
        "rate.flat_halves": adam(1.6e-4),
        "expert.initial_duration": None,
        "expert.lives_per_point": 4,
        "recipe.densification.max_gaussians": 360000,
        "recipe.densification.grow_grad2d": 2e-4,  # without any effect: nothing grows
    },
}
TRACKED: Numbers = {
    "Dynamic3DGaussians, released training code": {
        "rate.dynamic_quats": adam(1e-3),
        "rate.dynamic_opacities": adam(0.05),
        "rate.dynamic_sh0": adam(2.5e-3),
        "expert.sh_degree": 0,  # one colour for all directions
        "expert.key_interval": 1,
        "recipe.ssim_lambda": 0.2,
        "recipe.num_neighbours": 20,
        "recipe.weight_rotation": 4.0,
        "recipe.densification.refine_start_iter": 500,
        "recipe.densification.refine_every": 100,
        "recipe.densification.grow_grad2d": 2e-4,
        "recipe.densification.prune_opa": 0.005,
        "expert.background": (0.0, 0.0, 0.0),
    },
    SPLATTING: {
        "steps": 30000,
        "rate.means": adam(1.6e-4, final_ratio=0.01, decay_steps=30000),
        # In Dynamic3DGaussians it does not fall.
        "rate.dynamic_means": adam(1.6e-4, final_ratio=0.01, decay_steps=30000),
        "rate.dynamic_scales": adam(5e-3),  # 1e-3 in Dynamic3DGaussians
        "rate.dynamic_shN": adam(1.25e-4),
        "recipe.densification.refine_stop_iter": 15000,
    },
    OWN: {
        "recipe.weight_rigidity": 0.1,  # 4 per metre
        "recipe.weight_isometry": 0.05,  # 2 per metre
        "recipe.densification.max_gaussians": 360000,
    },
}
ANY_ROUTER: Numbers = {
    "MoE-GS, Eq. 8, and the evaluation of the released code": {"temperature": 1.0},
    "MoE-GS, section 3.2 and released loss": {"recipe.ssim_lambda": 0.2},
    RELEASE: {"steps": 5000},
    OWN: {
        "gates.uniform": 0.0,
        "gates.blur": 0.0,
        "recipe.weight_gate_change": 0.0,
        "prune.ratio": None,
        "prune.threshold": None,
        "prune.criterion": "gated-contribution",
        "prune.per_expert": False,
        "prune.rounds": 1,
        "prune.every": 1000,
        "prune.max_views": None,
        "num_random_points": 10000,
    },
}
GROUPS: Numbers = {
    # The rates are the paper's, the decay of w and w_dir is the released code's.
    f"{PAPER_41}; {RELEASE}": {
        "rate.router_weights": radam(0.5, final_ratio=0.01, decay_steps=10000)
    },
    PAPER_41: {"rate.router_time": radam(0.05), "rate.router_phi": radam(0.05)},
}
VOLUME_AWARE: Numbers = {
    RELEASE: {"router.initial_weight": 0.9, "router.hidden": (6, 3), "router.kernel_size": 1},
    "MoE-GS, Eq. 6 and 7": {
        "router.direction_weights": True,
        "router.time_weights": True,
        "router.refine": True,
    },
    OWN: {"router.stacked": False},
}


def merged(*parts: Numbers) -> dict[str, tuple[Any, str]]:
    """Values and sources by name; later parts replace earlier ones."""
    return {
        name: (value, source)
        for part in parts
        for source, numbers in part.items()
        for name, value in numbers.items()
    }


NUMBERS = {
    "moegs-stg": merged(ANY_EXPERT, STG),
    "moegs-4dgaussians": merged(ANY_EXPERT, HEXPLANE),
    "moegs-ex4dgs": merged(ANY_EXPERT, EX4DGS),
    "moegs-ed3dgs": merged(ANY_EXPERT, ED3DGS),
    "moegs-freetime": merged(ANY_EXPERT, FREETIME),
    "moegs-tracked": merged(ANY_EXPERT, TRACKED),
    "moegs-router": merged(ANY_ROUTER, GROUPS, VOLUME_AWARE),
    "moegs-joint": merged(ANY_ROUTER, GROUPS, VOLUME_AWARE, {OWN: {"steps": 0}}),
    "moegs-pixel-router": merged(
        ANY_ROUTER, {OWN: {"router.hidden": (32, 32), "rate.router_phi": radam(5e-3)}}
    ),
    "moegs-volume-router": merged(
        ANY_ROUTER,
        GROUPS,
        {RELEASE: {"router.hidden": (6, 3)}},
        {OWN: {"rate.router_weights": radam(0.05, final_ratio=0.01, decay_steps=10000)}},
    ),
}
"""Of every family's first method; the others are told by what they change of it, in
`tests/test_published_recipes.py`."""
