"""Rendering: project sets of Gaussians, then sort and rasterise all of them in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from types import ModuleType

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.gaussians import Gaussians, cat_or_single, cat_padded
from moegs_ns.splatting import backend_gsplat, reference
from moegs_ns.splatting.projection import (
    NEAR,
    ROW_FIELDS,
    Projection,
    apply_eps2d,
    tighten_extents,
    view_colors,
)

COLOR_AND_DEPTH = 4
"""Channels that every set has; its features come after them."""


@dataclass(frozen=True, eq=False)
class ProjectedGaussians:
    """One set of N Gaussians on the image planes of C cameras, ready to be rasterised."""

    projection: Projection
    """Its depths are detached: gradients of depth pass through the channels."""
    channels: Float[Tensor, "n D"]
    """Colour (3), depth (1), and the features of the Gaussians."""
    count: int
    """N, of which an incomplete projection has some only."""
    num_cameras: int
    ids: Int[Tensor, "N"] | None = None
    """Gaussians of the expert's full set; None means all in order."""
    probes: Float[Tensor, "N P"] | None = None
    """Zero-valued channels that are rasterised behind the features (`zero_probes`)."""

    def gather(self, values: Float[Tensor, "C N D"]) -> Float[Tensor, "n D"]:
        """One entry per projected Gaussian. On a GPU the gradient of `index_select` is a sum by
        atomics, that of indexing by two tensors a sort."""
        flat, pairs = values.flatten(0, 1), self._pairs
        return flat if pairs is None else flat.index_select(0, pairs)

    def spread(self, values: Shaped[Tensor, "n *D"]) -> Shaped[Tensor, "C N *D"]:
        """One entry per pair of camera and Gaussian; 0 where the Gaussian was culled."""
        pairs = self._pairs
        if pairs is not None:
            zeros = values.new_zeros(self.num_cameras * self.count, *values.shape[1:])
            values = zeros.index_copy(0, pairs, values)
        return values.unflatten(0, (self.num_cameras, self.count))

    def of_all_cameras(self, values: Float[Tensor, "N D"]) -> Float[Tensor, "n D"]:
        """Channels that look the same from everywhere, one entry per projected Gaussian."""
        return self.gather(values.expand(self.num_cameras, -1, -1))

    @property
    def _pairs(self) -> Int[Tensor, "n"] | None:
        """Index among all pairs, by camera and then by Gaussian; None if all pairs are there."""
        own = self.projection
        return None if own.is_complete else own.camera_ids * self.count + own.gaussian_ids

    @property
    def own_channels(self) -> Float[Tensor, "n D"]:
        """The channels, with the probes behind them."""
        if self.probes is None:
            return self.channels
        return torch.cat([self.channels, self.of_all_cameras(self.probes)], dim=1)

    @property
    def is_trained(self) -> bool:
        """Whether anything of the Gaussians themselves has a gradient."""
        own = (self.projection.means2d, self.projection.opacities, self.channels, self.probes)
        return any(value is not None and value.requires_grad for value in own)

    @property
    def num_features(self) -> int:
        """Channels behind colour and depth."""
        probes = 0 if self.probes is None else self.probes.shape[1]
        return self.channels.shape[1] - COLOR_AND_DEPTH + probes


@dataclass(frozen=True, eq=False)
class RenderOutput:
    """One set of Gaussians rendered into C cameras."""

    rgb: Float[Tensor, "C H W 3"]
    """Colour; over black unless a background was given."""
    alpha: Float[Tensor, "C H W 1"]
    depth: Float[Tensor, "C H W 1"]
    """Expected distance along the optical axis in world units; 0 where nothing was hit."""
    features: Float[Tensor, "C H W F"]
    """The channels of the argument `features`, composited over zero."""
    gaussian_features: Float[Tensor, "C H W D"]
    """The channels of `Gaussians.features` and the probes, composited over zero."""
    projected: ProjectedGaussians

    @property
    def radii(self) -> Int[Tensor, "C N"]:
        """Extent in pixels; 0 where culled."""
        return self.projected.spread(self.projected.projection.radii)

    @property
    def extents(self) -> Int[Tensor, "C N"]:
        """Extent in pixels within which a Gaussian is opaque enough to be visible; 0 where it
        nowhere is, or was culled."""
        projection = self.projected.projection
        # Of rows whose radius is 0, other numbers mean nothing.
        extents = torch.where(projection.radii > 0, projection.extents, 0)
        return self.projected.spread(extents)

    def retain_screen_gradients(self) -> None:
        """Let the backward pass keep the gradients of the projected centres, if there are any."""
        if self.projected.projection.means2d.requires_grad:
            self.projected.projection.means2d.retain_grad()

    @property
    def screen_gradients(self) -> Float[Tensor, "C N 2"] | None:
        """Gradients of the projected centres, per pixel; None if none were retained."""
        gradients = self.projected.projection.means2d.grad
        return None if gradients is None else self.projected.spread(gradients)


