"""What every family of dynamic Gaussians offers."""

from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.configs.base_config import InstantiateConfig
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor, nn

from moegs_ns.cameras import UNKNOWN_ID, View
from moegs_ns.cuda_graphs.graphed import GraphedCallable
from moegs_ns.gaussians import GaussianParams, Gaussians
from moegs_ns.scene import InitialPoints, SceneInfo
from moegs_ns.splatting import ProjectedGaussians, RenderOutput, composite, project
from moegs_ns.splatting.projection import NEAR, num_bases, sh_from_rgb

INITIAL_OPACITY = 0.1
SMALLEST_SCALE = 1e-6
LARGEST_SCALE = 0.1
"""Bounds of the initial size of a Gaussian, as fractions of the scene's extent."""
SMALLEST_NEAR = 0.005
"""Smallest distance of the near plane, as a fraction of the scene's extent, of scenes whose extent
is so small that gsplat's default would hide them."""

CANONICAL = ("means", "quats", "scales", "opacities", "sh0", "shN")
"""Raw parameters that every family has, which do not depend on time."""
RANDOM_MOTION = 0.01
"""Standard deviation of what `set_in_motion` adds to all other parameters."""


@dataclass
class ExpertConfig(InstantiateConfig):
    """Shape of an expert: what is stored per Gaussian and how it depends on time."""

    _target: type = field(default_factory=lambda: Expert)
    sh_degree: int = 3
    """Highest degree of the spherical harmonics that hold colour."""
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Colour behind opaque scenes; scenes with transparent images bring their own."""
    near: float = 0.15
    """Gaussians nearer to the camera than this fraction of the scene's extent are not drawn.
    Without it, Gaussians gather in front of training cameras and block the view of others."""

    def one_per_point(self) -> "ExpertConfig":
        """The configuration by which an initial point becomes one Gaussian."""
        return self


class Expert(nn.Module):
    """A function from a time to a set of Gaussians.

    Per-Gaussian parameters live in `gauss_params` in their raw spaces, under gsplat's names
    (`means`, `quats`, log `scales`, logit `opacities`, `sh0`, `shN`) plus those of the family.

    Wherever a trained expert is opened, it has the extent and the near plane of its own training.
    """

    background: Float[Tensor, "3"]
    num_frames: Int[Tensor, ""]
    scene_center: Float[Tensor, "3"]
    scene_extent: Float[Tensor, ""]
    rig_center: Float[Tensor, "3"]
    rig_extent: Float[Tensor, ""]

    def __init__(
        self, config: ExpertConfig, scene: SceneInfo, points: InitialPoints | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.scene = scene
        """The scene; centre and extent are those of the cameras that the expert is trained on."""
        self.near = near_plane(config, scene)
        """Distance of the near plane in world units."""
        self.active_sh_degree = 0
        """Degree that colours are evaluated with; a recipe raises it while training."""
        background = config.background if scene.background is None else scene.background
        self.register_buffer("background", torch.tensor(background, dtype=torch.float32))
        self.register_buffer("num_frames", torch.tensor(scene.num_frames))
        for name, (center, extent) in (("scene", (scene.center, scene.extent)), ("rig", scene.rig)):
            self.register_buffer(f"{name}_center", torch.tensor(center, dtype=torch.float32))
            self.register_buffer(f"{name}_extent", torch.tensor(extent, dtype=torch.float32))
        if points is None:
            points = InitialPoints(torch.zeros(0, 3), torch.zeros(0, 3))
        self.gauss_params = GaussianParams(self.initial_parameters(points, scene))
        self.graphed_projection = GraphedCallable(self._project, self)

    def initial_parameters(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        """Raw parameters of all Gaussians, one per initial point; families add their own."""
        count = len(points)
        quats = torch.zeros(count, 4)
        quats[:, 0] = 1.0
        return {
            "means": points.xyz.float().clone(),
            "quats": quats,
            "scales": _log_scales_by_time(points, scene.extent),
            "opacities": torch.full((count,), INITIAL_OPACITY).logit(),
            **self.initial_colors(points),
        }

    def initial_colors(self, points: InitialPoints) -> dict[str, Tensor]:
        """Raw parameters of the colours of all Gaussians."""
        sh = sh_from_rgb(points.rgb, self.config.sh_degree)
        return {"sh0": sh[:, :1].contiguous(), "shN": sh[:, 1:].contiguous()}

    def at(self, time: Float[Tensor, ""], camera: Int[Tensor, ""] | None = None) -> Gaussians:
        """The Gaussians at `time` in [0, 1] over the clip, differentiable in all parameters.

        `camera` is the physical training camera; None stands for a neutral choice.
        """
        raise NotImplementedError

    def visibility(self, time: Float[Tensor, ""]) -> Float[Tensor, "N"] | None:
        """Factors that `time`, in [0, 1] over the clip, has on opacities: from 0, invisible, to 1.
        None, as here, where Gaussians do not come and go in this way."""
        return None

    def life_spans(self) -> Float[Tensor, "N"] | None:
        """For how much of the clip each Gaussian is visible, at most 1: the integral over time of
        `visibility`, in clips, as if the clip had no ends. None where there is none."""
        return None

    def at_all(
        self, times: Sequence[Float[Tensor, ""]], cameras: Sequence[Int[Tensor, ""] | None]
    ) -> list[Gaussians]:
        """The Gaussians at several times, equal to `at` of each; a family may do here what all
        times share only once."""
        return [self.at(time, camera) for time, camera in zip(times, cameras, strict=True)]

    def project(
        self, views: Sequence[View], cameras: Sequence[Int[Tensor, ""] | None] | None = None
    ) -> list[ProjectedGaussians]:
        """The Gaussians at the time of each view, projected to its cameras.

        `cameras` are the physical training cameras to match, as in `at`. On a GPU this is replayed
        as a CUDA graph where there is a `graph_key`: consume the result before the next call.

        Raises:
            ValueError: the cameras of one view show different times.
        """
        for view in views:
            view.assert_one_time()
        # Ids stay behind: they live on the CPU, where a graph cannot follow them.
        geometry = [(v.viewmats, v.Ks, v.width, v.height, v.times) for v in views]
        wanted = [None] * len(views) if cameras is None else list(cameras)
        return self.graphed_projection(geometry, wanted, key=self.graph_key)

    def _project(
        self, geometry: Sequence[tuple], cameras: Sequence[Int[Tensor, ""] | None]
    ) -> list[ProjectedGaussians]:
        """Never synchronises with the host where there is a `graph_key`, so it can be captured."""
        views = []
        for viewmats, Ks, width, height, times in geometry:
            unknown = torch.full((len(viewmats),), UNKNOWN_ID)
            views.append(View(viewmats, Ks, width, height, times, unknown, unknown))
        sets = self.at_all([view.times[0] for view in views], cameras)
        return [project(one, view, near=self.near) for one, view in zip(sets, views, strict=True)]

    @property
    def graph_key(self) -> Hashable | None:
        """The plain values that `at` depends on, if its launches depend on nothing else: it can be
        captured in a CUDA graph, which is valid while they and the memory of the parameters stay.
        None, as here, if `at` synchronises with the host or is not known not to.
        """
        return None

    def member_at(self, time: Float[Tensor, ""]) -> "Expert":
        """The expert that renders a time and shades it: this one, unless it is made of several.

        `at` gives the rows among those of all; the colours are finished by the member.
        """
        return self

    def shade(
        self,
        rgb: Float[Tensor, "*s 3"],
        features: Float[Tensor, "*s D"],
        ray_origins: Float[Tensor, "*s 3"],
        ray_directions: Float[Tensor, "*s 3"],
    ) -> Float[Tensor, "*s 3"]:
        """Final colour from rasterised channels, before blending and background; here unchanged."""
        return rgb

    @property
    def has_shading(self) -> bool:
        """Whether `shade` changes colours."""
        return False

    def finish(
        self, output: RenderOutput, view: View, background: Float[Tensor, "3"]
    ) -> Float[Tensor, "C H W 3"]:
        """The final image: rasterised channels shaded and laid over a background."""
        rgb, member = output.rgb, self.member_at(view.times[0])
        if member.has_shading:
            rgb = member.shade(rgb, output.gaussian_features, *view.rays())
        return composite(rgb, output.alpha, background)

    @property
    def num_gaussians(self) -> int:
        """Gaussians of the full set, whatever is visible at a time."""
        return self.gauss_params.num_rows

    def select(self, keep: Bool[Tensor, "N"] | Int[Tensor, "M"]) -> "Expert":
        """A copy of this expert that has only the rows of `keep`."""
        copy = deepcopy(self)
        copy.gauss_params.select_(keep)
        return copy

    def active_sh(self, sh: Float[Tensor, "N K 3"] | None = None) -> Float[Tensor, "N A 3"]:
        """Spherical harmonics up to the active degree, of `sh` or else of the parameters."""
        count = num_bases(self.active_sh_degree)
        if sh is not None:
            return sh[:, :count]
        parameters = self.gauss_params
        if count == 1:
            return parameters["sh0"]
        return torch.cat([parameters["sh0"], parameters["shN"][:, : count - 1]], dim=1)

    def set_at_rest(self, raw: Mapping[str, Tensor]) -> None:
        """Give all Gaussians raw parameters [N, ...] for all times, as far as they have them: for
        measurements that need no trained run."""
        fill_rows(self.gauss_params, raw)

    @torch.no_grad()
    def set_in_motion(self, generator: torch.Generator) -> None:
        """Give what time acts through small random values, as a training would: for measurements
        that need no trained run."""
        for name, parameter in self.named_parameters():
            if name.rpartition(".")[2] not in CANONICAL:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise.to(parameter), alpha=RANDOM_MOTION)

    def get_extra_state(self) -> dict[str, Any]:
        """State of the training that changes what `at` returns."""
        return {"active_sh_degree": self.active_sh_degree}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore `get_extra_state`."""
        self.active_sh_degree = int(state["active_sh_degree"])

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Runs of 0.2 do not tell the rig: as far as they say, no camera was taken out.
        for part in ("center", "extent"):
            if (stored := f"{prefix}scene_{part}") in state_dict:
                state_dict.setdefault(f"{prefix}rig_{part}", state_dict[stored])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.keep_stored_scene()

    def keep_stored_scene(self) -> None:
        """Take extent and near plane from the buffers, which tell those of the training. Reads them
        from their device, so that no render has to."""
        x, y, z = self.scene_center.tolist()
        rig_x, rig_y, rig_z = self.rig_center.tolist()
        self.scene = replace(
            self.scene,
            center=(x, y, z),
            extent=float(self.scene_extent),
            rig_center=(rig_x, rig_y, rig_z),
            rig_extent=float(self.rig_extent),
        )
        self.near = near_plane(self.config, self.scene)


