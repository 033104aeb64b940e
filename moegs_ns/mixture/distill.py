"""Distillation: a trained mixture teaches one expert, whose architecture stays (Eq. 11)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from jaxtyping import Float
from nerfstudio.configs.base_config import PrintableConfig
from torch import Tensor

from moegs_ns.training.losses import (
    PhotometricErrors,
    Supervision,
    TrainingRender,
    masked,
    photometric_loss,
)
from moegs_ns.training.optimizers import scaled_steps


@dataclass
class DistillationConfig(PrintableConfig):
    """A teacher and its weight in the loss; steps are those of the full recipe."""

    teacher: Annotated[Path | None, tyro.conf.arg(aliases=["--teacher"])] = None
    """Trained mixture (config.yml or folder of a moegs-router run) that teaches this expert; None
    for the training images alone. Needed while training only."""
    gate: Annotated[str | None, tyro.conf.arg(aliases=["--teacher-gate"])] = None
    """Name of the teacher's expert whose gate weights the loss; None for the one of this expert's
    family, if there is exactly one."""
    cache_gb: Annotated[float, tyro.conf.arg(aliases=["--teacher-cache-gb"])] = 4.0
    """Host memory for the teacher's images, 4 bytes a pixel with the gate. Images that do
    not fit are rendered again whenever they are needed, which changes nothing but the time."""
    weighting: Literal["gate-weighted", "unweighted"] = "gate-weighted"
    """Trust the ground truth where the expert's gate is high and the teacher where it is low
    (Eq. 11), or both alike everywhere."""
    lam: float = 0.5
    """Weight of the ground truth against the teacher's images (λ of Eq. 11, not published)."""
    final_lam: float | None = None
    """λ at `final_step` and later, linear from `lam`; None to keep `lam`."""
    final_step: int = 10000
    """Step at which `final_lam` is reached."""
    normalize: bool = False
    """Divide the loss by the mean weight of its pixels. As published, gates and λ make it about
    half as large as a plain loss, and with it the screen gradients that densification judges by."""

    def check(self) -> None:
        """Raise ValueError unless λ lies in [0, 1]."""
        for name, value in (("lam", self.lam), ("final-lam", self.final_lam)):
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(
                    f"Expected a fraction of the ground truth between 0 and 1, got {value:g}; "
                    f"change --pipeline.model.distillation.{name}."
                )

    def summary(self) -> list[str]:
        """What a table must say of a student; nothing where there is no teacher."""
        if self.teacher is None:
            return []
        lam = f"{self.lam:g}" if self.final_lam is None else f"{self.lam:g} to {self.final_lam:g}"
        kind = f"{self.weighting}{', normalized' if self.normalize else ''} teacher"
        return [f"{kind}, lambda {lam}"]


@dataclass(frozen=True, eq=False)
class TeacherTargets:
    """The teacher's renders for the images of one time of a step, in [0, 1]."""

    image: Float[Tensor, "C H W 3"]
    gate: Float[Tensor, "C H W 1"] | None = None
    """The student's gate in the mixture; None where it is not used."""


class Distillation(Supervision):
    """Training images and a teacher's, weighed by λ and the student's gate."""

    def __init__(
        self,
        config: DistillationConfig,
        teacher: Callable[[TrainingRender], TeacherTargets],
        budget: float,
    ) -> None:
        super().__init__()
        self.config = config
        self.teacher = teacher
        self.budget = budget
        self._images = 0
        self._sums = torch.zeros(2)

    def lam(self, step: int) -> float:
        """Weight of the ground truth at a step (λ of Eq. 11)."""
        first, last = self.config.lam, self.config.final_lam
        if last is None:
            return first
        done = min(1.0, step / scaled_steps(self.config.final_step, self.budget))
        return first + (last - first) * done

    def errors(
        self, parts: Sequence[TrainingRender], ssim_lambda: float, step: int
    ) -> PhotometricErrors:
        """See base. Samplers judge images by the ground truth, whatever the student is taught."""
        with torch.no_grad():
            plain = super().errors(parts, ssim_lambda, step)
        num_views = sum(len(part.indices) for part in parts)
        options = {"ssim_lambda": ssim_lambda, "normalize": self.config.normalize}
        losses = []
        for part in parts:
            targets = self.teacher(part)
            targets = replace(targets, image=masked(targets.image, part.mask))
            self._observe(part, targets)
            loss = distilled_loss(part.image, part.target, targets, self.lam(step), **options)
            losses.append(loss * (len(part.indices) / num_views))
        return replace(plain, loss=torch.stack(losses).sum())

    @torch.no_grad()
    def _observe(self, part: TrainingRender, targets: TeacherTargets) -> None:
        errors = (targets.image - part.target).square().mean(dim=(1, 2, 3))
        if part.mask is not None:
            # Both are black elsewhere.
            errors = errors / part.mask.float().mean(dim=(1, 2, 3)).clamp(min=1e-6)
        errors = errors.sum()
        gates = errors.new_zeros(()) if targets.gate is None else targets.gate.mean((1, 2, 3)).sum()
        # Summed on the device: reading them would synchronise with the host.
        self._sums = self._sums.to(errors) + torch.stack([errors, gates])
        self._images += len(part.indices)

    def state(self) -> dict[str, Any]:
        return {"images": self._images, "sums": self._sums}

    def load_state(self, state: dict[str, Any]) -> None:
        """See base; a checkpoint from before there was a teacher has none."""
        self._images = state.get("images", self._images)
        self._sums = state.get("sums", self._sums)

    def report(self) -> dict[str, Any]:
        """See base. PSNR in dB and mean gate are over `images`, which count repeats."""
        config, images = self.config, self._images
        error, gate = (self._sums / max(1, images)).tolist()
        report = {
            "teacher": str(config.teacher), "gate": config.gate, "weighting": config.weighting,
            "images": images,
            "teacher_psnr": -10.0 * math.log10(error) if images and error > 0.0 else None,
            "mean_gate": gate if images and config.gate is not None else None,
        }  # fmt: skip
        return {"distillation": report}


def distilled_loss(
    pred: Float[Tensor, "C H W 3"],
    target: Float[Tensor, "C H W 3"],
    teacher: TeacherTargets,
    lam: float,
    *,
    ssim_lambda: float,
    normalize: bool = False,
) -> Float[Tensor, ""]:
    """Ground truth where the student's gate is high, the mixture's image where it is low (Eq. 11).

    `lam` balances the two terms; without a gate both count at every pixel alike (appendix G). With
    `normalize` the loss is divided by the mean of λ·G + (1 - λ)·(1 - G), so that its gradients are
    as large as those of a plain loss.
    """
    gate = teacher.gate
    if gate is None:
        images = (target, teacher.image)
        truth, taught = (photometric_loss(pred, image, ssim_lambda) for image in images)
        return lam * truth + (1.0 - lam) * taught
    trusted = photometric_loss(gate * pred, gate * target, ssim_lambda)
    doubted = photometric_loss((1.0 - gate) * pred, (1.0 - gate) * teacher.image, ssim_lambda)
    loss = lam * trusted + (1.0 - lam) * doubted
    if not normalize:
        return loss
    weights = lam * gate + (1.0 - lam) * (1.0 - gate)
    return loss / weights.mean().clamp(min=1e-3)
