"""How the opacity of a Gaussian with keyframes depends on time (Lee et al., NeurIPS 2024)."""

import torch
from jaxtyping import Float
from torch import Tensor


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
