"""Images that each have a camera of their own, as the files of a data set list them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from moegs_ns.data.dataparsers.multiview import ParsedImages
from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.points.initial import Frustums


@dataclass(frozen=True, eq=False)
class Listing:
    """M images in any order: where they are, and which camera took them at which frame."""

    sources: list[FrameSource]
    cameras: Int[np.ndarray, "M"]
    frames: Int[np.ndarray, "M"]
    """The recording's own numbers."""
    camera_to_worlds: Float[np.ndarray, "M 3 4"]
    """OpenGL axes."""
    Ks: Float[np.ndarray, "M 3 3"]
    """Intrinsics at the size below, pixel centres at half-integers."""
    width: int
    height: int
    masks: list[Path] | None = None
    """Of each image a file that is above 0 where its pixels count; None if all do."""

    def __len__(self) -> int:
        return len(self.sources)

    def only(self, is_chosen: Bool[np.ndarray, "M"]) -> "Listing":
        """The chosen images, camera by camera and in order of time within a camera."""
        rows = np.flatnonzero(is_chosen)
        rows = rows[np.lexsort((self.frames[rows], self.cameras[rows]))]
        return replace(
            self,
            sources=[self.sources[row] for row in rows],
            cameras=self.cameras[rows],
            frames=self.frames[rows],
            camera_to_worlds=self.camera_to_worlds[rows],
            Ks=self.Ks[rows],
            masks=None if self.masks is None else [self.masks[row] for row in rows],
        )

    def resized(self, width: int, height: int) -> "Listing":
        """The same images at another size."""
        scale = np.array([width / self.width, height / self.height, 1.0])
        return replace(self, Ks=self.Ks * scale[:, None], width=width, height=height)

    def masked(self, masks: list[Path]) -> "Listing":
        """With masks that a data set brings, in the order of the images.

        Raises:
            ValueError: the images have masks already, of where their lenses see anything.
        """
        if self.masks is not None:
            raise ValueError(
                f"Expected images that need no other masks than {masks[0]}, but their lenses leave "
                "pixels empty when they are undistorted; undistort images and masks first."
            )
        return replace(self, masks=masks)

    def parsed(self, frames: range, num_recorded: int, fps: float, note: str = "") -> ParsedImages:
        """What a parser's `read` returns, of the images of one split and clip."""
        return ParsedImages(
            frames,
            fps,
            self.width,
            self.height,
            camera_to_worlds=self.camera_to_worlds,
            Ks=self.Ks,
            camera_ids=self.cameras.tolist(),
            frame_ids=(self.frames - frames.start).tolist(),
            sources=self.sources,
            num_recorded=num_recorded,
            note=note,
            masks=self.masks,
        )

    def frustums(self, bounds: Float[np.ndarray, "M 2"] | None = None) -> Frustums:
        """The cameras of all images."""
        return Frustums(self.camera_to_worlds, self.Ks, self.width, self.height, bounds)

    def first_of_cameras(self) -> "Listing":
        """Of each camera its first image in the order of the list."""
        is_first = np.zeros(len(self), dtype=bool)
        is_first[np.unique(self.cameras, return_index=True)[1]] = True
        return self.only(is_first)
