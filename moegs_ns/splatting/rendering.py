"""The public face of splatting: Gaussians and a view in, image channels out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians, cat_or_single, cat_padded
from moegs_ns.splatting.projected import (
    SHOWN_CHANNELS,
    ProjectedGaussians,
    all_rows,
    backend_for,
    project_experts,
)
from moegs_ns.splatting.projection import NEAR, Projection


@dataclass(frozen=True, eq=False)
class RenderOutput:
    """Channels of one set of Gaussians splatted into C cameras."""

    rgb: Float[Tensor, "C H W 3"]
    """Colour; over black unless a background was given."""
    alpha: Float[Tensor, "C H W 1"]
    depth: Float[Tensor, "C H W 1"]
    """Expected distance along the optical axis in world units; 0 where nothing was hit."""
    features: Float[Tensor, "C H W F"]
    """The channels of the argument `features`, composited over zero."""
    gaussian_features: Float[Tensor, "C H W D"]
    """The channels of `Gaussians.features`, composited over zero."""
    means2d: Float[Tensor, "C N 2"]
    """Projected centres in pixels; anything where culled. `retain_grad` shows screen gradients."""
    radii: Int[Tensor, "C N"]
    """Extent in pixels; 0 where culled."""


@dataclass(frozen=True, eq=False)
class ExpertRenderOutputs:
    """`RenderOutput` of E experts, rendered in one pass; per-Gaussian outputs are lists."""

    rgb: Float[Tensor, "E C H W 3"]
    alpha: Float[Tensor, "E C H W 1"]
    depth: Float[Tensor, "E C H W 1"]
    features: Float[Tensor, "E C H W F"]
    gaussian_features: Float[Tensor, "E C H W D"]
    """Experts with fewer channels than others have zeros behind their own."""
    widths: list[int]
    """Channels of `gaussian_features` that are each expert's own."""
    means2d: list[Float[Tensor, "C _"]]
    radii: list[Int[Tensor, "C _"]]

    def __len__(self) -> int:
        return self.rgb.shape[0]

    def __getitem__(self, expert: int) -> RenderOutput:
        parts = {field.name: getattr(self, field.name)[expert] for field in fields(RenderOutput)}
        own = parts["gaussian_features"][..., : self.widths[expert]]
        return RenderOutput(**(parts | {"gaussian_features": own}))

    def only(self) -> RenderOutput:
        """The splat of a single expert; unlike an item, its gradient is not padded to all."""
        assert len(self) == 1, f"expected one expert, got {len(self)}"
        parts = {field.name: getattr(self, field.name) for field in fields(RenderOutput)}
        return RenderOutput(
            **{
                name: value[0] if isinstance(value, list) else value.squeeze(0)
                for name, value in parts.items()
            }
        )


def render(
    gaussians: Gaussians,
    view: View,
    features: Float[Tensor, "N F"] | None = None,
    background: Float[Tensor, "3"] | None = None,
    *,
    near: float = NEAR,
    backend: ModuleType | None = None,
) -> RenderOutput:
    """Render one set of Gaussians into all cameras of `view`, which must show one instant.

    `features` are further channels per Gaussian. Differentiable in everything but radii.
    """
    return render_experts(
        [gaussians],
        view,
        None if features is None else [features],
        None if background is None else background[None],
        near=[near],
        backend=backend,
    ).only()


def render_experts(
    experts: Sequence[Gaussians],
    view: View,
    features: Sequence[Float[Tensor, "_ F"]] | None = None,
    background: Float[Tensor, "E 3"] | None = None,
    *,
    near: Sequence[float] | None = None,
    backend: ModuleType | None = None,
) -> ExpertRenderOutputs:
    """Render every expert into images of its own in one pass (Eq. 9, a transmittance per expert).

    All Gaussians are numbered by expert and camera, sorted once and rasterised once. The images are
    those that `render` gives one by one.
    """
    sets = project_experts(experts, view, near=near, backend=backend)
    return rasterize(sets, view, features, background, backend=backend)


def rasterize(
    sets: Sequence[ProjectedGaussians],
    view: View,
    features: Sequence[Float[Tensor, "_ F"]] | None = None,
    background: Float[Tensor, "E 3"] | None = None,
    *,
    backend: ModuleType | None = None,
) -> ExpertRenderOutputs:
    """Sort and rasterise what the cameras of `view` see of E sets, in one pass.

    `features` are further channels per Gaussian of every set.

    Raises:
        ValueError: the cameras show different instants.
    """
    view.assert_one_instant()
    backend = backend or backend_for(sets[0].channels.device)
    means2d = [one.spread(one.projection.means2d) for one in sets]
    projection, image_ids = all_rows(sets)
    # Reading the centres back from every set's part lets these parts retain gradients.
    centres = cat_or_single([one.gather(part) for one, part in zip(sets, means2d, strict=True)])
    own = [_with_silent(one) for one in sets]
    channels = cat_padded(own)
    widths = [3, 1, channels.shape[1] - SHOWN_CHANNELS, 0]
    if features is not None:
        further = [one.of_all_cameras(part) for one, part in zip(sets, features, strict=True)]
        channels = torch.cat([channels, cat_padded(further)], dim=1)
        widths[3] = max(part.shape[1] for part in further)
    image, alpha = _rasterize_or_nothing(
        backend,
        replace(projection, means2d=centres),
        channels,
        image_ids,
        len(sets) * len(view),
        view,
    )
    image, alpha = (whole.unflatten(0, (len(sets), len(view))) for whole in (image, alpha))
    rgb, depth, gaussian_features, extra = image.split(widths, dim=-1)
    if background is not None:
        rgb = composite(rgb, alpha, background[:, None, None, None, :])
    return ExpertRenderOutputs(
        rgb=rgb,
        alpha=alpha,
        depth=depth / alpha.clamp(min=1e-10),
        features=extra,
        gaussian_features=gaussian_features,
        widths=[part.shape[1] - SHOWN_CHANNELS for part in own],
        means2d=means2d,
        radii=[one.spread(one.projection.radii) for one in sets],
    )


def _with_silent(seen: ProjectedGaussians) -> Float[Tensor, "n D"]:
    """All channels of a set's own."""
    if seen.silent is None:
        return seen.channels
    return torch.cat([seen.channels, seen.of_all_cameras(seen.silent)], dim=1)


def composite(
    rgb: Float[Tensor, "*s 3"], alpha: Float[Tensor, "*s 1"], background: Tensor
) -> Float[Tensor, "*s 3"]:
    """Lay premultiplied colour over a background."""
    return torch.addcmul(rgb, 1.0 - alpha, background)


def _rasterize_or_nothing(
    backend: ModuleType,
    projection: Projection,
    channels: Float[Tensor, "n D"],
    image_ids: Int[Tensor, "n"],
    num_images: int,
    view: View,
) -> tuple[Float[Tensor, "I H W D"], Float[Tensor, "I H W 1"]]:
    """Rasterise; an empty scene gives zeros that still belong to the graph of gradients."""
    if len(channels):
        return backend.rasterize(
            projection, channels, image_ids, num_images, view.width, view.height
        )
    drawn = (channels, projection.opacities, projection.means2d, projection.conics)
    empty = torch.stack([value.sum() for value in drawn]).sum()
    shape = (num_images, view.height, view.width)
    zeros = empty + channels.new_zeros(*shape, channels.shape[1] + 1)
    return zeros[..., :-1], zeros[..., -1:]
