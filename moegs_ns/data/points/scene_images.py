"""Training images of a scene, read frame by frame from all cameras."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from moegs_ns.cameras import View, view_from_cameras
from moegs_ns.data.frames.decoding import FrameGroup, decode_group
from moegs_ns.data.points.triangulation import TriangulationOptions
from moegs_ns.progress import track

_BACKGROUND_FRAMES = 15
"""Frames whose median is a camera's still background; more take longer."""
_FORMAT = 2
"""Raised whenever the same images and options would give other points."""


class SceneImages:
    """Training images of a parser, read frame by frame from all cameras in parallel."""

    def __init__(self, outputs: DataparserOutputs, every: int) -> None:
        metadata = outputs.metadata
        self.sources = metadata["frame_sources"]
        self.camera_ids: list[int] = metadata["camera_ids"]
        self.view: View = view_from_cameras(outputs.cameras)
        indices: dict[int, list[int]] = defaultdict(list)
        for index, frame in enumerate(metadata["frame_ids"]):
            indices[frame].append(index)
        chosen = [min(indices)] if every == 0 else [f for f in sorted(indices) if f % every == 0]
        first = int(metadata.get("first_frame", 0))
        self.frames = {first + frame: indices[frame] for frame in chosen}
        """Images of each chosen frame, one per camera, by the recording's own frame number."""

    def group(self, indices: Sequence[int]) -> FrameGroup:
        """Images of one camera in order of time, to be decoded together."""
        sources = tuple(self.sources[index] for index in indices)
        size = (self.view.width, self.view.height)
        return FrameGroup(sources[0].group, sources, *size, background=None)

    def read(self, frames: Sequence[int]) -> Iterator[list[UInt8[np.ndarray, "H W 3"]]]:
        """The images of each frame; every video is decoded once, up to the last of them."""
        images_of: dict[int, list[int]] = defaultdict(list)
        for index in (index for frame in frames for index in self.frames[frame]):
            images_of[self.camera_ids[index]].append(index)
        streams = {
            camera: decode_group(self.group(indices), threads=1)
            for camera, indices in images_of.items()
        }
        for frame in frames:
            yield [next(streams[self.camera_ids[index]]) for index in self.frames[frame]]

    def backgrounds(self) -> dict[int, UInt8[np.ndarray, "H W 3"]] | None:
        """Of each camera the median of frames all over the clip, which shows what stands still;
        None where a camera moves or frames are too few."""
        images_of: dict[int, list[int]] = defaultdict(list)
        for index, camera in enumerate(self.camera_ids):
            images_of[camera].append(index)
        for indices in images_of.values():
            poses = self.view.viewmats[indices]
            if len(indices) < 3 or bool((poses != poses[:1]).any()):
                return None
        found = {}
        for camera, indices in track(images_of.items(), "Looking for what stands still"):
            places = np.linspace(0, len(indices) - 1, min(len(indices), _BACKGROUND_FRAMES))
            group = self.group([indices[place] for place in places.round().astype(int)])
            shown = np.stack(list(decode_group(group, threads=1)))
            found[camera] = np.median(shown, axis=0).astype(np.uint8)
        return found

    def key(self, frame: int, options: TriangulationOptions, folder: Path) -> str:
        """Changes with everything that the points of a frame depend on."""
        indices = self.frames[frame]
        description = [
            _FORMAT,
            [self.camera_ids[index] for index in indices],
            [self.group([index]).key(folder) for index in indices],
            self.view.viewmats[indices].tolist(),
            self.view.Ks[indices].tolist(),
            asdict(options),
        ]
        return hashlib.sha256(json.dumps(description).encode()).hexdigest()[:16]
