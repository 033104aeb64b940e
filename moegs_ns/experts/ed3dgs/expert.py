"""E-D3DGS (Bae et al., ECCV 2024): Gaussians deformed by their own embeddings and time."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from moegs_ns.experts.base import Expert
from moegs_ns.experts.deformation_heads import (
    Decoder,
    DeformationHeads,
    DeformedExpertConfig,
    decoded,
    deformed,
)
from moegs_ns.gaussians import Gaussians
from moegs_ns.scene import InitialPoints, SceneInfo

PUBLISHED_EXTENT = 5.0
"""Extent of a scene, in its own unit, at which everything here equals the published numbers, which
depend on that unit: offsets of positions, rates of the networks, distances between neighbours. The
size of N3V's rigs is about this; it is estimated, as nobody states it. Other scenes are treated as
if they had been scaled to it, so that the unit of a data set does not matter."""


SHOWN_BY = {
    "means": ("motion",),
    "quats": ("motion",),
    "scales": ("motion", "appearance"),
    "opacities": ("motion", "appearance"),
    "sh": ("appearance",),
}
"""Which weights of the deformation scale the offsets of each raw parameter."""


@dataclass
class ED3DGSExpertConfig(DeformedExpertConfig):
    """Shape of an E-D3DGS expert; the defaults are those published for N3V."""

    _target: type = field(default_factory=lambda: ED3DGSExpert)
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Colour behind opaque scenes; scenes with transparent images bring their own."""
    embedding_size: int = 32
    """Numbers of the embedding of each Gaussian."""
    time_size: int = 256
    """Numbers of the embedding of a time."""
    time_rows: int | None = None
    """Times whose embeddings are learned; None takes half the number of frames, as published
    for all multi-view scenes."""
    coarse_time_rows: int | None = None
    """Times that the coarse decoder, and at first the fine one, tells apart; None takes a tenth
    of the number of frames."""
    time_spread: float = 0.01
    """Initial length of the embeddings of time, published as 0 for scenes other than N3V."""


