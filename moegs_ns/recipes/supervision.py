"""What images an expert is trained against: the seam at which a teacher joins any recipe."""

from typing import Any

from moegs_ns.losses import PhotometricErrors, photometric_errors
from moegs_ns.recipes.training_splat import TrainingSplat


class Supervision:
    """The training images alone. Distillation (`ops.distill`) adds those of a teacher."""

    def errors(self, part: TrainingSplat, ssim_lambda: float, step: int) -> PhotometricErrors:
        """Loss of one instant of a step, and the errors that samplers judge its images by."""
        return photometric_errors(part.image, part.target, ssim_lambda)

    def report(self) -> dict[str, Any]:
        """What the record of the training says about it."""
        return {}
