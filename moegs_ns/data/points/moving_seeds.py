"""Seeds of what moves: at key frames, the surface of all that differs from the still background,
with its colour and its velocity.

Cameras must stand still. Reflections lie elsewhere for every camera, so they get no seeds, nor does
what fewer than half of the cameras see. Dark shadows on the floor do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from moegs_ns.data.points.moving_hull import MovingSurface, Rig, moving_surface
from moegs_ns.data.points.scene_images import SceneImages
from moegs_ns.data.points.seed_motion import displacements
from moegs_ns.data.points.seed_picture import SeedPicture
from moegs_ns.data.points.thinning import evenly_chosen
from moegs_ns.data.points.visual_hull import moving_mask, pixels_of
from moegs_ns.progress import track

_SMALLEST_PART = 4
"""Cells of a thing below which it is noise."""
_SURE_SEEDS = 64
"""Seeds that a small thing gets before large ones share the rest."""
_LARGE_REGION = 0.001
"""Fraction of an image from which a moving region without seeds is worth naming."""


@dataclass(frozen=True)
class MovingSeedsOptions:
    """Which instants get seeds, and how many."""

    key_frames_every: int = 5
    """Frames between two key frames."""
    seeds_per_key_frame: int = 2000
    """Most seeds of one key frame."""
    seed: int = 0
    """Seed of the choice among them."""

    def check(self) -> None:
        """Raise a ValueError for numbers that make no sense."""
        for name in ("key_frames_every", "seeds_per_key_frame"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name.replace('_', '-')} expects at least 1, got "
                    f"{getattr(self, name)}; leave it out for the default."
                )


@dataclass(frozen=True)
class Unseeded:
    """A moving region of one image that has no seed."""

    frame: int
    camera: int
    pixels: int
    column: int
    row: int

    def __str__(self) -> str:
        return (
            f"camera {self.camera} at frame {self.frame}, {self.pixels} pixels around column "
            f"{self.column}, row {self.row}"
        )


@dataclass(frozen=True, eq=False)
class MovingSeeds:
    """Seeds of all key frames."""

    xyz: Float[np.ndarray, "N 3"]
    rgb: UInt8[np.ndarray, "N 3"]
    frames: Int[np.ndarray, "N"]
    """The recording's own number of each seed's key frame."""
    velocities: Float[np.ndarray, "N 3"]
    """World units per second."""
    per_camera: dict[int, int]
    """Seeds that each camera shows."""
    per_frame: dict[int, int]
    """Seeds of each key frame."""
    unseeded: list[Unseeded]
    """Regions that move and got no seed, the largest first."""
    picture: UInt8[np.ndarray, "H W 3"]
    """Seeds over some of the images, a row for each key frame, or for some of many."""

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(frozen=True, eq=False)
class _Instant:
    """What moves at one frame."""

    images: list[UInt8[np.ndarray, "H W 3"]]
    masks: list[Bool[np.ndarray, "H W"]]
    rig: Rig
    surface: MovingSurface


def find_moving_seeds(images: SceneImages, fps: float, options: MovingSeedsOptions) -> MovingSeeds:
    """Seeds at every `options.key_frames_every`-th frame of `images`, which has all frames.

    Raises:
        ValueError: cameras move, or frames are too few, or their rate is unknown.
    """
    options.check()
    if fps <= 0.0:
        raise ValueError(
            "--moving expects to know the frames per second, as velocities count seconds, but the "
            "scene does not tell them; name the recording's rate to the parser."
        )
    backgrounds = images.backgrounds()
    if backgrounds is None:
        raise ValueError(
            "--moving expects cameras that stand still for at least 3 frames, whose median shows "
            "the background, but this scene has others; leave --moving out."
        )
    # Look at every key frame, and at the frame after it, which tells the velocity.
    frames = list(images.frames)
    keys = frames[:: options.key_frames_every]
    picture = SeedPicture(keys)
    found: dict[int, tuple[np.ndarray, ...]] = {}
    unseeded: list[Unseeded] = []
    per_camera = dict.fromkeys(backgrounds, 0)
    for frame, now, other, gap in track(
        _with_neighbours(images, backgrounds, keys), "Seeding what moves", total=len(keys)
    ):
        surface, cameras = now.surface, [images.camera_ids[i] for i in images.frames[frame]]
        chosen = _thinned(surface, options.seeds_per_key_frame, options.seed)
        xyz, rgb = surface.xyz[chosen], surface.rgb[chosen]
        shifts = displacements(xyz, rgb, surface.parts[chosen], surface, other.surface)
        velocities = shifts * (fps / gap)
        found[frame] = xyz, rgb, velocities
        shown = surface.shown[:, chosen].sum(1)
        for camera, count in zip(cameras, shown.tolist(), strict=True):
            per_camera[camera] += count
        unseeded += _unseeded(now, frame, cameras)
        picture.add(frame, now.images, now.rig, xyz, xyz + velocities / fps, cameras)
    xyz, rgb, velocities = (np.concatenate(each) for each in zip(*found.values(), strict=True))
    counts = {frame: len(own) for frame, (own, _, _) in found.items()}
    return MovingSeeds(
        xyz.astype(np.float32),
        rgb,
        np.repeat(np.array(list(counts)), list(counts.values())),
        velocities.astype(np.float32),
        per_camera,
        counts,
        sorted(unseeded, key=lambda region: -region.pixels),
        picture.drawn(),
    )


def _with_neighbours(
    images: SceneImages, backgrounds: dict[int, np.ndarray], keys: Sequence[int]
) -> Iterator[tuple[int, _Instant, _Instant, int]]:
    """Every key frame, what moves then and in the next frame (the one before, for the last frame),
    and how many frames later that is."""
    frames = list(images.frames)
    neighbours = {key: frames[min(frames.index(key) + 1, len(frames) - 1)] for key in keys}
    if keys[-1] == frames[-1]:
        neighbours[keys[-1]] = frames[-2]
    wanted = sorted({*keys, *neighbours.values()})
    stream = zip(wanted, images.read(wanted), strict=True)
    instants: dict[int, _Instant] = {}
    for key in keys:
        while not {key, neighbours[key]} <= instants.keys():
            frame, shown = next(stream)
            instants[frame] = _instant(images, backgrounds, frame, shown)
        yield key, instants[key], instants[neighbours[key]], neighbours[key] - key
        instants = {frame: instants[frame] for frame in instants if frame >= neighbours[key]}


def _instant(
    images: SceneImages,
    backgrounds: dict[int, np.ndarray],
    frame: int,
    shown: list[UInt8[np.ndarray, "H W 3"]],
) -> _Instant:
    indices = images.frames[frame]
    rig = Rig.of(images.view.select(images.view.camera_ids.new_tensor(indices)))
    still = [backgrounds[images.camera_ids[index]] for index in indices]
    masks = [moving_mask(*pair) for pair in zip(shown, still, strict=True)]
    return _Instant(shown, masks, rig, moving_surface(shown, masks, rig))


def _thinned(surface: MovingSurface, count: int, seed: int) -> Int[np.ndarray, "M"]:
    """Indices of at most about `count` cells, of which small things get enough."""
    sizes = np.bincount(surface.parts) if len(surface.parts) else np.zeros(0, int)
    parts = np.flatnonzero(sizes >= _SMALLEST_PART)
    if not len(parts):
        return np.zeros(0, dtype=np.int64)
    sure = min(_SURE_SEEDS, max(1, count // (2 * len(parts))))
    rest = max(0, count - sure * len(parts)) / sizes[parts].sum()
    chosen = []
    for part in parts:
        own = np.flatnonzero(surface.parts == part)
        wanted = sure + int(rest * len(own))
        chosen.append(own[evenly_chosen(surface.xyz[own], wanted, seed)])
    return np.sort(np.concatenate(chosen))


def _unseeded(now: _Instant, frame: int, cameras: Sequence[int]) -> list[Unseeded]:
    """Large moving regions of the images of a frame onto which no part of the surface falls."""
    found, surface = [], now.surface
    sizes = np.bincount(surface.parts, minlength=1)
    xyz = surface.xyz[sizes[surface.parts] >= _SMALLEST_PART]
    smallest = _LARGE_REGION * now.rig.width * now.rig.height
    for index, mask in enumerate(now.masks):
        number, labels, stats, middles = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        column, row, depth = pixels_of(xyz, now.rig.viewmats[index], now.rig.Ks[index])
        within = (depth > 0) & (column >= 0) & (column < now.rig.width)
        within &= (row >= 0) & (row < now.rig.height)
        seeded = set(labels[row[within], column[within]].tolist())
        for label in set(range(1, number)) - seeded:
            pixels = int(stats[label, cv2.CC_STAT_AREA])
            if pixels >= smallest:
                middle_column, middle_row = middles[label].round().astype(int).tolist()
                region = Unseeded(frame, cameras[index], pixels, middle_column, middle_row)
                found.append(region)
    return found