@dataclass(frozen=True, eq=False)
class ExpertRenderOutputs:
    """`RenderOutput` of E experts, rendered in one pass."""

    rgb: Float[Tensor, "E C H W 3"]
    alpha: Float[Tensor, "E C H W 1"]
    depth: Float[Tensor, "E C H W 1"]
    features: Float[Tensor, "E C H W F"]
    gaussian_features: Float[Tensor, "E C H W D"]
    """Experts with fewer channels than others have zeros behind their own."""
    projected: Sequence[ProjectedGaussians]

    def __len__(self) -> int:
        return self.rgb.shape[0]

    def __getitem__(self, expert: int) -> RenderOutput:
        parts = {field.name: getattr(self, field.name)[expert] for field in fields(RenderOutput)}
        own = parts["gaussian_features"][..., : self.projected[expert].num_features]
        return RenderOutput(**(parts | {"gaussian_features": own}))

    def only(self) -> RenderOutput:
        """The output of a single expert; unlike an item, its gradient is not padded to all."""
        assert len(self) == 1, f"expected one expert, got {len(self)}"
        parts = {field.name: getattr(self, field.name) for field in fields(RenderOutput)}
        (projected,) = parts.pop("projected")
        images = {name: value.squeeze(0) for name, value in parts.items()}
        return RenderOutput(**images, projected=projected)


