"""Rewriting Gaussians with keyframes, together with their optimisers' state (Ex4DGS)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpert
from moegs_ns.experts.keyframe_recipe import DynamicDensifier
from moegs_ns.experts.keyframes import same_side
from moegs_ns.training.optimizers import replace_parameter

EDGE = 0.5
"""Distance in keys below which a centre of opacity lies at the end of the frames trained so far."""
MARGIN = 0.2
"""Distance in keys from these ends that adjusted centres keep."""
SMALLEST_SPAN = 0.1
"""Smallest width of a new temporal opacity window, in keys."""
EDGE_LOG_WIDTH = 1.0
SMALLEST_LOG_WIDTH = 0.5
LARGEST_LOG_WIDTH = 4.0
"""Where widening ends; the release widens on, until the width overflows."""
CHILD_LOG_WIDTH = 2.0


@torch.no_grad()
def dynamic_gaussians(
    expert: Ex4DGSExpert,
    is_converted: Bool[Tensor, "N"],
    best_frames: Float[Tensor, "n"],
    width: float,
) -> dict[str, Tensor]:
    """Raw parameters of dynamic Gaussians that move exactly as the marked static ones do.

    They are opaque from half-way between the start and the frame that each one fits best to
    half-way from there to the last frame trained so far. Outside they fade `width` times as slowly
    as the frames from the best one to either end; the release takes the logarithm of a width for
    the width itself, which overflows and makes them opaque at all times.
    """
    static = {name: value.detach()[is_converted] for name, value in expert.gauss_params.items()}
    num_keys, duration = expert.key_gauss_params.num_keys, expert.duration
    drift = static.pop("displacements")[:, None] / duration
    frames = expert.key_frames(num_keys)
    margin = min(1.0, 0.5 * duration)
    centers = torch.stack([0.5 * best_frames, 0.5 * (duration + best_frames)], dim=-1)
    spans = torch.stack([best_frames, duration - best_frames], dim=-1) / expert.interval
    spans = spans + expert.config.time_padding / expert.config.key_interval
    return static | {
        "means": static["means"][:, None] + drift * frames[:, None],
        "quats": static["quats"][:, None].repeat(1, num_keys, 1),
        "opacity_centers": expert.in_keys(centers.clamp(margin, duration - margin)),
        "opacity_log_widths": torch.log(width * spans.clamp(min=SMALLEST_SPAN)),
    }


@torch.no_grad()
def extend_keys(expert: Ex4DGSExpert, dynamic: DynamicDensifier, last_frame: int) -> None:
    """Let the dynamic Gaussians go on up to `last_frame`; nothing changes where keys were before.

    Gaussians that were visible at the old end fade out softly beyond it, until they learn better.
    """
    raw = expert.key_gauss_params
    end = expert.in_keys(expert.duration)
    centers = raw["opacity_centers"].detach().clamp(max=expert.in_keys(float(last_frame)))
    log_widths = raw["opacity_log_widths"].detach().clone()
    log_widths[centers.amax(-1) > end - EDGE, 1] = EDGE_LOG_WIDTH
    missing = expert.keys_needed(last_frame) - raw.num_keys
    means, quats = raw["means"].detach(), raw["quats"].detach()
    extended = {
        "means": torch.cat([means, extrapolate(means, missing)], dim=1),
        "quats": torch.cat([quats, extrapolate_quats(quats, missing)], dim=1),
        "opacity_centers": centers,
        "opacity_log_widths": log_widths,
    }
    for name, values in extended.items():
        optimizer, old, new = dynamic.optimizers[name], raw[name], torch.nn.Parameter(values)
        # Moments start anew, in the shape that the new number of keys gives them.
        replace_parameter([optimizer], old, new, lambda _, like=new: torch.zeros_like(like.data))
        raw[name] = new


@torch.no_grad()
def adjust_windows(expert: Ex4DGSExpert) -> None:
    """Widen what fades at either end of the frames, where nothing tells when it should; keep all
    centres a little inside and no window too narrow.
    """
    raw = expert.key_gauss_params
    start, end = expert.in_keys(0.0), expert.in_keys(expert.duration)
    centers, log_widths = raw["opacity_centers"].data, raw["opacity_log_widths"].data
    is_at_end = torch.stack([centers.amin(-1) < start + EDGE, centers.amax(-1) > end - EDGE], -1)
    wider = (2.0 * log_widths.clamp(min=EDGE_LOG_WIDTH)).clamp(max=LARGEST_LOG_WIDTH)
    log_widths.copy_(torch.where(is_at_end, wider, log_widths).clamp(min=SMALLEST_LOG_WIDTH))
    margin = min(MARGIN, 0.5 * (end - start))
    centers.clamp_(start + margin, end - margin)


@torch.no_grad()
def redraw_windows(expert: Ex4DGSExpert, added: slice, generator: torch.Generator) -> None:
    """Give added Gaussians centres near those of their parents and wide windows."""
    start, end = expert.in_keys(0.0), expert.in_keys(expert.duration)
    centers = expert.key_gauss_params["opacity_centers"].data[added]
    spread = (centers[:, :1] - centers[:, 1:]).abs() / 3.0
    spread = spread.clamp(min=2.0 / expert.config.key_interval)
    draws = torch.randn(centers.shape, generator=generator).to(centers)
    centers.add_(spread * draws).clamp_(start, end)
    expert.key_gauss_params["opacity_log_widths"].data[added] = CHILD_LOG_WIDTH


def extrapolate(keys: Float[Tensor, "N K D"], count: int) -> Float[Tensor, "N n D"]:
    """`count` keys that go on from the last one with the mean step of the last few.

    The released code averages the offsets from one fixed key instead of the steps, which shoots
    over the end.
    """
    span = min(keys.shape[1] - 2, 4)
    step = (keys[:, -1] - keys[:, -1 - span]) / span
    steps = torch.arange(1, count + 1, device=keys.device, dtype=keys.dtype)
    return keys[:, -1:] + steps[:, None] * step[:, None]


def extrapolate_quats(quats: Float[Tensor, "N K 4"], count: int) -> Float[Tensor, "N n 4"]:
    """`extrapolate` for rotations: unit quaternions, every one on the side of the key before."""
    unit = list(normalize(quats, dim=-1).unbind(1))
    for key in range(1, len(unit)):
        unit[key] = same_side(unit[key], unit[key - 1])
    return normalize(extrapolate(torch.stack(unit, 1), count), dim=-1)
