"""Rewriting Gaussians with keyframes, together with their optimisers' state (Ex4DGS)."""

import torch
from gsplat.strategy.ops import remove
from gsplat.utils import normalized_quat_to_rotmat
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from moegs_ns.experts.ex4dgs.expert import Ex4DGSExpert
from moegs_ns.experts.ex4dgs.keyframes import extrapolate, extrapolate_quats
from moegs_ns.training.densification import Densifier
from moegs_ns.training.optimizers import replace_parameter

SHRINK = 1.6
"""How much smaller the children of a split Gaussian are."""
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


class DynamicDensifier(Densifier):
    """Densification of Gaussians whose means and rotations have an axis of keys."""

    split_spread = 2.0
    """Standard deviation of a child's position about its parent, in scales of the parent."""

    @torch.no_grad()
    def split(self, is_split: Bool[Tensor, "N"]) -> None:
        """See base; a child keeps its position relative to the rotating parent at all keys."""
        parents = {name: value.detach()[is_split] for name, value in self.parameters.items()}
        sizes = parents["scales"].exp()
        draws = torch.randn(2, *sizes.shape, generator=self.generator).to(sizes)
        rotations = normalized_quat_to_rotmat(normalize(parents["quats"], dim=-1))
        offsets = torch.einsum("nkij,cnj->cnki", rotations, self.split_spread * sizes * draws)
        children = {
            name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in parents.items()
        }
        children["means"] = children["means"] + offsets.flatten(0, 1)
        children["scales"] = torch.log(sizes / SHRINK).repeat(2, 1)
        statistics = {name: value[is_split].repeat(2) for name, value in self.statistics.items()}
        self.append(children, statistics)
        self.remove(torch.cat([is_split, is_split.new_zeros(2 * len(sizes))]))

    @torch.no_grad()
    def remove(self, is_removed: Bool[Tensor, "N"]) -> int:
        """Remove the marked Gaussians, all of them if need be; returns how many went."""
        count = int(is_removed.sum())
        if count:
            remove(self.parameters, self.optimizers, self.statistics, is_removed)
        return count


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
