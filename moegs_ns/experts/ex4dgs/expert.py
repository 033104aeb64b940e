"""Ex4DGS (Lee et al., NeurIPS 2024): static Gaussians that drift, dynamic ones with keyframes."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from moegs_ns.experts.base import RANDOM_MOTION, ExpertConfig
from moegs_ns.experts.keyframe_expert import KEYED, KeyframeExpert, KeyRowParameters
from moegs_ns.gaussians import Gaussians
from moegs_ns.scene import InitialPoints, SceneInfo

PUBLISHED_FPS = 30.0
FULL_WIDTH = 2.36
"""Full width at half maximum of a Gaussian in standard deviations, as the release rounds it."""
SMALLEST_SEED_SPAN = 0.1
"""Smallest width of the temporal opacity window of a moving seed, in keys."""


@dataclass
class Ex4DGSExpertConfig(ExpertConfig):
    """Shape of an Ex4DGS expert; the defaults are those published for N3V."""

    _target: type = field(default_factory=lambda: Ex4DGSExpert)
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Colour behind opaque scenes; scenes with transparent images bring their own."""
    key_interval: int = 10
    """Frames between two keys in clips of 30 frames a second, as the published ones are; in others
    keys are as many seconds apart. Clips of unknown rate count as such."""
    time_padding: int = 2
    """Frames, in such clips, before the first one that keys reach too; 3 for Technicolor."""
    extra_width: float = 3.0
    """Frames, in such clips, that both sides of the temporal opacity window gain as full width at
    half maximum."""
    eps2d: float = 0.1
    """Variance in square pixels of the 2-D kernel; opacity is lowered to make up for it."""
    as_released: bool = False
    """Fade in by the later of the two centres of opacity, as the released code does by mistake,
    which makes Gaussians appear with a jump."""