class ED3DGSExpert(Expert):
    """Canonical Gaussians plus offsets of a coarse and a fine decoder, in raw spaces.

    A decoder sees the `embeddings` [N, 32] of the Gaussians and the embedding of the time, never
    a position. Training cameras may be a little ahead or behind; `at` without a camera takes their
    mean. How much of the deformation is shown, and how finely time is told apart, grows during
    training and is saved.
    """

    config: ED3DGSExpertConfig
    camera_ids: Int[Tensor, "M"]
    weights: Float[Tensor, "2"]
    """`motion_weight` and `appearance_weight`."""

    def __init__(
        self, config: ED3DGSExpertConfig, scene: SceneInfo, points: InitialPoints | None = None
    ) -> None:
        super().__init__(config, scene, points)
        rows, self.coarse_rows = (
            max(2, scene.num_frames // frames) if configured is None else configured
            for configured, frames in ((config.time_rows, 2), (config.coarse_time_rows, 10))
        )
        check_config(config, rows, self.coarse_rows)
        self.time_grid = TimeGrid(rows, config.time_size, config.time_spread)
        self.decoders = nn.ModuleDict(
            {name: EmbeddingDecoder(config) for name in ("coarse", "fine")}
        )
        ids = torch.tensor(scene.camera_ids, dtype=torch.long)
        self.register_buffer("camera_ids", ids, persistent=False)
        self.time_offsets = nn.Parameter(torch.zeros(len(ids)))
        """How far each training camera is ahead, as a fraction of the clip."""
        self.fine_rows = rows
        """Times that the fine decoder tells apart now."""
        self.motion_weight = 1.0
        """Fraction of the offsets of position and rotation that is shown, and of all others."""
        self.appearance_weight = 1.0
        """Fraction of the offsets of colour that is shown, and of scale and opacity."""
        self.register_buffer("weights", torch.ones(2), persistent=False)

    def initial_parameters(self, points: InitialPoints, scene: SceneInfo) -> dict[str, Tensor]:
        """See base; all Gaussians have the same embedding at first. Of moving seeds those of the
        first time are taken: Gaussians are seen at all times, so copies would be, too."""
        points = points.of_first_time()
        embeddings = torch.zeros(len(points), self.config.embedding_size)
        return super().initial_parameters(points, scene) | {"embeddings": embeddings}

    def set_weights(self, motion: float, appearance: float) -> None:
        """How much of the deformation is shown from now on."""
        if (motion, appearance) == (self.motion_weight, self.appearance_weight):
            return
        self.motion_weight, self.appearance_weight = motion, appearance
        with torch.no_grad():
            for index, weight in enumerate((motion, appearance)):
                self.weights[index].fill_(weight)

    def at(self, time: Float[Tensor, ""], camera: Int[Tensor, ""] | None = None) -> Gaussians:
        return deformed(self, self.offsets(self.clip_time(time, camera)))

    @property
    def graph_key(self) -> Hashable | None:
        is_shown = self.motion_weight > 0.0, self.appearance_weight > 0.0
        return self.active_sh_degree, self.fine_rows, *is_shown

    def clip_time(
        self, time: Float[Tensor, ""], camera: Int[Tensor, ""] | None = None
    ) -> Float[Tensor, ""]:
        """Time as the release counts it, frame / num_frames, as the camera's clock shows it."""
        frames = self.scene.num_frames
        return time * ((frames - 1) / frames) + self.time_offset(camera)

    def time_offset(self, camera: Int[Tensor, ""] | None) -> Float[Tensor, ""]:
        """Offset of a training camera; the mean of all for others and for None."""
        if len(self.camera_ids) == 0:
            return self.time_offsets.sum()
        neutral = self.time_offsets.mean()
        if camera is None:
            return neutral
        # Compared as a whole: a look-up would synchronise with the host.
        is_camera = self.camera_ids == camera
        return torch.where(is_camera.any(), (self.time_offsets * is_camera).sum(), neutral)

    def offsets(self, time: Float[Tensor, ""]) -> dict[str, Float[Tensor, "N _"]]:
        """Offsets of the raw parameters at a `clip_time`: the sum of both decoders, as far as
        they are shown."""
        on_host = {"motion": self.motion_weight, "appearance": self.appearance_weight}
        shown = [name for name, kinds in SHOWN_BY.items() if all(on_host[kind] for kind in kinds)]
        # Read on the device, so that a captured graph stays valid while the weights grow.
        growing = dict(zip(on_host, self.weights, strict=True))
        weights = {
            name: reduce(torch.mul, (growing[kind] for kind in SHOWN_BY[name])) for name in shown
        }
        if "means" in weights:
            weights["means"] = weights["means"] * float(self.scene.extent / PUBLISHED_EXTENT)
        rows = {"coarse": self.coarse_rows, "fine": self.fine_rows}
        decoders = [
            cast(EmbeddingDecoder, self.decoders[name]).at(self.time_grid(time, rows[name]))
            for name in ("coarse", "fine")
        ]
        return decoded(self.gauss_params["embeddings"], decoders, weights)

    def get_extra_state(self) -> dict[str, Any]:
        return super().get_extra_state() | {
            "fine_rows": self.fine_rows,
            "motion_share": self.motion_weight,
            "appearance_share": self.appearance_weight,
            "camera_ids": self.camera_ids.tolist(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.fine_rows = int(state["fine_rows"])
        self.set_weights(float(state["motion_share"]), float(state["appearance_share"]))
        self.camera_ids = torch.tensor(state["camera_ids"], dtype=torch.long).to(self.camera_ids)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # A mixture may be trained on other cameras than its experts were.
        stored = state_dict.get(f"{prefix}time_offsets")
        if isinstance(stored, Tensor) and stored.ndim == 1:
            self.time_offsets.data = self.time_offsets.data.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class TimeGrid(nn.Module):
    """Embeddings of times that are spread evenly over the clip."""

    def __init__(self, rows: int, size: int, spread: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.randn(rows, size) * (spread / size**0.5))

    def forward(self, time: Float[Tensor, ""], rows: int) -> Float[Tensor, "D"]:
        """The embedding of `time` in [0, 1] if only `rows` times were told apart.

        The grid is resampled to that many rows, then interpolated; time is reflected at its ends.
        """
        grid = self.values.T[None]
        if rows != grid.shape[-1]:
            grid = functional.interpolate(grid, size=rows, mode="linear", align_corners=True)
        position = torch.stack([2.0 * time - 1.0, torch.zeros_like(time)])
        return functional.grid_sample(
            grid[:, :, None], position.reshape(1, 1, 1, 2), padding_mode="reflection",
            align_corners=True,
        ).reshape(-1)  # fmt: skip


class EmbeddingDecoder(nn.Module):
    """A linear trunk over the embeddings of time and of a Gaussian, then the heads."""

    def __init__(self, config: ED3DGSExpertConfig) -> None:
        super().__init__()
        self.time_size = config.time_size
        self.trunk = nn.Linear(config.time_size + config.embedding_size, config.width)
        self.heads = DeformationHeads(config)

    def at(self, time_embedding: Float[Tensor, "D"]) -> Decoder:
        """The decoder of a time, which sees the embeddings of Gaussians alone."""
        # The trunk's part that depends on time is the same for all and computed once.
        of_time, of_gaussian = self.trunk.weight.tensor_split([self.time_size], dim=1)
        shared = functional.linear(time_embedding, of_time, self.trunk.bias)
        return Decoder(of_gaussian, shared, self.heads)


def check_config(config: ED3DGSExpertConfig, rows: int, coarse_rows: int) -> None:
    """Raise ValueError for sizes that make no networks."""
    if min(config.embedding_size, config.time_size, config.width) < 1:
        raise ValueError(
            "E-D3DGS expects a --pipeline.model.expert.embedding-size, time-size and width of at "
            f"least 1, got {config.embedding_size}, {config.time_size} and {config.width}."
        )
    if not 1 <= coarse_rows <= rows:
        raise ValueError(
            "E-D3DGS expects a --pipeline.model.expert.coarse-time-rows between 1 and the number "
            f"of time-rows, which is {rows}, got {coarse_rows}; give both or neither."
        )