def render(
    gaussians: Gaussians,
    view: View,
    features: Float[Tensor, "N F"] | None = None,
    background: Float[Tensor, "3"] | None = None,
    *,
    near: float = NEAR,
    backend: ModuleType | None = None,
) -> RenderOutput:
    """Render one set of Gaussians into all cameras of `view`, which must show one time.

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
    features: Sequence[Float[Tensor, "_ _"]] | None = None,
    background: Float[Tensor, "E 3"] | None = None,
    *,
    near: Sequence[float] | None = None,
    backend: ModuleType | None = None,
) -> ExpertRenderOutputs:
    """Render every expert into images of its own in one pass (Eq. 9, a transmittance per expert).

    The images are those that `render` gives one by one.
    """
    sets = project_experts(experts, view, near=near, backend=backend)
    return rasterize(sets, view, features, background, backend=backend)


def project(
    gaussians: Gaussians,
    view: View,
    *,
    near: float = NEAR,
    backend: ModuleType | None = None,
) -> ProjectedGaussians:
    """Project one set of Gaussians to all cameras of a view and evaluate its colours.

    Gaussians nearer than `near` world units (above 0) are culled. Differentiable. Never
    synchronises with the host on a GPU, so it can be captured in a CUDA graph; hence it does not
    check that all cameras show one time.
    """
    backend = backend or backend_for(gaussians.means.device)
    # Project with the default eps2d, then apply the Gaussians' own.
    projection = (backend if len(gaussians) else reference).project(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        view,
        near=near,
    )
    eps2d, antialiased = gaussians.eps2d, gaussians.antialiased
    if isinstance(eps2d, Tensor):
        eps2d = eps2d[projection.gaussian_ids]
    if isinstance(antialiased, Tensor):
        antialiased = antialiased[projection.gaussian_ids]
    projection = tighten_extents(apply_eps2d(projection, eps2d, antialiased))
    depths = projection.depths
    projected = ProjectedGaussians(
        replace(projection, depths=depths.detach()),
        channels=depths[:, None],
        count=len(gaussians),
        num_cameras=len(view),
        ids=gaussians.ids,
    )
    # Evaluate the colours for each camera; put depth and features behind them.
    colors = cat_or_single(
        [view_colors(gaussians.sh, gaussians.means, position)[None] for position in view.positions]
    )
    channels = [projected.gather(colors), depths[:, None]]
    if gaussians.features is not None:
        channels.append(projected.of_all_cameras(gaussians.features))
    return replace(projected, channels=torch.cat(channels, dim=1))


def project_experts(
    experts: Sequence[Gaussians],
    view: View,
    *,
    near: Sequence[float] | None = None,
    backend: ModuleType | None = None,
) -> list[ProjectedGaussians]:
    """`project` for every expert, each with its own near plane."""
    planes = [NEAR] * len(experts) if near is None else near
    return [
        project(expert, view, near=plane, backend=backend)
        for expert, plane in zip(experts, planes, strict=True)
    ]


def rasterize(
    sets: Sequence[ProjectedGaussians],
    view: View,
    features: Sequence[Float[Tensor, "_ _"]] | None = None,
    background: Float[Tensor, "E 3"] | None = None,
    *,
    backend: ModuleType | None = None,
) -> ExpertRenderOutputs:
    """Sort and rasterise E projected sets in one pass.

    `features` are further channels per Gaussian of every set.

    Raises:
        ValueError: the cameras show different times.
    """
    view.assert_one_time()
    backend = backend or backend_for(sets[0].channels.device)
    # Number all Gaussians by expert and camera, and put their channels side by side.
    projection, image_ids = merge_projections(sets)
    channels = cat_padded([one.own_channels for one in sets])
    widths = [3, 1, channels.shape[1] - COLOR_AND_DEPTH, 0]
    if features is not None:
        further = [one.of_all_cameras(part) for one, part in zip(sets, features, strict=True)]
        channels = torch.cat([channels, cat_padded(further)], dim=1)
        widths[3] = max(part.shape[1] for part in further)
    # Sort once and rasterise once.
    shape = (len(sets) * len(view), view.height, view.width)
    if len(channels):
        image, alpha = backend.rasterize(projection, channels, image_ids, shape)
    else:
        image, alpha = _empty_images(projection, channels, shape)
    # Take the images apart again.
    image, alpha = (whole.unflatten(0, (len(sets), len(view))) for whole in (image, alpha))
    rgb, depth, gaussian_features, extra = image.split(widths, dim=-1)
    if background is not None:
        rgb = composite(rgb, alpha, background[:, None, None, None, :])
    depth = depth / alpha.clamp(min=1e-10)
    return ExpertRenderOutputs(rgb, alpha, depth, extra, gaussian_features, sets)


def merge_projections(
    sets: Sequence[ProjectedGaussians],
) -> tuple[Projection, Int[Tensor, "n"]]:
    """The projected Gaussians of all sets, one set after the other, and the image of each: every
    set has as many images as there are cameras."""
    if len(sets) == 1:
        return sets[0].projection, sets[0].projection.camera_ids
    parts = [one.projection for one in sets]
    image_ids = [part.camera_ids + k * sets[k].num_cameras for k, part in enumerate(parts)]
    merged = {name: torch.cat([getattr(part, name) for part in parts]) for name in ROW_FIELDS}
    return replace(parts[0], is_complete=False, **merged), torch.cat(image_ids)


def _empty_images(
    projection: Projection, channels: Float[Tensor, "0 D"], shape: tuple[int, int, int]
) -> tuple[Float[Tensor, "I H W D"], Float[Tensor, "I H W 1"]]:
    """Zeros that still belong to the autograd graph."""
    inputs = (channels, projection.opacities, projection.means2d, projection.conics)
    zero = torch.stack([value.sum() for value in inputs]).sum()
    images = zero + channels.new_zeros(*shape, channels.shape[1] + 1)
    return images[..., :-1], images[..., -1:]


def composite(
    rgb: Float[Tensor, "*s 3"], alpha: Float[Tensor, "*s 1"], background: Tensor
) -> Float[Tensor, "*s 3"]:
    """Lay premultiplied colour over a background."""
    return torch.addcmul(rgb, 1.0 - alpha, background)


def backend_for(device: torch.device) -> ModuleType:
    """The fastest implementation on `device`: gsplat on CUDA, Numba or plain torch on the CPU.

    Raises:
        ImportError: the device is a GPU and gsplat has no kernels for it.
    """
    if device.type == "cuda":
        backend_gsplat.require_kernels()
        return backend_gsplat
    if find_spec("numba") is not None:
        from moegs_ns.splatting import backend_numba

        return backend_numba
    return reference


# ---- sums over pixels per Gaussian: Σ_u map(u)·T(u)·alpha(u), by one vector-Jacobian product ----
#
# Rasterisation is linear in its channels: a pixel holds Σ_j T_j(u)·alpha_j(u)·channel_j. So the
# gradient of the inner product of a rasterised channel with a map, taken in that channel, is the
# sum of every Gaussian at once. Zero-valued probe channels suffice, which leave the image and all
# other gradients as they are.


def zero_probes(count: int, width: int, like: Tensor) -> Float[Tensor, "{count} {width}"]:
    """Zero-valued probe channels of `count` Gaussians, whose gradients are sums over pixels."""
    return torch.zeros(count, width, device=like.device, dtype=like.dtype, requires_grad=True)


@torch.enable_grad()
def weighted_contributions(
    experts: Sequence[Gaussians],
    view: View,
    maps: Float[Tensor, "E C H W D"],
    *,
    near: Sequence[float] | None = None,
) -> list[Float[Tensor, "_ D"]]:
    """For every Gaussian Σ_u map(u)·T(u)·alpha(u) over the maps of its expert, in one pass.

    T is the transmittance within the expert. Gaussians that no camera sees have zeros.
    """
    experts = [expert.detach() for expert in experts]
    channels = [zero_probes(len(expert), maps.shape[-1], like=expert.means) for expert in experts]
    rendered = render_experts(experts, view, channels, near=near)
    return list(torch.autograd.grad((rendered.features * maps.detach()).sum(), channels))
