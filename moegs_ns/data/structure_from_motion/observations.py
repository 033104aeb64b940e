"""What the cameras of a rig see at several instants: features and matches, kept on disk.

Features of each camera and instant, and matches of each instant, are files of their own, written at
once, so that a run that was interrupted, or that takes more instants, computes what is missing.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int

from moegs_ns.atomic_files import atomic_write
from moegs_ns.data.dataparsers.alignment import Clip
from moegs_ns.data.dataparsers.recordings import Recording
from moegs_ns.data.features import Features, find_features, match_features
from moegs_ns.data.frames.decoding import FrameGroup, FrameSource, decode_group
from moegs_ns.data.structure_from_motion.pooling import Pair, Pooled, pool
from moegs_ns.progress import track

WORK = ".moegs_calibration"
"""Folder in the scene folder for what an interrupted run has found."""
_FORMAT = 1
"""Raised whenever the same images and options would give other features or matches."""


@dataclass(frozen=True)
class FeatureOptions:
    """Which features are looked for."""

    max_features: int = 4096
    """In one image, the strongest ones."""
    max_size: int = 1600
    """Longer side in pixels at which features are looked for; larger images are resized."""


def observe(
    recordings: Sequence[Recording],
    clip: Clip,
    instants: Sequence[int],
    options: FeatureOptions,
    data: Path,
) -> Pooled:
    """Features and matches of all cameras at some instants, places in the frames of the clip.

    Files lie in the folder `WORK` of the scene folder `data`, until `forget` deletes it.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: an image or video is broken.
        OSError: the folder cannot be written.
    """
    tables = [
        _Camera(recording, [int(row[place]) for place in instants], options, data)
        for recording, row in zip(recordings, clip.images, strict=True)
    ]
    missing = [(camera, camera.missing()) for camera in tables]
    total = sum(len(places) for _, places in missing)
    found = (each for camera, places in missing for each in camera.extract(places))
    for _ in track(found, "Looking for features", total):
        pass
    features = [[camera.load(place) for camera in tables] for place in range(len(instants))]
    keys = [[camera.keys[place] for camera in tables] for place in range(len(instants))]
    matches = [
        _matches(of_instant, of_keys, data / WORK)
        for of_instant, of_keys in track(
            list(zip(features, keys, strict=True)), "Matching features"
        )
    ]
    return pool([[each.xy for each in of_instant] for of_instant in features], matches)


def forget(data: Path) -> None:
    """Delete what `observe` keeps for another run."""
    shutil.rmtree(data / WORK, ignore_errors=True)


class _Camera:
    """Features of one camera, in files."""

    def __init__(
        self, recording: Recording, frames: list[int], options: FeatureOptions, data: Path
    ) -> None:
        self.recording, self.options, self.work = recording, options, data / WORK
        self.sources: list[FrameSource] = [recording.source(frame) for frame in frames]
        longer = max(recording.width, recording.height)
        scale = min(1.0, options.max_size / longer)
        self.size = (round(recording.width * scale), round(recording.height * scale))
        description = [_FORMAT, recording.width, recording.height, options.max_features]
        digest = hashlib.sha256(json.dumps(description).encode()).hexdigest()[:8]
        self.keys = [f"{self.group([place]).key(data)}-{digest}" for place in range(len(frames))]
        """Of each instant, what its features depend on."""

    def group(self, places: Sequence[int]) -> FrameGroup:
        """The images of some instants."""
        sources = tuple(self.sources[place] for place in places)
        return FrameGroup(sources[0].group, sources, *self.size, background=None)

    def path(self, place: int) -> Path:
        """File of an instant's features."""
        return self.work / f"features-{self.keys[place]}.npz"

    def missing(self) -> list[int]:
        """Instants without a file, in the order of their frames."""
        return [place for place in range(len(self.keys)) if not self.path(place).is_file()]

    def extract(self, places: Sequence[int]) -> Iterator[int]:
        """Write the features of some instants, and yield each that is done."""
        if not places:
            return
        width, height = self.size
        scale = (self.recording.width / width, self.recording.height / height)
        images = decode_group(self.group(places), threads=1)
        for place, image in zip(places, images, strict=True):
            gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            found = find_features(gray, self.options.max_features, scale=scale)
            _save(self.path(place), xy=found.xy, descriptors=found.descriptors)
            yield place

    def load(self, place: int) -> Features:
        """Features of an instant."""
        with np.load(self.path(place)) as arrays:
            return Features(arrays["xy"], arrays["descriptors"])


def _matches(
    features: Sequence[Features], keys: Sequence[str], work: Path
) -> dict[Pair, Int[np.ndarray, "_ 2"]]:
    """Matches between all pairs of cameras at one instant, from their file if there is one."""
    pairs = list(combinations(range(len(features)), 2))
    digest = hashlib.sha256(json.dumps([_FORMAT, *keys]).encode()).hexdigest()[:16]
    path = work / f"matches-{digest}.npz"
    if not path.is_file():
        found = [match_features(features[one], features[two]) for one, two in pairs]
        counts = np.array([len(matches) for matches in found])
        _save(path, counts=counts, matches=np.concatenate(found))
    with np.load(path) as arrays:
        parts = np.split(arrays["matches"], np.cumsum(arrays["counts"])[:-1])
    return dict(zip(pairs, parts, strict=True))


def _save(path: Path, **arrays: np.ndarray) -> None:
    with atomic_write(path, "features", "choose another --data") as file:
        np.savez(file, **arrays)
