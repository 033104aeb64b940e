"""Perceptual distances and the conventions of similarity that papers report, each under a name of
its own; docs/metrics.md tells which paper has which.

Weights are never downloaded: a distance whose weights are missing is left out.
"""

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from moegs_ns.training.losses import similarity_map

LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
"""File of torchvision's AlexNet, the trunk of LPIPS."""
WEIGHTS_VARIABLE = "MOEGS_LPIPS_WEIGHTS"
"""Environment variable with the path of that file, where it is not in torch's cache."""
MS_SSIM_SIDE = 160
"""MS-SSIM halves images four times and looks through 11 pixels then: sides must be longer."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of two batches of images [B, 3, H, W]."""


def lpips_weights_path() -> Path:
    """Where the trunk of LPIPS is or belongs."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    return Path(named) if named else Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS


def lpips(pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> float | None:
    """LPIPS (AlexNet) of images in [0, 1], mapped to [-1, 1] as the network was trained; None where
    its weights are missing.

    Raises:
        ValueError: the file of weights is not that of torchvision's AlexNet.
    """
    network = _lpips_network(os.fspath(lpips_weights_path()), str(pred.device))
    return None if network is None else _distance(network, 2.0 * pred - 1.0, 2.0 * target - 1.0)


def lpips_unmapped(pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> float | None:
    """The same with images handed over in [0, 1], as the evaluation of 3D Gaussian splatting and of
    most papers after it does; smaller than `lpips`."""
    network = _lpips_network(os.fspath(lpips_weights_path()), str(pred.device))
    return None if network is None else _distance(network, pred, target)


def st_lpips(pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> float | None:
    """Shift-tolerant LPIPS (Ghildyal and Liu, ECCV 2022), another distance, whose package brings
    its weights; None where it is not installed (the extra `perceptual`)."""
    network = _st_lpips_network(str(pred.device))
    return None if network is None else _distance(network, 2.0 * pred - 1.0, 2.0 * target - 1.0)


def convention_metrics(
    image: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]
) -> dict[str, float]:
    """Similarities and distances of images in [0, 1] as papers report them, by name: those that
    weights, packages and the size of the image allow."""
    padded = float(similarity_map(image[None], target[None]).mean())
    found = {"ssim_padded": padded, "dssim1": 0.5 * (1.0 - padded)}
    if min(image.shape[:2]) > MS_SSIM_SIDE:
        multiscale = ms_ssim(image, target)
        found |= {"ms_ssim": multiscale, "dssim_ms": 0.5 * (1.0 - multiscale)}
    optional = {"lpips_alex_01": lpips_unmapped, "st_lpips": st_lpips}
    distances = {name: distance(image, target) for name, distance in optional.items()}
    return found | {name: value for name, value in distances.items() if value is not None}


def ms_ssim(pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> float:
    """Multi-scale SSIM (Wang et al., 2003) of images with sides above `MS_SSIM_SIDE`: five scales,
    values in [0, 1], no padding."""
    from pytorch_msssim import ms_ssim as library

    planes = (image.permute(2, 0, 1)[None] for image in (pred, target))
    return float(library(*planes, data_range=1.0))


@torch.no_grad()
def _distance(
    network: Distance, pred: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]
) -> float:
    return float(network(*(image.permute(2, 0, 1)[None] for image in (pred, target))))


@cache
def _lpips_network(weights: str, device: str) -> Distance | None:
    """The metric, built once per process and in no module's state dict."""
    if not Path(weights).is_file():
        CONSOLE.print(
            f"LPIPS is not reported: its weights are missing; put torchvision's {LPIPS_WEIGHTS} "
            f"at {weights}, or name its path in the environment variable {WEIGHTS_VARIABLE}."
        )
        return None
    # torchmetrics' own class loads the trunk from torch's cache only, over the network if need be.
    from torchmetrics.functional.image.lpips import _LPIPS

    network = _LPIPS(net="alex", pnet_rand=True)
    trunk = {
        f"net.slice{part}.{layer}.{kind}": f"features.{layer}.{kind}"
        for part, layer in enumerate((0, 3, 6, 8, 10), 1)
        for kind in ("weight", "bias")
    }
    own: dict[str, Any] = network.state_dict()
    try:
        stored = torch.load(weights, map_location="cpu", weights_only=True)
        for name, source in trunk.items():
            own[name].copy_(stored[source])
    except Exception as error:
        raise ValueError(
            f"LPIPS expects the weights of torchvision's AlexNet ({LPIPS_WEIGHTS}), but {weights} "
            f"holds something else ({type(error).__name__}); put that file there, or take this "
            "one away to go without LPIPS."
        ) from error
    return network.to(device)


@cache
def _st_lpips_network(device: str) -> Distance | None:
    # The package needs the second one without saying so.
    if any(find_spec(package) is None for package in ("stlpips_pytorch", "torchsummary")):
        return None
    from stlpips_pytorch import stlpips  # pyright: ignore[reportMissingImports]

    network = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    return network.requires_grad_(False).eval().to(device)
