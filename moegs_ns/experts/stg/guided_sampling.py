"""Guided sampling (Li et al., CVPR 2024): new Gaussians along rays of badly rendered regions."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from nerfstudio.configs.base_config import PrintableConfig
from torch import Tensor

from moegs_ns.training.losses import TrainingRender, structural_similarity

EXPOSURE_OFFSET = 0.01
"""Added to an image's mean before dividing by it, so that black images are no exception."""
TILE = 16
BORDER = 0.1
"""Fraction of the image along each edge in which nothing is sampled."""
SOLID = 0.5
"""Opacity from which a pixel's depth counts."""


@dataclass
class GuidedSamplingConfig(PrintableConfig):
    """When and where rays are sampled; steps are those of the full recipe."""

    start: int | None = None
    """Step from which cameras are judged, published as 1600; None switches guided sampling off,
    which its authors advise for scenes of one's own."""
    gap: int = 100
    """Steps between two samplings at least."""
    num_cameras: int = 2
    """Cameras that are sampled, those whose images are worst; each of them once."""
    candidate_ssim: float = 0.91
    """A camera is chosen only if its first image after `start` is less similar than this."""
    act_ssim: float = 0.88
    """A chosen camera is sampled only if its image is less similar than this at that moment."""
    error_quantile: float = 0.6
    """Pixels with larger errors than this fraction of all pixels are bad."""
    tile_fraction: float = 0.85
    """Fraction of bad pixels from which a tile of 16x16 pixels is sampled."""
    depth_factors: tuple[float, ...] = (0.7, 7.5)
    """Positions of the new Gaussians along a ray, as multiples of the image's largest depth."""
    jitter: float = 0.05
    """Largest random change of these positions, relative."""


@dataclass
class GuidedSamplingState:
    """What has been observed and done so far; saved with the recipe."""

    first_ssim: dict[int, float] = field(default_factory=dict)
    """Similarity of the first image of each camera after the start."""
    chosen: list[int] | None = None
    """Cameras that are still to be sampled; None before all have been seen."""
    last_step: int = 0


class GuidedSampling:
    """Chooses the worst cameras once, and samples each of them when it comes up again."""

    def __init__(self, config: GuidedSamplingConfig, num_cameras: int) -> None:
        self.config = config
        self.num_cameras = num_cameras
        self.state = GuidedSamplingState()

    def is_wanted(self, step: int, gap: int, camera: int, part: TrainingRender) -> bool:
        """Look at the last image of `part`, which `camera` took; whether to sample it now."""
        state, config = self.state, self.config
        if state.chosen is None:
            if camera not in state.first_ssim:
                state.first_ssim[camera] = last_ssim(part)
            if len(state.first_ssim) == self.num_cameras:
                state.chosen = self._choose()
            return False
        if camera not in state.chosen or step - state.last_step <= gap:
            return False
        state.chosen.remove(camera)
        if last_ssim(part) >= config.act_ssim:
            return False
        state.last_step = step
        return True

    def _choose(self) -> list[int]:
        ranked = sorted(self.state.first_ssim.items(), key=lambda item: item[1])
        bad = [camera for camera, ssim in ranked if ssim < self.config.candidate_ssim]
        # A single bad camera is likely to differ in its colours, which new Gaussians cannot mend.
        return bad[: self.config.num_cameras] if len(bad) >= 2 else []


def last_ssim(part: TrainingRender) -> float:
    """Structural similarity of the last image of a part to its target."""
    return float(structural_similarity(part.image[-1:].detach(), part.target[-1:])[0])


def bad_pixels(
    image: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], config: GuidedSamplingConfig
) -> Bool[Tensor, "H W"]:
    """Pixels to sample: three of four in tiles that are bad almost everywhere.

    Both images are divided by their mean first, so that exposure does not count as an error.
    """
    relative = [value / (value.mean() + EXPOSURE_OFFSET) for value in (image, target)]
    error = (relative[0] - relative[1]).abs().sum(-1)
    height, width = error.shape
    rank = max(1, int(config.error_quantile * error.numel()))
    is_bad = error > error.flatten().kthvalue(rank).values
    tiles = torch.nn.functional.avg_pool2d(
        is_bad.float()[None, None], TILE, ceil_mode=True, count_include_pad=False
    )
    is_chosen = (tiles > config.tile_fraction)[0, 0]
    chosen = is_chosen.repeat_interleave(TILE, 0).repeat_interleave(TILE, 1)[:height, :width]
    y = torch.arange(height, device=error.device)[:, None]
    x = torch.arange(width, device=error.device)[None]
    is_inside = (y >= BORDER * height) & (y < height - BORDER * height)
    is_inside = is_inside & (x >= BORDER * width) & (x < width - BORDER * width)
    return chosen & is_inside & ~((y % 2 == 0) & (x % 2 == 0))


def points_along_rays(
    part: TrainingRender, config: GuidedSamplingConfig, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Positions and colours of new Gaussians for the last image of `part`.

    The published code takes the largest median depth of the view before training; here it is the
    largest expected depth of the moment, among pixels that are rather opaque.
    """
    image, target = part.image[-1].detach().clamp(0.0, 1.0), part.target[-1]
    depth, alpha = part.render.depth[-1, ..., 0].detach(), part.render.alpha[-1, ..., 0]
    is_sampled = bad_pixels(image, target, config)
    if not bool((alpha > SOLID).any()) or not bool(is_sampled.any()):
        return target.new_zeros(0, 3), target.new_zeros(0, 3)
    farthest = depth[alpha > SOLID].amax()
    origins, directions = (rays[-1][is_sampled] for rays in part.view.rays())
    forward = part.view.viewmats[-1, 2, :3]
    # Depth is counted along the optical axis, a ray's length along its own direction.
    per_depth = directions / (directions @ forward)[:, None].clamp(min=1e-6)
    positions = []
    for factor in config.depth_factors:
        random = torch.rand(len(origins), generator=generator).to(depth)
        jitter = 1.0 + config.jitter * (2.0 * random - 1.0)
        positions.append(origins + per_depth * (factor * farthest * jitter)[:, None])
    return torch.cat(positions), target[is_sampled].repeat(len(positions), 1)
