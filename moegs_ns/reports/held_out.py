"""Held-out images of a run, and even choices among images."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View, view_from_cameras
from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.training.losses import target_image


def held_out(
    pipeline: MoegsPipeline, index: int
) -> tuple[View, Float[Tensor, "H W 3"], dict[str, Any]]:
    """View, ground truth in [0, 1] and batch of a held-out image, on the pipeline's device."""
    camera, batch = pipeline.datamanager.eval_item(index)
    view = view_from_cameras(camera).to(pipeline.device)
    return view, target_image(batch, view.viewmats.device), batch


def evenly_spaced(length: int, count: int) -> list[int]:
    """At most `count` numbers below `length`, ends included."""
    return torch.linspace(0, length - 1, min(length, count)).round().long().tolist()
