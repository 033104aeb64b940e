"""The player page: one HTML file with a clip of Gaussians and what draws it, for any browser."""

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from moegs_ns.atomic_files import atomic_write_text
from moegs_ns.cameras import View, single_views
from moegs_ns.data.frames.dataset import FrameDataset
from moegs_ns.mixture.mixture import expert_colors
from moegs_ns.reports.clip_frames import ClipSet, FusedClip
from moegs_ns.reports.player_codec import Packed, attributes, pack_within
from moegs_ns.reports.player_gates import GatedClip, gates_header
from moegs_ns.reports.player_tracks import Tracks, bake, blends, key_frames

MOST_KEY_FRAMES = 60
"""Key frames that are baked unless a step between them is asked for."""
SCRIPTS = (
    "camera.js", "clip.js", "splat_shaders.js", "gates_shader.js", "renderer.js", "mixture.js",
    "player.js",
)  # fmt: skip
REMEDY = "name another --output"


@dataclass(frozen=True, eq=False)
class Stage:
    """Where a page starts, and what it stands in."""

    cameras: list[tuple[str, View]]
    """Names of the physical cameras and what they see; the first is where the page starts."""
    up: Float[Tensor, "3"]
    title: str
    """Of the page: the run's name."""
    remark: str = ""
    """A sentence about what is shown."""


@dataclass(frozen=True)
class PageReport:
    """What was written."""

    path: Path
    megabytes: float
    gaussians: int
    found: int
    """Gaussians that are ever visible, before some were left out."""
    moving: int
    key_frames: list[int]


def physical_cameras(dataset: FrameDataset, device: torch.device) -> list[tuple[str, View]]:
    """The first view of every physical training camera, named by its number."""
    ids = dataset.frame_table.camera_ids
    firsts = [int(torch.nonzero(ids == camera)[0]) for camera in ids.unique()]
    cameras = dataset.cameras
    return [
        (f"camera {int(ids[row])}", next(single_views(cameras[row : row + 1], device)))
        for row in firsts
    ]


def write_page(
    clip: ClipSet, frames: Sequence[int], every: int | None, stage: Stage, max_mb: float, path: Path
) -> PageReport:
    """Bake key frames and write the page; the least important Gaussians are left out if it would
    be too large.

    Args:
        frames: of the clip, in order.
        every: those of `frames` have been chosen already; None to choose at most 60 of them.
        max_mb: size of the page in MB of 10^6 bytes.

    Raises:
        OSError: it cannot be written; nothing is left of it.
        ValueError: there is nothing to show, or the size allows none of it.
    """
    keys = list(frames) if every is not None else key_frames(frames, MOST_KEY_FRAMES)
    tracks = bake(clip, keys)
    can_blend = blends(clip, keys)

    def page(packed: Packed) -> str:
        content = header(clip, keys, can_blend, stage, tracks, packed)
        left_out = len(tracks) - packed.num_still - packed.num_moving
        text = " ".join(filter(None, [about(clip, keys, packed, left_out), stage.remark]))
        return page_text(stage.title, text, content, packed.content)

    packed, count = pack_within(tracks, 1e6 * max_mb, lambda one: len(page(one).encode()))
    text = page(packed)
    atomic_write_text(path, text, "player page", REMEDY)
    return PageReport(path, len(text.encode()) / 1e6, count, len(tracks), packed.num_moving, keys)


def about(clip: ClipSet, keys: Sequence[int], packed: Packed, left_out: int) -> str:
    """What the page says that it shows."""
    fewer = f" ({left_out:,} less important ones are left out)" if left_out else ""
    blended = ""
    if isinstance(clip, GatedClip):
        blended = " Each expert is drawn by itself, and the router blends them at every pixel."
    elif isinstance(clip, FusedClip):
        blended = (
            " It stands in for the mixture: opacities are times the responsibilities, and there "
            "are no gates per pixel."
        )
    return (
        f"Shows {clip.what}: {packed.num_still + packed.num_moving:,} Gaussians{fewer}, "
        f"{packed.num_moving:,} of them moving, at {len(keys)} key frames.{blended}"
    )


def header(
    clip: ClipSet,
    keys: Sequence[int],
    can_blend: bool,
    stage: Stage,
    tracks: Tracks,
    packed: Packed,
) -> dict[str, Any]:
    """What the page knows beside the values of the Gaussians."""
    focus = focus_of([view for _, view in stage.cameras])
    background = torch.stack([expert.background for expert in clip.experts]).mean(0)
    depth = clip.scene.extent
    return {
        "frames": list(keys),
        "fps": clip.scene.fps,
        "blend": can_blend,
        "attributes": attributes(tracks),
        "codes": {name: vars(codes) for name, codes in packed.codes.items()},
        "still": packed.num_still,
        "moving": packed.num_moving,
        "kinds": tracks.kinds,
        "experts": [
            {"name": name, "color": [*color, 1.0]}
            for name, color in zip(clip.names, expert_colors(len(clip.names)), strict=True)
        ],
        "cameras": [camera_entry(name, view, depth) for name, view in stage.cameras],
        "up": stage.up.tolist(),
        "focus": focus.tolist(),
        "background": background.tolist(),
        "gates": gates_header(clip),
    }


def camera_entry(name: str, view: View, depth: float) -> dict[str, Any]:
    """One camera: its axes (right, down, ahead) and centre in the world, its lens in pixels."""
    K = view.Ks[0]
    return {
        "name": name,
        "axes": view.viewmats[0, :3, :3].tolist(),
        "position": view.positions[0].tolist(),
        "focal": [float(K[0, 0]), float(K[1, 1])],
        "centre": [float(K[0, 2]), float(K[1, 2])],
        "width": view.width,
        "height": view.height,
        "depth": depth,
    }


def focus_of(views: Sequence[View]) -> Float[Tensor, "3"]:
    """The point nearest to the optical axes of all cameras, by least squares; for cameras that look
    the same way it lies near their centres, and the page looks a scene's extent ahead instead."""
    ahead = torch.stack([view.viewmats[0, 2, :3] for view in views]).double().cpu()
    centers = torch.stack([view.positions[0] for view in views]).double().cpu()
    across = torch.eye(3, dtype=torch.float64) - ahead[:, :, None] * ahead[:, None, :]
    pulled = (across @ centers[:, :, None]).sum(0)
    # A little of the identity picks a point for axes that are parallel.
    matrix = across.sum(0) + 1e-6 * torch.eye(3, dtype=torch.float64)
    return torch.linalg.solve(matrix, pulled + 1e-6 * centers.mean(0)[:, None])[:, 0].float()


def page_text(title: str, text: str, content: dict[str, Any], payload: bytes) -> str:
    """The page: everything in one file, and nothing that it would load."""
    folder = files("moegs_ns.reports") / "player"
    parts = {
        "TITLE": html.escape(title),
        "STYLE": (folder / "style.css").read_text("utf8"),
        "ABOUT": html.escape(text),
        # A name with "</script>" in it must not end the script.
        "HEADER": json.dumps(content).replace("<", "\\u003c"),
        "SORTER": (folder / "sorter.js").read_text("utf8"),
        "SCRIPTS": "\n".join((folder / name).read_text("utf8") for name in SCRIPTS),
        "PAYLOAD": base64.b64encode(payload).decode(),
    }
    page = (folder / "page.html").read_text("utf8")
    for name, part in parts.items():
        page = page.replace("{{" + name + "}}", part, 1)
    return page
