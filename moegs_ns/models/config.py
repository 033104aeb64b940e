"""What all models share: nerfstudio's options, and the guard around a render."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import tyro
from nerfstudio.models.base_model import ModelConfig


@dataclass
class GaussianModelConfig(ModelConfig):
    """Hides options that nerfstudio's models of rays read, and ours never do."""

    enable_collider: tyro.conf.Suppress[bool] = False
    """Hidden, since Gaussians have their own near plane."""
    collider_params: tyro.conf.Suppress[dict[str, float] | None] = None
    """Hidden likewise."""
    loss_coefficients: tyro.conf.Suppress[dict[str, float]] = field(default_factory=dict)
    """Hidden, since recipes weigh their losses."""
    eval_num_rays_per_chunk: tyro.conf.Suppress[int] = 4096
    """Hidden, since images are drawn whole; nerfstudio's commands may set it."""
    prompt: tyro.conf.Suppress[str | None] = None
    """Hidden, since nothing is made from text."""


@contextmanager
def no_tracing() -> Iterator[None]:
    """No tracing within a render: nerfstudio's viewer aborts one by raising from a trace function,
    which must not happen during a CUDA graph's capture, in a kernel or in a first import."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
