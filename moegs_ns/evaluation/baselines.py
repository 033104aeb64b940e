"""What a mixture is compared with: blends without gates, and bounds that a gate could reach."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.evaluation.image_metrics import (
    all_metrics,
    decibels,
    image_metrics,
    quantize,
)
from moegs_ns.mixture.mixture import blurred
from moegs_ns.training.losses import mask_of, masked, target_image

FUSED = "fused"
"""Output that shows all experts as one set of Gaussians, once `moegs fuse --keep` was run."""
BLURS = (4, 16, 32)
"""Standard deviations in pixels over which errors are averaged before the best expert is chosen."""


def mixture_metrics(
    outputs: dict[str, Tensor],
    batch: dict[str, Any],
    names: Sequence[str],
    constant: Float[Tensor, "E"] | None,
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Quality of a mixture, of each expert and of blends and bounds to compare with, and mean
    gates; and images of all.

    Args:
        outputs: the mixture's named images.
        names: of the experts.
        constant: see `baseline_metrics`.
    """
    metrics, images = all_metrics(outputs["rgb"], batch), {}
    target = target_image(batch, outputs["rgb"].device)
    mask = mask_of(batch, target.device)
    images["img"] = torch.cat([target, outputs["rgb"].clamp(0, 1)], dim=1)
    for name in names:
        own, _ = image_metrics(outputs[f"rgb_{name}"], batch)
        metrics |= {f"{key}_{name}": value for key, value in own.items()}
        gate = outputs[f"gate_{name}"]
        if mask is None or bool(mask.any()):
            metrics[f"gate_{name}"] = float((gate if mask is None else gate[mask]).mean())
        images[f"expert_{name}"] = outputs[f"rgb_{name}"].clamp(0, 1)
        images[f"gate_{name}"] = outputs[f"gate_{name}"].expand(-1, -1, 3)
    if FUSED in outputs:
        own, _ = image_metrics(outputs[FUSED], batch)
        metrics |= {f"{key}_{FUSED}": value for key, value in own.items()}
    experts = torch.stack([outputs[f"rgb_{name}"] for name in names])
    return metrics | baseline_metrics(experts, batch, constant), images


def baseline_metrics(
    images: Float[Tensor, "E H W 3"], batch: dict[str, Any], constant: Float[Tensor, "E"] | None
) -> dict[str, float]:
    """Figures of a held-out image that a mixture's own are to be read beside.

    `psnr_average` and the like are of the plain mean of the experts' images, `psnr_constant` of the
    best constant weights. `psnr_oracle` takes the best expert at every pixel, which counts luck as
    well: two seeds of one method have an oracle far above both. `psnr_oracle_R` takes the best
    expert by errors that are blurred by R pixels, a bound for gates that are regions.

    Args:
        constant: weights of `fit_constant_weights`; without them those figures are left out.
    """
    blends = {"average": images.mean(0)}
    if constant is not None:
        blends["constant"] = blend_of(images, constant)
    metrics: dict[str, float] = {}
    for name, image in blends.items():
        own, _ = image_metrics(image, batch)
        metrics |= {f"{figure}_{name}": value for figure, value in own.items()}
    target, mask = target_image(batch, images.device), mask_of(batch, images.device)
    if mask is None:
        mask = torch.ones_like(target[..., :1], dtype=torch.bool)
    if not bool(mask.any()):
        return metrics
    # Pixels that do not count have no errors that a blur could spread.
    errors = squared_error(masked(images, mask), masked(target, mask)) / 3.0
    for blur in (0, *BLURS):
        name = f"psnr_oracle_{blur}" if blur else "psnr_oracle"
        metrics[name] = float(decibels(oracle_errors(errors, blur)[mask[..., 0]].mean()))
    return metrics


def blend_of(
    images: Float[Tensor, "E H W 3"], weights: Float[Tensor, "E"]
) -> Float[Tensor, "H W 3"]:
    """The experts' images with constant weights."""
    return torch.einsum("e,ehwc->hwc", weights.to(images), images)


def squared_error(
    image: Float[Tensor, "*s 3"], target: Float[Tensor, "H W 3"]
) -> Float[Tensor, "*s"]:
    """Summed over colours, of the image in 8 bits."""
    return (quantize(image) - target).square().sum(-1)


def oracle_errors(errors: Float[Tensor, "E H W"], blur: float) -> Float[Tensor, "H W"]:
    """Errors at every pixel of the expert whose errors around it, blurred by a Gaussian of `blur`
    pixels, are smallest; at 0 the smallest error."""
    best = blurred(errors, blur).argmin(0, keepdim=True)
    return errors.gather(0, best)[0]


def fit_constant_weights(
    pairs: Iterable[tuple[Float[Tensor, "E H W 3"], Float[Tensor, "H W 3"]]],
) -> Float[Tensor, "E"]:
    """Weights, none negative and 1 in sum, of the blend with the smallest squared error.

    Args:
        pairs: the experts' images and the ground truth of each training image, which is NaN at
            pixels that do not count.

    Raises:
        ValueError: there are none.
    """
    products: Tensor | None = None
    for images, target in pairs:
        # Weights sum to 1, so the blend's error is that of the experts' errors: w' (E E') w.
        errors = torch.where(target.isnan(), 0.0, images - target).flatten(1).double()
        products = errors @ errors.T + (0.0 if products is None else products)
    if products is None:
        raise ValueError("Constant weights are fitted on training images, got none.")
    return smallest_on_simplex(products.cpu()).float()


def smallest_on_simplex(products: Float[Tensor, "E E"]) -> Float[Tensor, "E"]:
    """The w that minimises w' P w with w >= 0 and sum w = 1, P positive semi-definite.

    Exact: some subset of the entries is positive, and within it the solution is that of a linear
    system (Karush-Kuhn-Tucker).
    """
    count = len(products)
    best, smallest = torch.zeros(count).to(products), torch.inf
    for size in range(1, count + 1):
        for chosen in map(list, combinations(range(count), size)):
            own = products[chosen][:, chosen]
            weights = torch.linalg.lstsq(own, torch.ones(size, 1).to(own), driver="gelsd").solution
            weights = weights[:, 0] / weights.sum()
            error = float(weights @ own @ weights)
            if bool((weights >= 0).all()) and error < smallest:
                best, smallest = torch.zeros_like(best), error
                best[chosen] = weights
    return best