class Ex4DGSExpert(KeyframeExpert):
    """Static and dynamic Gaussians in one set, the static ones first.

    `gauss_params` are those of the static Gaussians, among them `displacements`: how far each one
    drifts over the frames trained so far. `key_gauss_params` are those of the dynamic ones: `means`
    [N, K, 3] and `quats` [N, K, 4] at K keys, and the two `opacity_centers` (in keys) and
    `opacity_log_widths` (log of keys) between and beyond which they are visible.
    """

    config: Ex4DGSExpertConfig

    def __init__(
        self, config: Ex4DGSExpertConfig, scene: SceneInfo, points: InitialPoints | None = None
    ) -> None:
        check_config(config)
        still, seeds = points, None
        # Densification expects static Gaussians: where everything moves, all begin at rest.
        if points is not None and 0 < int(points.is_moving.sum()) < len(points):
            still, seeds = points.select(~points.is_moving), points.select(points.is_moving)
        super().__init__(config, scene, still)
        self.seeds = seeds
        """Moving seeds, which become dynamic Gaussians as soon as their frames are trained."""
        rate = scene.fps / PUBLISHED_FPS if scene.fps > 0 else 1.0
        self.interval = max(1, round(config.key_interval * rate))
        self.key_offset = config.time_padding / config.key_interval
        self.duration = float(max(1, scene.num_frames - 1))
        """Frames over which `displacements` are counted: those that are trained so far."""
        self.key_gauss_params = KeyRowParameters()
        self.start_with(scene.num_frames - 1)

    def initial_parameters(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        """See base; all Gaussians but moving seeds are static and at rest at first."""
        rest = {"displacements": torch.zeros(len(points), 3)}
        return super().initial_parameters(points, scene) | rest

    def start_with(self, last_frame: int) -> None:
        """Make keys for frames up to `last_frame` without dynamic Gaussians but the moving seeds of
        these frames, before training."""
        self.duration = float(max(1, last_frame))
        num_keys = self.keys_needed(last_frame)
        empty = {name: value.detach()[:0].clone() for name, value in self.gauss_params.items()}
        empty["opacity_centers"] = empty.pop("displacements").new_zeros(0, 2)
        empty["opacity_log_widths"] = empty["opacity_centers"].clone()
        for name, width in zip(KEYED, (3, 4), strict=True):
            empty[name] = empty[name].new_zeros(0, num_keys, width)
        self.key_gauss_params.update({name: nn.Parameter(value) for name, value in empty.items()})
        if (seeded := self.seeded(-1.0, self.duration)) is not None:
            self.key_gauss_params.update({n: nn.Parameter(v) for n, v in seeded.items()})

    @property
    def is_at_start(self) -> bool:
        """Whether there are no dynamic Gaussians but the moving seeds of the frames so far."""
        count = 0
        if self.seeds is not None:
            count = int((self._seed_frames(self.seeds) <= self.duration).sum())
        return self.num_dynamic == count

    def seeded(self, after: float, until: float) -> dict[str, Tensor] | None:
        """Raw parameters of dynamic Gaussians, one for each moving seed of the frames beyond
        `after` and up to `until`; None if there is none.

        Each passes its place at its time with its velocity, and is opaque half-way to the seeds
        before and after it. Two keys away from its time it rests, as it may have turned by then.
        """
        if self.seeds is None:
            return None
        frames = self._seed_frames(self.seeds)
        is_chosen = (frames > after) & (frames <= until)
        if not bool(is_chosen.any()):
            return None
        seeds, frames, last = self.seeds.select(is_chosen), frames[is_chosen], self._last_frame
        raw = super().initial_parameters(seeds, self.scene)
        num_keys = self.key_gauss_params.num_keys
        away = (self.key_frames(num_keys).cpu() - frames[:, None]).clamp(
            -2.0 * self.interval, 2.0 * self.interval
        )
        velocities = seeds.clip_velocities(self.scene) / last
        half_gap = 0.5 * self.seeds.time_gap * last
        centers = torch.stack([frames - half_gap, frames + half_gap], dim=-1)
        span = torch.tensor(max(half_gap / self.interval, SMALLEST_SEED_SPAN))
        seeded = raw | {
            "means": raw["means"][:, None] + away[..., None] * velocities[:, None],
            "quats": raw["quats"][:, None].repeat(1, num_keys, 1),
            "opacity_centers": self.in_keys(centers.clamp(0.0, self.duration)),
            "opacity_log_widths": span.log().expand(len(seeds), 2).clone(),
        }
        return {name: value.to(self.background) for name, value in seeded.items()}

    @property
    def _last_frame(self) -> float:
        return float(max(1, self.scene.num_frames - 1))

    def _seed_frames(self, seeds: InitialPoints) -> Float[Tensor, "N"]:
        assert seeds.times is not None
        return seeds.times * self._last_frame

    def at(self, time: Float[Tensor, ""], camera: Int[Tensor, ""] | None = None) -> Gaussians:
        frame = time * (self.scene.num_frames - 1)
        static, dynamic = self.gauss_params, self.key_gauss_params
        drifted = static["means"] + static["displacements"] * (frame / self.duration)
        poses = self.dynamic_poses(frame)
        return Gaussians(
            means=torch.cat([drifted, poses.means]),
            quats=torch.cat([functional.normalize(static["quats"], dim=-1), poses.quats]),
            scales=torch.cat([static["scales"], dynamic["scales"]]).exp(),
            opacities=torch.cat(
                [
                    static["opacities"].sigmoid(),
                    dynamic["opacities"].sigmoid() * self._window(frame),
                ]
            ),
            sh=self.active_sh_of_all(),
            eps2d=self.config.eps2d,
            antialiased=True,
        )

    def _window(self, frame: Float[Tensor, ""]) -> Float[Tensor, "M"]:
        """Factors on the opacities of the dynamic Gaussians."""
        return opacity_window(
            self.in_keys(frame),
            self.key_gauss_params["opacity_centers"],
            self.key_gauss_params["opacity_log_widths"],
            self._extra_width,
            as_released=self.config.as_released,
        )

    @property
    def _extra_width(self) -> float:
        """What both sides of a window gain in width, in keys."""
        return self.config.extra_width / self.config.key_interval / FULL_WIDTH

    def visibility(self, time: Float[Tensor, ""]) -> Float[Tensor, "N"]:
        """See base; that of static Gaussians is 1."""
        window = self._window(time * (self.scene.num_frames - 1))
        return torch.cat([window.new_ones(self.num_static), window])

    def life_spans(self) -> Float[Tensor, "N"]:
        """See base; counted over all frames of the clip, also those that are not trained yet."""
        dynamic = self.key_gauss_params
        keys = window_lengths(
            dynamic["opacity_centers"], dynamic["opacity_log_widths"], self._extra_width
        )
        spans = (keys * self.interval / self._last_frame).clamp(max=1.0)
        return torch.cat([spans.new_ones(self.num_static), spans])

    @property
    def graph_key(self) -> Hashable | None:
        return self.active_sh_degree, self.duration

    @torch.no_grad()
    def set_in_motion(self, generator: torch.Generator) -> None:
        """See base; a third of the static Gaussians become dynamic ones, which move along random
        paths and are visible all the time. Before training, as optimisers do not follow."""
        super().set_in_motion(generator)
        is_moving = torch.zeros(self.num_static, dtype=torch.bool)
        is_moving[: self.num_static // 3] = True
        raw = {name: value.detach()[is_moving].clone() for name, value in self.gauss_params.items()}
        num_keys = self.key_gauss_params.num_keys
        ends = torch.tensor([0.0, self.duration]).to(raw["means"])
        raw["opacity_centers"] = self.in_keys(ends).expand(len(raw.pop("displacements")), 2).clone()
        raw["opacity_log_widths"] = torch.zeros_like(raw["opacity_centers"])
        for name in KEYED:
            keys = raw[name][:, None].repeat(1, num_keys, 1)
            noise = torch.randn(keys.shape, generator=generator).to(keys)
            raw[name] = keys + RANDOM_MOTION * noise
        self.key_gauss_params.update({name: nn.Parameter(value) for name, value in raw.items()})
        self.gauss_params.select_(~is_moving)

    def get_extra_state(self) -> dict[str, Any]:
        return super().get_extra_state() | {"duration": self.duration}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.duration = float(state["duration"])


def opacity_window(
    time: Float[Tensor, ""],
    centers: Float[Tensor, "N 2"],
    log_widths: Float[Tensor, "N 2"],
    extra_width: float,
    *,
    as_released: bool = False,
) -> Float[Tensor, "N"]:
    """Temporal opacity window, a factor of the opacity: 1 between a Gaussian's two centres.

    Outside it is exp(-(distance / width)^2) with the first width before both centres and the second
    after them; `extra_width` is added to both. The released code measures the time before both
    centres to the later one, which makes a step at the earlier one.
    """
    early, late = centers.amin(-1), centers.amax(-1)
    widths = log_widths.exp() + extra_width
    start = late if as_released else early
    before = torch.where(time < early, start - time, 0.0)
    after = torch.where(time > late, time - late, 0.0)
    return torch.exp(-((before / widths[:, 0]) ** 2) - (after / widths[:, 1]) ** 2)


def window_lengths(
    centers: Float[Tensor, "N 2"], log_widths: Float[Tensor, "N 2"], extra_width: float
) -> Float[Tensor, "N"]:
    """Integral of `opacity_window` over all times, in keys: the flat part and two half bells."""
    flat = (centers[:, 1] - centers[:, 0]).abs()
    return flat + 0.5 * math.sqrt(math.pi) * (log_widths.exp() + extra_width).sum(-1)


def check_config(config: Ex4DGSExpertConfig) -> None:
    """Raise ValueError for numbers of frames that make no keys."""
    if config.key_interval < 1 or config.time_padding < 0 or config.extra_width <= 0:
        raise ValueError(
            "Ex4DGS expects a --pipeline.model.expert.key-interval of at least 1 frame, a "
            "time-padding of at least 0 and an extra-width above 0, got "
            f"{config.key_interval}, {config.time_padding} and {config.extra_width}."
        )
