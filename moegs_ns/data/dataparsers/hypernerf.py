"""`hypernerf-data`: scenes of Nerfies and HyperNeRF (Park et al., 2021), taken by moving cameras.

Imports neither datamanagers nor models, see `multiview`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.data.dataparsers.multiview import (
    MultiViewDataParser,
    ParsedImages,
    SceneParserConfig,
    checked_fps,
)
from moegs_ns.data.dataparsers.nerfies import NerfiesScene, list_images, read_scene
from moegs_ns.data.dataparsers.selection import choose_numbers
from moegs_ns.data.points.initial import Frustums


@dataclass
class HyperNeRFDataParserConfig(SceneParserConfig):
    """Nerfies layout: `dataset.json`, `metadata.json`, `scene.json`, `camera/ID.json`,
    `rgb/2x/ID.png`, and perhaps initial points in points3D.npz, points3D.ply,
    points3D_downsample2.ply or points.npy. Frames are the images' warp_id."""

    _target: type = field(default_factory=lambda: HyperNeRFDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/hypernerf")
    """Folder of the scene."""
    fps: float | None = None
    """Frames per second of the recording, which the data set does not tell."""
    downscale_factor: int = 2
    """Images are read from the folder rgb/2x, as for the scores in papers, or another one."""
    train_every: int = 4
    """Where val_ids is empty, one of so many images is trained on, and the one halfway to the next
    is held out."""
    full_lens: bool = True
    """Use principal points and remove distortion; 4DGaussians and E-D3DGS use the focal length
    alone."""


class HyperNeRFDataParser(MultiViewDataParser):
    """Each image has a camera of its own, whose number is its place in `ids`; the world is that of
    the files in camera/, before scene.json scales it."""

    config: HyperNeRFDataParserConfig
    point_files = ("points3D.npz", "points3D.ply", "points3D_downsample2.ply", "points.npy")

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config = self.config
        # Divide the images, and keep those of the clip.
        scene = read_scene(Path(config.data))
        splits = dict(zip(("train", "test"), divide_images(scene, config.train_every), strict=True))
        every = [name for names in splits.values() for name in names]
        frames = choose_numbers(config.frames, [scene.times[name] for name in every])
        places = {name: place for place, name in enumerate(dict.fromkeys(scene.ids + every))}

        def listing(names: list[str]):
            kept = [name for name in names if scene.times[name] in frames]
            if not kept:
                raise ValueError(
                    f"Expected training and held-out images of the frames {frames.start} to "
                    f"{frames.stop - 1} in {config.data}, but there are none of one kind; choose "
                    "other --frames."
                )
            images = list_images(
                scene,
                kept,
                [places[name] for name in kept],
                [scene.times[name] for name in kept],
                config.downscale_factor,
                full_lens=config.full_lens,
            )
            return images.only(np.ones(len(kept), dtype=bool))

        # Read the cameras; the training ones tell where the scene is.
        train = listing(splits["train"])
        shown = train if split == "train" else listing(splits["test"])
        fps = 0.0 if config.fps is None else checked_fps(config.fps)
        bounds = None if scene.bounds is None else np.tile(scene.bounds, (len(train), 1))
        num_recorded = max(scene.times.values()) + 1
        return shown.parsed(frames, num_recorded, fps), train.frustums(bounds)


def divide_images(scene: NerfiesScene, train_every: int) -> tuple[list[str], list[str]]:
    """Names of the images that are trained on, and of those that are held out.

    Raises:
        ValueError: one of the two would be empty.
    """
    if scene.val_ids:
        train, held_out = scene.train_ids, scene.val_ids
    else:
        if train_every < 2:
            raise ValueError(f"--train-every expects a number of at least 2, got {train_every}.")
        places = range(0, len(scene.ids), train_every)
        train = [scene.ids[place] for place in places]
        # The last one has no neighbour in time behind it.
        held_out = [scene.ids[place + train_every // 2] for place in places[:-1]]
    if not train or not held_out:
        raise ValueError(
            f"Expected images to train on and others to hold out in {scene.data}, but of "
            f"{len(scene.ids)} there are {len(train)} and {len(held_out)}; complete dataset.json, "
            "or choose a lower --train-every after the parser's name."
        )
    return train, held_out


hypernerf_dataparser = DataParserSpecification(
    config=HyperNeRFDataParserConfig(),
    description="Nerfies and HyperNeRF layout: one JSON camera for each image.",
)
