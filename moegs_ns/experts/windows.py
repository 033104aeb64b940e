"""One expert made of several: each renders its own window of the clip."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from moegs_ns.experts.base import Expert, ExpertConfig
from moegs_ns.gaussians import Gaussians
from moegs_ns.scene import InitialPoints, SceneInfo, is_same_rig

Window = tuple[int, int]
"""First and last frame of a window, both included, counted as the recording counts them."""


@dataclass
class WindowedExpertConfig(ExpertConfig):
    """The experts of consecutive windows and the frames that each was trained on."""

    _target: type = field(default_factory=lambda: WindowedExpert)
    members: tuple[ExpertConfig, ...] = ()
    """Shape of the expert of each window, of any family, in order of time."""
    windows: tuple[Window, ...] = ()
    """First and last frame of each, in the recording's own numbers."""


def joined_config(
    members: Sequence[ExpertConfig], windows: Sequence[Window]
) -> WindowedExpertConfig:
    """The configuration of one expert made of `members`, which render `windows` in that order.

    Raises:
        ValueError: the members' near planes or backgrounds differ.
    """
    shared = {(member.near, member.background) for member in members}
    if len(shared) != 1:
        raise ValueError(
            "Expected windows of one expert to share near plane and background, got "
            f"{sorted(shared)}; train all with the same --pipeline.model.expert.near and "
            "--pipeline.model.expert.background."
        )
    near, background = shared.pop()
    return WindowedExpertConfig(
        sh_degree=max(member.sh_degree for member in members),
        background=background,
        near=near,
        members=tuple(members),
        windows=tuple(windows),
    )


class WindowedExpert(Expert):
    """Experts of consecutive windows of the clip, of which one renders at a time.

    Gaussians are those of all members, one member after the other; `at` returns those of the member
    whose window holds the time. `gauss_params` are empty: parameters lie in the members.
    Choosing the member reads the time from its device.
    """

    config: WindowedExpertConfig

    def __init__(
        self, config: WindowedExpertConfig, scene: SceneInfo, points: InitialPoints | None = None
    ) -> None:
        check_covers(config.windows, scene)
        super().__init__(config, scene, None)
        self.member_modules = nn.ModuleList(
            member.setup(scene=replace(scene, num_frames=last - first + 1, first_frame=first))
            for member, (first, last) in zip(config.members, config.windows, strict=True)
        )

    def initial_parameters(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        """None of its own."""
        return {}

    @property
    def members(self) -> list[Expert]:
        """The experts of the windows, in order of time."""
        return cast(list[Expert], list(self.member_modules))

    def share_scene(self) -> None:
        """Take over extent and near plane of the members, once those are loaded.

        Raises:
            ValueError: they were trained on different cameras.
        """
        first = self.members[0]
        shared = first.scene.center, first.scene.extent
        for member, (start, end) in zip(self.members, self.config.windows, strict=True):
            if not is_same_rig(shared, (member.scene.center, member.scene.extent)):
                raise ValueError(
                    "Expected windows of one expert to be trained on the same cameras, but those "
                    f"of frames {start} to {end} lie within {member.scene.extent:.4g} of their "
                    f"middle, the first window's within {first.scene.extent:.4g}; train all with "
                    "the same --val-cameras."
                )
        for name in ("scene_center", "scene_extent", "rig_center", "rig_extent"):
            getattr(self, name).copy_(getattr(first, name))
        self.keep_stored_scene()

    @property
    def offsets(self) -> list[int]:
        """Index of the first Gaussian of each member, and the number of all at the end."""
        counts = torch.tensor([0, *(member.num_gaussians for member in self.members)])
        return counts.cumsum(0).tolist()

    @property
    def num_gaussians(self) -> int:
        """See base; the Gaussians of all windows together."""
        return self.offsets[-1]

    def window_at(self, time: Float[Tensor, ""]) -> int:
        """Index of the window that holds a time; between two frames the nearer one decides."""
        frame = self.scene.first_frame + float(time) * (self.scene.num_frames - 1)
        ends = [last + 0.5 for _, last in self.config.windows[:-1]]
        return sum(frame >= end for end in ends)

    def member_at(self, time: Float[Tensor, ""]) -> Expert:
        """See base; the expert of the window."""
        return self.members[self.window_at(time)]

    def local_time(self, time: Float[Tensor, ""], index: int) -> Float[Tensor, ""]:
        """A time of the clip as the time, in [0, 1], of a window; its ends are held beyond it."""
        first, last = self.config.windows[index]
        frame = time * (self.scene.num_frames - 1) + (self.scene.first_frame - first)
        return (frame / max(1, last - first)).clamp(0.0, 1.0)

    def at(self, time: Float[Tensor, ""], camera: Int[Tensor, ""] | None = None) -> Gaussians:
        """See base; only the Gaussians of the window, with ids among those of all."""
        index = self.window_at(time)
        part = self.members[index].at(self.local_time(time, index), camera)
        ids = part.ids
        if ids is None:
            ids = torch.arange(len(part), device=part.means.device)
        return replace(part, ids=ids + self.offsets[index])

    def shade(
        self,
        rgb: Float[Tensor, "*s 3"],
        features: Float[Tensor, "*s D"],
        ray_origins: Float[Tensor, "*s 3"],
        ray_directions: Float[Tensor, "*s 3"],
    ) -> Float[Tensor, "*s 3"]:
        """See base; for members with shading of their own ask `member_at` for the right one."""
        assert not self.has_shading, "colours of a window are finished by its own expert"
        return rgb

    @property
    def has_shading(self) -> bool:
        """Whether that of any member does."""
        return any(member.has_shading for member in self.members)

    def select(self, keep: Bool[Tensor, "N"] | Int[Tensor, "M"]) -> "Expert":
        """See base; those of earlier windows come first, each in the order listed as far as its
        family keeps that."""
        ids = torch.nonzero(keep)[:, 0] if keep.dtype == torch.bool else keep
        copy, offsets = deepcopy(self), self.offsets
        copy.member_modules = nn.ModuleList(
            member.select(ids[(ids >= start) & (ids < end)] - start)
            for member, start, end in zip(self.members, offsets[:-1], offsets[1:], strict=True)
        )
        return copy


def check_covers(windows: Sequence[Window], scene: SceneInfo) -> None:
    """Raise ValueError unless the windows, which follow each other, are this clip."""
    first, last = windows[0][0], windows[-1][1]
    clip_last = scene.first_frame + scene.num_frames - 1
    if (first, last) != (scene.first_frame, clip_last):
        raise ValueError(
            f"Expected windows of this clip, frames {scene.first_frame} to {clip_last}, but those "
            f"in --experts hold frames {first} to {last}; train the router with --frames {first} "
            f"{last} after the parser's name, or name other windows."
        )
