"""What cameras see of a set of Gaussians: all that is known before sorting."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.cuda_graphs.graphed import no_tracing
from moegs_ns.gaussians import Gaussians, cat_or_single
from moegs_ns.splatting import backend_gsplat, reference
from moegs_ns.splatting.projection import (
    NEAR,
    ROW_FIELDS,
    Projection,
    apply_eps2d,
    tighten_extents,
)
from moegs_ns.splatting.spherical_harmonics import view_colors

SHOWN_CHANNELS = 4
"""Channels that every set has, colour and depth; its features come after them."""


@dataclass(frozen=True, eq=False)
class ProjectedGaussians:
    """One set of N Gaussians on the image planes of C cameras, ready to be drawn.

    Nothing here is decided by values, so that all of it may be replayed on a GPU.
    """

    projection: Projection
    """Its depths are values only: gradients of depth pass through the channels."""
    channels: Float[Tensor, "n D"]
    """Colour (3), depth (1), and the features of the Gaussians."""
    count: int
    """N, of which an incomplete projection has some rows only."""
    num_cameras: int
    ids: Int[Tensor, "N"] | None = None
    """Rows of the expert's full set; None means all rows in order."""
    silent: Float[Tensor, "N P"] | None = None
    """Channels of zeros that are drawn beside the features (`contributions`)."""

    def gather(self, values: Float[Tensor, "C N D"]) -> Float[Tensor, "n D"]:
        """One row per projected Gaussian. On a GPU the gradient of `index_select` is a sum by
        atomics, that of indexing by two tensors a sort."""
        flat, rows = values.flatten(0, 1), self._rows
        return flat if rows is None else flat.index_select(0, rows)

    def spread(self, values: Float[Tensor, "n *D"]) -> Float[Tensor, "C N *D"]:
        """One entry per pair of camera and Gaussian; 0 where there is no row."""
        rows = self._rows
        if rows is not None:
            nothing = values.new_zeros(self.num_cameras * self.count, *values.shape[1:])
            values = nothing.index_copy(0, rows, values)
        return values.unflatten(0, (self.num_cameras, self.count))

    def of_all_cameras(self, values: Float[Tensor, "N D"]) -> Float[Tensor, "n D"]:
        """Channels that look the same from everywhere, one row per projected Gaussian."""
        return self.gather(values.expand(self.num_cameras, -1, -1))

    @property
    def _rows(self) -> Int[Tensor, "n"] | None:
        """Among all pairs, by camera and then by Gaussian; None where there is a row for each."""
        own = self.projection
        return None if own.is_complete else own.camera_ids * self.count + own.gaussian_ids


def project(
    gaussians: Gaussians,
    view: View,
    *,
    near: float = NEAR,
    backend: ModuleType | None = None,
) -> ProjectedGaussians:
    """Project one set of Gaussians to all cameras of a view and evaluate its colours.

    Gaussians nearer than `near` world units are not seen. Differentiable. All cameras must show one
    instant, which is not checked here.
    """
    backend = backend or backend_for(gaussians.means.device)
    projection = (backend if len(gaussians) else reference).project(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        view,
        near=max(NEAR, near),
    )
    eps2d, antialiased = gaussians.eps2d, gaussians.antialiased
    if isinstance(eps2d, Tensor):
        eps2d = eps2d[projection.gaussian_ids]
    if isinstance(antialiased, Tensor):
        antialiased = antialiased[projection.gaussian_ids]
    projection = tighten_extents(apply_eps2d(projection, eps2d, antialiased))
    depths = projection.depths
    seen = ProjectedGaussians(
        replace(projection, depths=depths.detach()),
        channels=depths[:, None],
        count=len(gaussians),
        num_cameras=len(view),
        ids=gaussians.ids,
    )
    colors = cat_or_single(
        [view_colors(gaussians.sh, gaussians.means, position)[None] for position in view.positions]
    )
    channels = [seen.gather(colors), depths[:, None]]
    if gaussians.features is not None:
        channels.append(seen.of_all_cameras(gaussians.features))
    return replace(seen, channels=torch.cat(channels, dim=1))


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


def all_rows(sets: Sequence[ProjectedGaussians]) -> tuple[Projection, Int[Tensor, "n"]]:
    """The rows of all sets, and the image of each: those of one set after those of the one before,
    each with as many images as there are cameras."""
    if len(sets) == 1:
        return sets[0].projection, sets[0].projection.camera_ids
    rows = [one.projection for one in sets]
    image_ids = [one.camera_ids + k * sets[k].num_cameras for k, one in enumerate(rows)]
    together = {name: torch.cat([getattr(one, name) for one in rows]) for name in ROW_FIELDS}
    return replace(rows[0], is_complete=False, **together), torch.cat(image_ids)


def backend_for(device: torch.device) -> ModuleType:
    """The fastest implementation on `device`: gsplat on CUDA, Numba or plain torch on the CPU.

    Raises:
        ImportError: the device is a GPU and gsplat has no kernels for it.
    """
    # The viewer breaks off its first picture like any other, and what an import that was broken
    # off leaves behind would fail every later one.
    with no_tracing():
        if device.type == "cuda":
            backend_gsplat.require_kernels()
            return backend_gsplat
        if find_spec("numba") is not None:
            from moegs_ns.splatting import backend_numba

            return backend_numba
        return reference
