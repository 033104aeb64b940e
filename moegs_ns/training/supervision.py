"""What images an expert is trained against: the seam at which a teacher joins any recipe."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from moegs_ns.cuda_graphs.graphed import GraphedCallable, Outputs
from moegs_ns.gaussians import cat_or_single
from moegs_ns.training.losses import PhotometricErrors, photometric_errors
from moegs_ns.training.training_render import TrainingRender


class Supervision:
    """The training images alone. Distillation (`ops.distill`) adds those of a teacher."""

    def __init__(self) -> None:
        self._plain: dict[float, PlainErrors] = {}

    def errors(
        self, parts: Sequence[TrainingRender], ssim_lambda: float, step: int
    ) -> PhotometricErrors:
        """Loss of a step, a mean over its images, and the errors that samplers judge them by.

        Images come in the order of `parts`.
        """
        images, targets = (
            cat_or_single([getattr(part, name) for part in parts]) for name in ("image", "target")
        )
        return self.plain_errors(images, targets, ssim_lambda)

    def plain_errors(
        self,
        images: Float[Tensor, "C H W 3"],
        targets: Float[Tensor, "C H W 3"],
        ssim_lambda: float,
    ) -> PhotometricErrors:
        """`photometric_errors`, replayed where possible: to be used before the next call."""
        if ssim_lambda not in self._plain:
            self._plain[ssim_lambda] = PlainErrors(ssim_lambda)
        return self._plain[ssim_lambda](images, targets)

    def report(self) -> dict[str, Any]:
        """What the record of the training says about it."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a resumed training needs for the same report."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`."""


class PlainErrors:
    """`photometric_errors` at one weight of the structural term, replayed where possible."""

    def __init__(self, ssim_lambda: float) -> None:
        self.ssim_lambda = ssim_lambda
        self._replayed = GraphedCallable(self._flat)

    def __call__(
        self, images: Float[Tensor, "C H W 3"], targets: Float[Tensor, "C H W 3"]
    ) -> PhotometricErrors:
        """The errors, which are overwritten by the next call."""
        loss, l1, *ssim = self._replayed(images, targets)
        return PhotometricErrors(loss, l1, ssim[0] if ssim else None)

    def _flat(self, images: Tensor, targets: Tensor) -> Outputs:
        errors = photometric_errors(images, targets, self.ssim_lambda)
        parts = errors.loss, errors.l1.detach()
        return parts if errors.ssim is None else (*parts, errors.ssim)
