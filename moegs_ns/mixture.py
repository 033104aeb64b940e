"""The mixture of experts: the story of the paper in one short function."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor, nn

from moegs_ns.cameras import UNKNOWN_ID, View
from moegs_ns.experts.base import Expert
from moegs_ns.fields import VolumeAwarePixelRouter
from moegs_ns.gaussians import Gaussians
from moegs_ns.splatting import ExpertSplats, Splat, composite, splat_experts


def blend(
    images: Float[Tensor, "E H W 3"], logits: Float[Tensor, "E H W 1"], temperature: float
) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "E H W 1"]]:
    """Mix the experts' images by a softmax over their logits (Eq. 8); also returns the gates.

    Training, evaluation, rendering and the viewer all blend here.
    """
    gates = torch.softmax(logits / temperature, dim=0)
    return (gates * images).sum(dim=0), gates


def finish_image(
    expert: Expert, splat: Splat, view: View, background: Float[Tensor, "3"]
) -> Float[Tensor, "C H W 3"]:
    """An expert's final image: its shading of the splatted channels, laid over a background."""
    rgb, member = splat.rgb, expert.member_at(view.times[0])
    if member.has_shading:
        rgb = member.shade(rgb, splat.gaussian_features, *view.rays())
    return composite(rgb, splat.alpha, background)


def training_camera(view: View) -> Tensor | None:
    """The physical camera of a view of one known camera, for experts that treat cameras apart."""
    if len(view) != 1 or bool(view.camera_ids[0] == UNKNOWN_ID):
        return None
    return view.camera_ids[0]


def within(gaussians: Gaussians, box: OrientedBox | None) -> Gaussians:
    """The Gaussians whose centres lie in nerfstudio's oriented crop box; all without a box."""
    return gaussians if box is None else gaussians.select(box.within(gaussians.means).reshape(-1))


@dataclass(frozen=True, eq=False)
class MixtureRender:
    """Everything that rendering a mixture for one camera yields."""

    rgb: Float[Tensor, "H W 3"]
    gates: Float[Tensor, "E H W 1"]
    """Share of each expert; they sum to 1 at every pixel."""
    images: Float[Tensor, "E H W 3"]
    splats: ExpertSplats

    @property
    def depth(self) -> Float[Tensor, "H W 1"]:
        """Depth of the experts weighted by their gates."""
        return (self.gates * self.splats.depth[:, 0]).sum(0)

    @property
    def accumulation(self) -> Float[Tensor, "H W 1"]:
        """Opacity of the experts weighted by their gates."""
        return (self.gates * self.splats.alpha[:, 0]).sum(0)


class Mixture(nn.Module):
    """Frozen experts and the router that blends them."""

    def __init__(
        self, experts: Sequence[Expert], router: VolumeAwarePixelRouter, temperature: float
    ) -> None:
        super().__init__()
        self.expert_modules = nn.ModuleList(experts)
        self.router: VolumeAwarePixelRouter = router
        self.temperature = temperature
        for expert in experts:
            expert.requires_grad_(False)
            expert.eval()

    def train(self, mode: bool = True) -> "Mixture":
        """Put the router in training mode; the experts stay as they were trained."""
        super().train(mode)
        self.expert_modules.eval()
        return self

    @property
    def experts(self) -> list[Expert]:
        """The experts, in the order of their gates."""
        return cast(list[Expert], list(self.expert_modules))

    def forward(self, view: View, box: OrientedBox | None = None) -> MixtureRender:
        """Render the mixture for one camera."""
        assert len(view) == 1, f"a mixture renders one camera at a time, got {len(view)}"
        time = view.time
        gaussians = [within(expert.at(time), box) for expert in self.experts]
        features = [
            self.router.gaussian_features(k, part.ids, time) for k, part in enumerate(gaussians)
        ]
        near = [expert.near for expert in self.experts]
        splats = splat_experts(gaussians, view, features, near=near)
        images = torch.stack(
            [
                finish_image(expert, splats[k], view, expert.background)[0]
                for k, expert in enumerate(self.experts)
            ]
        )
        origins, directions = (rays[0] for rays in view.rays())
        logits = self.router(splats.features[:, 0], origins, directions, time)
        rgb, gates = blend(images, logits, self.temperature)
        return MixtureRender(rgb, gates, images, splats)

    @property
    def num_gaussians(self) -> int:
        """Gaussians of all experts together."""
        return sum(expert.num_gaussians for expert in self.experts)
