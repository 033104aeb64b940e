"""Dynamic3DGaussians (Luiten et al., 3DV 2024) over the whole clip at once: Gaussians with one
colour, size and opacity, and a pose at every key frame, beside static ones."""

from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from moegs_ns.experts.base import RANDOM_MOTION, ExpertConfig
from moegs_ns.experts.keyframe_expert import KEYED, KeyframeExpert, KeyRowParameters
from moegs_ns.experts.tracked.seed_tracks import follow_seeds
from moegs_ns.gaussians import Gaussians
from moegs_ns.scene import InitialPoints, SceneInfo

START_OPACITY = 0.5
REACH = 4.0
"""Distance, in sizes of a seed, within which seeds of several times are taken for one thing."""


@dataclass
class TrackedExpertConfig(ExpertConfig):
    """Shape of a tracked expert."""

    _target: type = field(default_factory=lambda: TrackedExpert)
    sh_degree: int = 0
    """Highest degree of the spherical harmonics that hold colour; published as one colour for all
    directions."""
    key_interval: int = 1
    """Frames between two poses of a dynamic Gaussian, with a spline in between; 1, as published,
    is a pose for every frame."""


class TrackedExpert(KeyframeExpert):
    """The same Gaussians at all times; only poses of dynamic ones change.

    Moving seeds among the initial points become the dynamic Gaussians, all other points static
    ones. Where no point is a moving seed nothing tells what moves, so all are dynamic and begin at
    rest: a static Gaussian could never begin to move.
    """

    config: TrackedExpertConfig

    def __init__(
        self, config: TrackedExpertConfig, scene: SceneInfo, points: InitialPoints | None = None
    ) -> None:
        check_config(config)
        if points is None:
            points = InitialPoints(torch.zeros(0, 3), torch.zeros(0, 3))
        is_dynamic = points.is_moving
        if not bool(is_dynamic.any()):
            is_dynamic = torch.ones_like(is_dynamic)
        super().__init__(config, scene, points.select(~is_dynamic))
        self.interval = config.key_interval
        self.key_gauss_params = KeyRowParameters(
            self.dynamic_parameters(points.select(is_dynamic), scene)
        )

    def initial_parameters(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        """See base."""
        opacities = torch.full((len(points),), START_OPACITY).logit()
        return super().initial_parameters(points, scene) | {"opacities": opacities}

    def dynamic_parameters(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        """Raw parameters of dynamic Gaussians: one for each track of moving seeds, which goes on
        with constant velocity, or for each point, at rest."""
        last_frame = max(1, scene.num_frames - 1)
        num_keys = self.keys_needed(scene.num_frames - 1)
        if scene.seconds == 0.0 or points.velocities is None:
            # Later seeds could not be told from those that have moved there.
            points = points.of_first_time()
        raw = self.initial_parameters(points, scene)
        if points.times is None:
            means = raw["means"][:, None].repeat(1, num_keys, 1)
        else:
            reaches = REACH * raw["scales"][:, 0].exp()
            tracks = follow_seeds(points, points.clip_velocities(scene), reaches)
            raw = {name: value[tracks.seeds] for name, value in raw.items()}
            means = tracks.at(self.key_frames(num_keys) / last_frame)
        return raw | {"means": means, "quats": raw["quats"][:, None].repeat(1, num_keys, 1)}

    def at(self, time: Float[Tensor, ""], camera: Int[Tensor, ""] | None = None) -> Gaussians:
        static, dynamic = self.gauss_params, self.key_gauss_params
        poses = self.dynamic_poses(time * (self.scene.num_frames - 1))
        return Gaussians(
            means=torch.cat([static["means"], poses.means]),
            quats=torch.cat([normalize(static["quats"], dim=-1), poses.quats]),
            scales=torch.cat([static["scales"], dynamic["scales"]]).exp(),
            opacities=torch.cat([static["opacities"], dynamic["opacities"]]).sigmoid(),
            sh=self.active_sh_of_all(),
        )

    @property
    def graph_key(self) -> Hashable | None:
        return self.active_sh_degree

    @torch.no_grad()
    def set_in_motion(self, generator: torch.Generator) -> None:
        """See base; dynamic Gaussians move along random paths."""
        for name in KEYED:
            keys = self.key_gauss_params[name]
            keys.add_(torch.randn(keys.shape, generator=generator).to(keys), alpha=RANDOM_MOTION)


def check_config(config: TrackedExpertConfig) -> None:
    """Raise ValueError for a distance of keys that makes none."""
    if config.key_interval < 1:
        raise ValueError(
            "moegs-tracked expects a --pipeline.model.expert.key-interval of at least 1 frame, got "
            f"{config.key_interval}."
        )
