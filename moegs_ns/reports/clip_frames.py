"""The Gaussians of a run at chosen frames of its clip."""

from dataclasses import dataclass, field

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
    """An expert, or the fused set of a mixture, over the whole clip."""

    experts: list[Expert]
    names: list[str]
    """Of the experts, for people."""
    fused: Mixture | None = None
    responsibilities: list[Float[Tensor, "_"]] = field(default_factory=list)

    @property
    def scene(self) -> SceneInfo:
        """The scene of the run."""
        return self.experts[0].scene

    @property
    def what(self) -> str:
        """What the Gaussians are, in words."""
        if self.fused is None:
            return f"the expert {self.names[0]}"
        return f"the fused set of {' and '.join(self.names)}"

    def time_of(self, frame: int) -> float:
        """Time in [0, 1] of a frame, counted as the recording counts."""
        return (frame - self.scene.first_frame) / max(1, self.scene.num_frames - 1)

    @torch.no_grad()
    def parts(self, frame: int) -> list[Gaussians]:
        """The Gaussians of each expert at a frame; of a mixture the fused ones."""
        time = torch.tensor(self.time_of(frame), device=self.experts[0].background.device)
        if self.fused is not None:
            return fused_parts(self.fused, self.responsibilities, time)
        return [self.experts[0].at(time)]


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
    return ClipSet(list(model.mixture.experts), names, model.mixture, values)


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
