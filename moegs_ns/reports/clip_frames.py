"""The Gaussians of a run at chosen frames of its clip."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.experts.base import Expert
from moegs_ns.experts.names import readable
from moegs_ns.gaussians import Gaussians
from moegs_ns.mixture.fuse import fused_parts
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.mixture.volume_mixture import refuse_shading
from moegs_ns.models.expert_sources import unique_names
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.fusion import stored_or_measured
from moegs_ns.scene import SceneInfo

OWN_COLORS = "A file holds the colours of Gaussians"


@dataclass(frozen=True, eq=False)
class ClipSet:
    """The Gaussians of an expert over the whole clip."""

    experts: list[Expert]
    names: list[str]
    """Of the experts, for people."""

    @property
    def scene(self) -> SceneInfo:
        """The scene of the run."""
        return self.experts[0].scene

    @property
    def what(self) -> str:
        """What the Gaussians are, in words."""
        return f"the expert {self.names[0]}"

    @property
    def shares(self) -> list[Float[Tensor, "_"]]:
        """Of each expert's full set, what opacities are times where its Gaussians are drawn as one
        set with the others'."""
        return [torch.ones(expert.num_gaussians) for expert in self.experts]

    @property
    def gate_features(self) -> list[Float[Tensor, "_ F"]]:
        """Of each expert's full set, what gates are computed from; F is 0 without gates."""
        return [torch.zeros(expert.num_gaussians, 0) for expert in self.experts]

    def time_of(self, frame: int) -> float:
        """Time in [0, 1] of a frame, counted as the recording counts."""
        return (frame - self.scene.first_frame) / max(1, self.scene.num_frames - 1)

    def moment(self, frame: int) -> Float[Tensor, ""]:
        """The time of a frame, where the experts are."""
        return torch.tensor(self.time_of(frame), device=self.experts[0].background.device)

    @torch.no_grad()
    def parts(self, frame: int) -> list[Gaussians]:
        """The Gaussians of each expert at a frame."""
        return [expert.at(self.moment(frame)) for expert in self.experts]


@dataclass(frozen=True, eq=False)
class MixtureClip(ClipSet):
    """The experts of a mixture over the whole clip, and what makes one set of them."""

    mixture: Mixture
    responsibilities: list[Float[Tensor, "_"]]
    """Of each expert's full set."""


@dataclass(frozen=True, eq=False)
class FusedClip(MixtureClip):
    """The fused set of a mixture over the whole clip."""

    @property
    def what(self) -> str:
        """See base."""
        return f"the fused set of {' and '.join(self.names)}"

    @torch.no_grad()
    def parts(self, frame: int) -> list[Gaussians]:
        """See base; opacities are times the responsibilities."""
        return fused_parts(self.mixture, self.responsibilities, self.moment(frame))


def clip_set(pipeline: MoegsPipeline, method: str, max_views: int | None = None) -> ClipSet:
    """What a run shows: its expert, or its mixture's fused set.

    Args:
        method: that the run was trained by, which names a single expert.
        max_views: training images to measure responsibilities on; None for all of them, or for
            those that are stored in the run.

    Raises:
        ValueError: an expert decodes colours per pixel.
    """
    model = pipeline.model
    if not isinstance(model, MixtureModel):
        refuse_shading([model.expert], OWN_COLORS)
        return ClipSet([model.expert], [readable(name) for name in unique_names([method])])
    values = stored_or_measured(pipeline, max_views)
    names = [readable(name) for name in model.config.expert_names]
    return FusedClip(list(model.mixture.experts), names, model.mixture, values)


def chosen_frames(scene: SceneInfo, frames: tuple[int, int] | None, every: int = 1) -> list[int]:
    """Frames from the first to the last of `frames`, both included, or of the whole clip; only
    each `every`-th of them.

    Raises:
        ValueError: they are not frames of this clip, or `every` is no positive number.
    """
    clip = scene.first_frame, scene.first_frame + scene.num_frames - 1
    first, last = frames or clip
    if not clip[0] <= first <= last <= clip[1]:
        raise ValueError(
            f"--frames expects the first and the last of some frames of this clip, {clip[0]} to "
            f"{clip[1]}, got {first} {last}."
        )
    if every < 1:
        raise ValueError(f"--every expects a number of frames of at least 1, got {every}.")
    return list(range(first, last + 1, every))
