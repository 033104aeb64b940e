"""What nerfstudio's trainer and pipeline here ask of every model and of its configuration."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.base_model import Model, ModelConfig


@dataclass
class GaussianModelConfig(ModelConfig):
    """Options of every model; hides those that nerfstudio's models of rays read, and ours never."""

    enable_collider: tyro.conf.Suppress[bool] = False
    """Hidden, since Gaussians have their own near plane."""
    collider_params: tyro.conf.Suppress[dict[str, float] | None] = None
    """Hidden likewise."""
    loss_coefficients: tyro.conf.Suppress[dict[str, float]] = field(default_factory=dict)
    """Hidden, since recipes weigh their losses."""
    eval_num_rays_per_chunk: tyro.conf.Suppress[int] = 4096
    """Hidden, since images are rendered whole; nerfstudio's commands may set it."""
    prompt: tyro.conf.Suppress[str | None] = None
    """Hidden, since nothing is made from text."""
    budget: Annotated[float, tyro.conf.arg(aliases=["--budget"])] = 1.0
    """Fraction of the published steps to train for; scales every schedule."""

    def check(self, config: TrainerConfig) -> None:
        """Complete and check the options, before anything is printed or written.

        Reads at most the configurations of other runs. Does nothing the second time.

        Raises:
            OSError: a run that is named does not exist.
            ValueError: an option is out of range, or options contradict each other.
        """
        if not self.budget > 0:
            raise ValueError(
                f"--budget expects a fraction of the full recipe above 0, got {self.budget}."
            )

    def prepare(self, config: TrainerConfig) -> None:
        """Train what this training needs; called once the config is written. See `check`.

        Raises:
            RuntimeError: another training failed.
        """


class GaussianModel(Model):
    """A model that trains Gaussians or what mixes them."""

    def begin_training(self) -> None:
        """Load what the training starts from; the pipeline moves it to the device then."""

    def training_record(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """What this kind of model writes into the run's training.json.

        Args:
            earlier: the record of the run that was resumed; empty for a new one.
        """
        raise NotImplementedError

    def size_report(self) -> str:
        """How many Gaussians there are and which option bounds them; for lack of memory."""
        raise NotImplementedError

    def origin_of_points(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """Record of the points that the first session of the training started from."""
        origin = (self.kwargs.get("metadata") or {}).get("points3D_origin")
        return {"initial_points": earlier.get("initial_points", origin)}


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
