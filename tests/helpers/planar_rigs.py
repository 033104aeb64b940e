"""Rigs of known cameras that look at textured planes, of which some move: as many features as real
footage has, drawn in milliseconds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from data_helpers import write_video

from moegs_ns.data.frames.undistortion import Lens
from moegs_ns.data.rig_files import RIG, Rig, RigCamera, write_rig

WIDTH, HEIGHT, NUM_FRAMES = 320, 240, 18
NAMES = ("left", "mid", "near", "right", "wide")
_TEXELS = 400


@dataclass(frozen=True, eq=False)
class Card:
    """A textured rectangle in the world; y points down."""

    texture: np.ndarray
    center: np.ndarray
    right: np.ndarray
    """Half of its width."""
    down: np.ndarray
    velocity: np.ndarray
    """Per frame."""

    def at(self, frame: float) -> "Card":
        return replace(self, center=self.center + frame * self.velocity)


@dataclass(frozen=True, eq=False)
class PlanarCamera:
    name: str
    K: np.ndarray
    pose: np.ndarray
    """World to camera, 3x4."""


@cache
def cards() -> list[Card]:
    """A wall, a floor, a box that stands, and three that move; from back to front."""
    random = np.random.default_rng(7)

    def card(center, right, down, velocity=(0, 0, 0)) -> Card:
        parts = [np.array(part, float) for part in (center, right, down, velocity)]
        # Spots of large cards are as large as those of small ones.
        return Card(_texture(random, 30 if parts[1][0] < 1 else 130), *parts)

    return [
        card((0, 0, 2.0), (5, 0, 0), (0, 3.5, 0)),
        card((0, 1.4, 0.0), (4, 0, 0), (0, 0, 2)),
        card((1.0, 0.6, 0.6), (0.7, 0, 0.3), (0, 0.7, 0)),
        card((-1.5, -0.3, 0.4), (0.55, 0, 0), (0, 0.5, 0), (0.055, 0.03, 0)),
        card((0.9, -0.9, 0.2), (0.5, 0, 0.1), (0, 0.45, 0), (-0.045, 0.045, 0)),
        card((-0.2, 0.9, 0.0), (0.45, 0, -0.1), (0, 0.4, 0), (0.03, -0.06, 0)),
    ]


def _texture(random: np.random.Generator, finest: int) -> np.ndarray:
    """Spots of many sizes and colours, up to `finest` of them on a side."""
    image = np.zeros((_TEXELS, _TEXELS, 3), np.float32)
    for size in (finest // 6, finest // 3, finest):
        spots = random.uniform(0, 1, (size, size, 3)).astype(np.float32)
        image += cv2.resize(spots, (_TEXELS, _TEXELS), interpolation=cv2.INTER_CUBIC)
    image = (image - image.min()) / (image.max() - image.min())
    return (30 + 200 * image).astype(np.uint8)


@cache
def planar_cameras(names: tuple[str, ...] = NAMES) -> list[PlanarCamera]:
    """Cameras on an arc that look at the origin, from several heights."""
    cameras = []
    for number, name in enumerate(names):
        angle = 0.16 * (number - (len(names) - 1) / 2)
        position = np.array([4 * np.sin(angle), -0.3 + 0.25 * (number % 3), -4 * np.cos(angle)])
        forward = -position / np.linalg.norm(position)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        K = np.array([[330.0, 0, 158.0 + 3 * number], [0, 330.0, 121.0], [0, 0, 1]])
        cameras.append(PlanarCamera(name, K, np.c_[R, -R @ position]))
    return cameras


@cache
def draw(number: int, frame: float) -> np.ndarray:
    """What a camera sees, with a little noise, as sensors have it."""
    camera, size = planar_cameras()[number], (WIDTH, HEIGHT)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    for each in cards():
        card = each.at(frame)
        # Texels to the world, then to pixels; OpenCV counts both from the centre of the first one.
        axes = [card.right * 2 / _TEXELS, card.down * 2 / _TEXELS]
        corner = card.center - card.right - card.down
        world = np.vstack([np.stack([*axes, corner], 1), [0, 0, 1]])
        to_pixels = np.linalg.inv(half) @ camera.K @ camera.pose @ world @ half
        cv2.warpPerspective(
            card.texture, to_pixels, size, dst=image, borderMode=cv2.BORDER_TRANSPARENT
        )
    noise = np.random.default_rng((number, round(100 * frame) + 9999)).normal(0, 1.5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


Change = Callable[[list[np.ndarray]], list[np.ndarray]]
"""What makes other images of a camera's."""


def planar_scene(
    folder: Path,
    *,
    starts: Sequence[float] = (0, 0, 0, 0, 0),
    poses: Sequence[int] = (0, 1, 2, 3, 4),
    changes: Mapping[int, Change] | None = None,
    fps: Sequence[int] = (30, 30, 30, 30, 30),
    said_fps: Sequence[int] | None = None,
) -> Path:
    """Videos and their rig file. Camera c begins with instant `starts[c]`, takes `fps[c]` frames
    per second, as its file says unless that says `said_fps[c]`, and is described with the lens and
    pose of camera `poses[c]`. Its images are changed by `changes[c]`."""
    folder.mkdir(parents=True)
    cameras = planar_cameras()
    described = []
    for number, camera in enumerate(cameras):
        step = 30 / fps[number]
        images = [draw(number, starts[number] + step * f) for f in range(NUM_FRAMES)]
        path = folder / f"{camera.name}.mp4"
        if changes and number in changes:
            images = changes[number](images)
        write_video(path, images, fps=(said_fps or fps)[number])
        of = cameras[poses[number]]
        lens = Lens(fx=330.0, fy=330.0, cx=float(of.K[0, 2]), cy=float(of.K[1, 2]))
        described.append(RigCamera(camera.name, path.name, WIDTH, HEIGHT, lens, of.pose, fps=None))
    write_rig(folder / RIG, Rig(tuple(described), "m"))
    return folder