def near_plane(config: ExpertConfig, scene: SceneInfo) -> float:
    """Distance of an expert's near plane in world units; above 0, and in proportion to the scene's
    extent where the world's unit is large."""
    return max(min(NEAR, SMALLEST_NEAR * scene.extent), config.near * scene.extent)


def fill_rows(parameters: GaussianParams, raw: Mapping[str, Tensor]) -> None:
    """Set the parameters that `raw` names; a family may have fewer degrees of colour."""
    for name, parameter in parameters.items():
        if name in raw:
            columns = parameter.shape[1:].numel()
            values = raw[name].reshape(len(parameter), raw[name].shape[1:].numel())[:, :columns]
            parameter.data = values.reshape(parameter.shape)


def within(gaussians: Gaussians, box: OrientedBox | None) -> Gaussians:
    """The Gaussians whose centres lie in nerfstudio's oriented crop box; all without a box."""
    return gaussians if box is None else gaussians.select(box.within(gaussians.means).reshape(-1))


def _log_scales_by_time(points: InitialPoints, extent: float) -> Float[Tensor, "N 3"]:
    """`initial_log_scales` among points that are seen together: moving seeds of other times may lie
    at the same place."""
    if points.times is None:
        return initial_log_scales(points.xyz, extent)
    times, log_scales = points.times.nan_to_num(-1.0), torch.empty(len(points), 3)
    for time in times.unique():
        own = times == time
        log_scales[own] = initial_log_scales(points.xyz[own], extent)
    return log_scales


def initial_log_scales(xyz: Float[Tensor, "N 3"], extent: float) -> Float[Tensor, "N 3"]:
    """Log of the root mean squared distance to the three nearest neighbours, equal on all axes."""
    if len(xyz) < 2:
        return torch.full((len(xyz), 3), LARGEST_SCALE * extent).log()
    from sklearn.neighbors import NearestNeighbors

    points = xyz.cpu().numpy()
    # The first neighbour of each point is the point itself.
    neighbours = NearestNeighbors(n_neighbors=min(4, len(points))).fit(points)
    distances = torch.from_numpy(neighbours.kneighbors(points)[0][:, 1:]).float()
    scale = distances.square().mean(1).sqrt()
    scale = scale.clamp(SMALLEST_SCALE * extent, LARGEST_SCALE * extent)
    return scale.log()[:, None].repeat(1, 3)
