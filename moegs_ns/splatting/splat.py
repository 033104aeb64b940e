"""The public face of splatting: Gaussians and a view in, image channels out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians, cat_padded, joined, shared_or_cat
from moegs_ns.splatting import gsplat_cuda, torch_twin
from moegs_ns.splatting.projection import NEAR, Projection, dilate
from moegs_ns.splatting.spherical_harmonics import view_colors


@dataclass(frozen=True, eq=False)
class Splat:
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
class ExpertSplats:
    """What `Splat` holds, for E experts drawn in one pass; per-Gaussian outputs are lists."""

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

    def __getitem__(self, expert: int) -> Splat:
        parts = {field.name: getattr(self, field.name)[expert] for field in fields(Splat)}
        own = parts["gaussian_features"][..., : self.widths[expert]]
        return Splat(**(parts | {"gaussian_features": own}))

    def only(self) -> Splat:
        """The splat of a single expert; unlike an item, its gradient is not padded to all."""
        assert len(self) == 1, f"expected one expert, got {len(self)}"
        parts = {field.name: getattr(self, field.name) for field in fields(Splat)}
        return Splat(
            **{
                name: value[0] if isinstance(value, list) else value.squeeze(0)
                for name, value in parts.items()
            }
        )


def rasterizer_for(device: torch.device) -> ModuleType:
    """The fastest implementation on `device`: gsplat on CUDA, Numba or plain torch on the CPU."""
    if device.type == "cuda":
        return gsplat_cuda
    if find_spec("numba") is not None:
        from moegs_ns.splatting import numba_cpu

        return numba_cpu
    return torch_twin


def splat(
    gaussians: Gaussians,
    view: View,
    features: Float[Tensor, "N F"] | None = None,
    background: Float[Tensor, "3"] | None = None,
    *,
    near: float = NEAR,
    rasterizer: ModuleType | None = None,
) -> Splat:
    """Splat one set of Gaussians into all cameras of `view`, which must show one instant.

    `features` are further channels per Gaussian. Differentiable in everything but radii.
    """
    return splat_experts(
        [gaussians],
        view,
        None if features is None else [features],
        None if background is None else background[None],
        near=[near],
        rasterizer=rasterizer,
    ).only()


def splat_experts(
    experts: Sequence[Gaussians],
    view: View,
    features: Sequence[Float[Tensor, "_ F"]] | None = None,
    background: Float[Tensor, "E 3"] | None = None,
    *,
    near: Sequence[float] | None = None,
    rasterizer: ModuleType | None = None,
) -> ExpertSplats:
    """Splat every expert into its own images in one pass (Eq. 9, one transmittance per expert).

    All Gaussians are projected together, numbered by expert and camera, sorted once and rasterised
    once. The images are those that `splat` gives one by one.
    """
    view.assert_one_instant()
    num_experts, num_cameras = len(experts), len(view)
    rasterizer = rasterizer or rasterizer_for(experts[0].means.device)
    counts = [len(expert) for expert in experts]
    projection, image_ids = project_all(experts, view, counts, near, rasterizer)
    rows = PairRows(projection, num_cameras, sum(counts))
    radii, centres = rows.spread(projection.radii), rows.spread(projection.means2d)
    means2d = list(centres.split(counts, dim=1)) if num_experts > 1 else [centres]
    # Reading the centres back from every expert's part lets these parts retain gradients.
    projection = replace(projection, means2d=rows.gather(joined(means2d, dim=1)))

    dense = [
        _channels(g, view, f)
        for g, f in zip(experts, features or [None] * num_experts, strict=True)
    ]
    own_widths = [part.shape[-1] for _, part, _ in dense]
    rgb, own, extra = (cat_padded(part, dim=1) for part in zip(*dense, strict=True))
    widths = [3, own.shape[-1], extra.shape[-1], 1]
    channels = [rows.gather(part) for part in (rgb, own, extra) if part.shape[-1]]
    channels = torch.cat([*channels, projection.depths[:, None]], dim=-1)
    image, alpha = _rasterize_or_nothing(
        rasterizer, projection, channels, image_ids, num_experts * num_cameras, view
    )
    image = image.unflatten(0, (num_experts, num_cameras))
    alpha = alpha.unflatten(0, (num_experts, num_cameras))
    rgb, own, extra, depth = image.split(widths, dim=-1)
    if background is not None:
        rgb = composite(rgb, alpha, background[:, None, None, None, :])
    return ExpertSplats(
        rgb=rgb,
        alpha=alpha,
        depth=depth / alpha.clamp(min=1e-10),
        features=extra,
        gaussian_features=own,
        widths=own_widths,
        means2d=means2d,
        radii=list(radii.split(counts, dim=1)),
    )


def composite(
    rgb: Float[Tensor, "*s 3"], alpha: Float[Tensor, "*s 1"], background: Tensor
) -> Float[Tensor, "*s 3"]:
    """Lay premultiplied colour over a background."""
    return rgb + (1.0 - alpha) * background


class PairRows:
    """Which rows of all (camera, Gaussian) pairs a projection has."""

    def __init__(self, projection: Projection, num_cameras: int, count: int) -> None:
        self._num_cameras, self._count = num_cameras, count
        self._row: Int[Tensor, "n"] | None = None
        if not projection.is_complete:
            self._row = projection.camera_ids * count + projection.gaussian_ids

    def gather(self, values: Float[Tensor, "C N D"]) -> Float[Tensor, "n D"]:
        """One row per projected Gaussian. On a GPU the gradient of `index_select` is a sum by
        atomics, that of indexing by two tensors a sort."""
        flat = values.flatten(0, 1)
        return flat if self._row is None else flat.index_select(0, self._row)

    def spread(self, values: Float[Tensor, "n *D"]) -> Float[Tensor, "C N *D"]:
        """One entry per pair; 0 where there is no row."""
        if self._row is not None:
            nothing = values.new_zeros(self._num_cameras * self._count, *values.shape[1:])
            values = nothing.index_copy(0, self._row, values)
        return values.unflatten(0, (self._num_cameras, self._count))


def project_all(
    experts: Sequence[Gaussians],
    view: View,
    counts: Sequence[int],
    near: Sequence[float] | None,
    rasterizer: ModuleType,
) -> tuple[Projection, Int[Tensor, "n"]]:
    """Project all experts at once with their own near planes and dilations; also the image of each
    row, those of one expert after those of the one before."""
    device = experts[0].means.device
    means, quats, scales, opacities = (
        joined([getattr(expert, name) for expert in experts])
        for name in ("means", "quats", "scales", "opacities")
    )
    planes = [NEAR] * len(counts) if near is None else [max(NEAR, plane) for plane in near]
    projector = rasterizer if sum(counts) else torch_twin
    projection = projector.project(means, quats, scales, opacities, view, near=min(planes))
    if len(set(planes)) > 1:
        own_plane = torch.tensor(planes, device=device, dtype=projection.depths.dtype)
        is_near = projection.depths <= own_plane[_expert_ids(projection, counts)]
        projection = projection.drop(is_near)
    image_ids = projection.camera_ids
    if len(counts) > 1:
        image_ids = _expert_ids(projection, counts) * len(view) + image_ids
    dilation = shared_or_cat([(expert.dilation, expert) for expert in experts])
    if isinstance(dilation, Tensor):
        dilation = dilation[projection.gaussian_ids]
    compensated = shared_or_cat([(expert.compensated, expert) for expert in experts])
    if isinstance(compensated, Tensor):
        compensated = compensated[projection.gaussian_ids]
    return dilate(projection, dilation, compensated), image_ids


def _expert_ids(projection: Projection, counts: Sequence[int]) -> Int[Tensor, "n"]:
    """Number of the expert of each row."""
    ends = torch.tensor(counts).cumsum(0).to(projection.gaussian_ids.device)
    return torch.searchsorted(ends, projection.gaussian_ids, right=True)


def _channels(
    gaussians: Gaussians, view: View, features: Float[Tensor, "N F"] | None
) -> tuple[Float[Tensor, "C N 3"], Float[Tensor, "C N D"], Float[Tensor, "C N F"]]:
    """Colour seen from each camera, own features and further features of every Gaussian."""
    seen = [
        view_colors(gaussians.sh, gaussians.means, position)[None] for position in view.positions
    ]
    rgb = joined(seen)
    nothing = gaussians.means.new_zeros(len(gaussians), 0)
    own, extra = (
        (nothing if value is None else value).expand(len(view), -1, -1)
        for value in (gaussians.features, features)
    )
    return rgb, own, extra


def _rasterize_or_nothing(
    rasterizer: ModuleType,
    projection: Projection,
    channels: Float[Tensor, "n D"],
    image_ids: Int[Tensor, "n"],
    num_images: int,
    view: View,
) -> tuple[Float[Tensor, "I H W D"], Float[Tensor, "I H W 1"]]:
    """Rasterise; an empty scene gives zeros that still belong to the graph of gradients."""
    if len(channels):
        return rasterizer.rasterize(
            projection, channels, image_ids, num_images, view.width, view.height
        )
    drawn = (channels, projection.opacities, projection.means2d, projection.conics)
    empty = torch.stack([value.sum() for value in drawn]).sum()
    shape = (num_images, view.height, view.width)
    zeros = empty + channels.new_zeros(*shape, channels.shape[1] + 1)
    return zeros[..., :-1], zeros[..., -1:]
