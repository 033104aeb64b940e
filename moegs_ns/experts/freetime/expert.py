"""FreeTimeGS (Wang et al., CVPR 2025): each Gaussian has a time of its own, a duration and a
velocity; nothing else of it changes."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.experts.base import Expert, ExpertConfig
from moegs_ns.experts.freetime.lives import LIVES, BellLife, LifeName
from moegs_ns.gaussians import Gaussians
from moegs_ns.scene import InitialPoints, SceneInfo
from moegs_ns.seeds import run_seed

START_OPACITY = 0.5
USUAL_FPS = 30.0
"""Frames per second of clips that do not tell theirs."""


@dataclass
class FreeTimeExpertConfig(ExpertConfig):
    """Shape of a FreeTimeGS expert."""

    _target: type = field(default_factory=lambda: FreeTimeExpert)
    life: LifeName = "bell"
    """How opacity depends on time: a bell (FreeTimeGS), a short bell over a learned floor
    (FreeTimeGS++), or a flat top between two bells, where long lives move slowly (SharpTimeGS)."""
    initial_duration: float | None = None
    """Seconds; published as 0.1 for dense points of every tenth frame. None for the time between
    two frames of the initial points or, where these are of one frame, two lives of a point."""
    lives_per_point: int = 4
    """Gaussians that a point becomes at even distances over the clip, if the initial points are
    of one frame or of none that is known."""

    def one_per_point(self) -> "FreeTimeExpertConfig":
        """See base."""
        return replace(self, lives_per_point=1)


class FreeTimeExpert(Expert):
    """Linear motion and temporal opacity about each Gaussian's own time.

    Times and durations are in seconds of the clip, velocities in world units per second, so that
    the published numbers keep their meaning at any rate and length.
    """

    config: FreeTimeExpertConfig
    clip_seconds: Float[Tensor, ""]
    """From the first to the last frame; that of the training wherever the expert is opened."""

    def __init__(
        self, config: FreeTimeExpertConfig, scene: SceneInfo, points: InitialPoints | None = None
    ) -> None:
        super().__init__(config, scene, points)
        self.register_buffer("clip_seconds", torch.tensor(clip_seconds(scene)))

    @property
    def life(self) -> BellLife:
        """How opacity and motion depend on the distance from a Gaussian's own time."""
        return LIVES[self.config.life]

    def initial_parameters(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        """See base; times of their own are about the frames of the points, or all over the clip.
        Moving seeds, behind all other points, have their own time and velocity."""
        is_moving = points.is_moving
        if not bool(is_moving.any()):
            return self._lives_of(points.select(~is_moving), scene)
        parts = [self._lives_of(points.select(mask), scene) for mask in (~is_moving, is_moving)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _lives_of(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        """Raw parameters of points that are all moving seeds, or none of which is."""
        generator = torch.Generator().manual_seed(run_seed())
        centers, gap = own_times(points, scene, self.config.lives_per_point, generator)
        lives = centers.shape[1]
        is_lasting = torch.full((centers.numel(),), points_are_of_one_frame(points))
        duration = self.config.initial_duration
        durations = torch.full((centers.numel(),), gap if duration is None else duration)
        velocities = points.velocities
        if velocities is None:
            velocities = torch.zeros_like(points.xyz)
        # All points, one life after the other: neighbours among the rows are apart in space.
        rows = {
            name: torch.cat([value] * lives)
            for name, value in super().initial_parameters(points, scene).items()
        }
        return (
            rows
            | {
                "opacities": torch.full((centers.numel(),), START_OPACITY).logit(),
                "time_centers": centers.T.flatten(),
            }
            | LIVES[self.config.life].initial_parameters(
                durations, torch.cat([velocities] * lives), is_lasting
            )
        )

    def at(self, time: Float[Tensor, ""], camera: Int[Tensor, ""] | None = None) -> Gaussians:
        raw = self.gauss_params
        dt = time * self.clip_seconds - raw["time_centers"]
        return Gaussians(
            means=raw["means"] + self.life.displacement(raw, dt),
            quats=torch.nn.functional.normalize(raw["quats"], dim=-1),
            scales=raw["scales"].exp(),
            opacities=raw["opacities"].sigmoid() * self.life.visibility(raw, dt),
            sh=self.active_sh(),
        )

    @property
    def graph_key(self) -> Hashable | None:
        return self.active_sh_degree

    def visibility(self, time: Float[Tensor, ""]) -> Float[Tensor, "N"]:
        raw = self.gauss_params
        return self.life.visibility(raw, time * self.clip_seconds - raw["time_centers"])

    def life_spans(self) -> Float[Tensor, "N"]:
        return self.life.spans(self.gauss_params, self.clip_seconds)

    @torch.no_grad()
    def highest_opacities(self) -> Float[Tensor, "N"]:
        """Opacity in the frame that is nearest to a Gaussian's own time: the highest of all frames.
        0 for lives that end between two frames or lie outside of the clip."""
        raw, last = self.gauss_params, max(1, self.scene.num_frames - 1)
        frame = self.clip_seconds / last
        nearest = (raw["time_centers"] / frame.clamp(min=1e-9)).round().clamp(0, last) * frame
        visibility = self.life.visibility(raw, nearest - raw["time_centers"])
        return raw["opacities"].sigmoid() * visibility


def clip_seconds(scene: SceneInfo) -> float:
    """Seconds from the first to the last frame of a clip, at the usual rate if its is unknown."""
    return scene.seconds or (scene.num_frames - 1) / USUAL_FPS


def frames_per_second(scene: SceneInfo) -> float:
    """Of a clip; the usual rate where the data do not tell."""
    return scene.fps if scene.fps > 0 else USUAL_FPS


def points_are_of_one_frame(points: InitialPoints) -> bool:
    """Whether the points tell nothing of what moves, so that each of them may be there always."""
    if points.times is not None:
        return False
    return points.frames is None or len(points.frames.unique()) < 2


def own_times(
    points: InitialPoints, scene: SceneInfo, lives: int, generator: torch.Generator
) -> tuple[Float[Tensor, "N L"], float]:
    """Own times of L Gaussians for every point, and the time between two lives, in seconds.

    Moving seeds live once, at their own time; points of several frames once, at most half the way
    to the next frame of points away from their own. Others live `lives` times at even distances,
    each point with a phase of its own.
    """
    seconds, frame = clip_seconds(scene), 1.0 / frames_per_second(scene)
    if points.times is not None:
        return points.times[:, None] * seconds, max(points.time_gap * seconds, frame)
    if points_are_of_one_frame(points):
        gap = max(seconds, frame) / lives
        phase = torch.rand(len(points), 1, generator=generator)
        centers = (torch.arange(lives) + phase) * (seconds / lives)
        return centers, gap
    assert points.frames is not None
    gap = float(points.frames.unique().float().diff().median()) * frame
    jitter = (torch.rand(len(points), generator=generator) - 0.5) * gap
    centers = (points.frames.float() * frame + jitter).clamp(0.0, seconds)
    return centers[:, None], gap
