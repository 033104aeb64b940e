"""Frames of a video of a run: which cameras, with which truth, and how each is painted."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_paths import get_path_from_json
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from moegs_ns.data.camera_path_files import has_own_times
from moegs_ns.data.datamanager import MoegsDataManager
from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.progress import track
from moegs_ns.reports.held_out import evenly_spaced
from moegs_ns.reports.panels import (
    ERROR,
    ERROR_GAIN,
    TRUTH,
    Painter,
    Panel,
    Picture,
    panels_of,
    scaled,
    side_by_side,
)
from moegs_ns.reports.videos import FrameFolder
from moegs_ns.runs.checkpoint import Run

DEPTH_FRAMES = 5
"""Frames whose depths decide the range of colours."""


@dataclass(frozen=True)
class Shots:
    """The cameras of a video, in order."""

    cameras: Cameras
    """[F] with times."""
    truth: Callable[[int], Float[Tensor, "H W 3"]] | None = None
    """The recorded image of each, where there is one."""
    key: str = ""
    """Tells these cameras from others."""
    indices: Sequence[int] = ()
    """Of recorded images: their places in the data set."""

    def __len__(self) -> int:
        return len(self.cameras)


def shots_of_path(content: dict[str, Any], span: tuple[float, float]) -> Shots:
    """The cameras of a path as the viewer and `moegs render` write it.

    Frames without times of their own show the clip from the first time of `span` to the last.
    """
    if not has_own_times(content):
        times = np.linspace(*span, len(content["camera_path"])).tolist()
        frames = zip(content["camera_path"], times, strict=True)
        content = content | {"camera_path": [f | {"render_time": time} for f, time in frames]}
    key = hashlib.sha256(json.dumps(content["camera_path"]).encode()).hexdigest()[:16]
    size = f"{content['render_width']}x{content['render_height']}"
    return Shots(get_path_from_json(content), key=f"{size} {key}")


def shots_of_images(
    datamanager: MoegsDataManager,
    split: str,
    cameras: Sequence[int],
    frames: tuple[int, int] | None,
    *,
    any_size: bool = False,
) -> Shots:
    """The cameras of recorded images, one after the other, each from its first frame on.

    Args:
        split: "held-out" or "training".
        cameras: numbers of physical cameras in that order; empty for all.
        frames: first and last frame of the clip; None for all.
        any_size: for pictures that need not fit one video.

    Raises:
        ValueError: there are none of those, or they differ in size.
    """
    if split == "held-out":
        datamanager.check_held_out()
    dataset = datamanager.eval_dataset if split == "held-out" else datamanager.train_dataset
    table = dataset.frame_table
    present = table.camera_ids.unique().tolist()
    wrong = sorted(set(cameras) - set(present))
    if wrong:
        raise ValueError(
            f"--path.cameras expects {split} cameras, which are {' '.join(map(str, present))}, got "
            f"{wrong[0]}."
        )
    first, last = frames or (0, int(table.frame_ids.max()))
    indices = [
        index
        for camera in cameras or present
        for index in _in_time(table, camera)
        if first <= int(table.frame_ids[index]) <= last
    ]
    if not indices:
        raise ValueError(f"There are no {split} images of the frames {first} to {last}.")
    chosen = dataset.cameras[torch.tensor(indices)]
    sizes = {(int(w), int(h)) for w, h in zip(chosen.width, chosen.height, strict=True)}
    if len(sizes) > 1 and not any_size:
        raise ValueError(
            f"Expected images of one size for one video, but there are {len(sizes)} sizes; choose "
            "cameras of one size by --path.cameras."
        )

    def truth(index: int) -> Float[Tensor, "H W 3"]:
        return torch.from_numpy(dataset.get_numpy_image(indices[index])).float() / 255.0

    return Shots(chosen, truth, key=f"{split} {indices}", indices=indices)


def _in_time(table: Any, camera: int) -> list[int]:
    own = torch.nonzero(table.camera_ids == camera)[:, 0]
    return own[table.frame_ids[own].argsort()].tolist()


def available_panels(run: Run, *, with_truth: bool) -> dict[str, Panel]:
    """What can be shown of a run."""
    model: Any = run.config.pipeline.model
    names = getattr(model, "expert_names", None)
    single = (run.config.method_name.removeprefix("moegs-"),)
    panels = panels_of(names or single, is_mixture=bool(names))
    if with_truth:
        panels |= {
            TRUTH: Panel(TRUTH, "truth"),
            ERROR: Panel(ERROR, f"error x {ERROR_GAIN:g}"),
        }
    return panels


class Renderer:
    """Paints frames of a run."""

    def __init__(self, pipeline: MoegsPipeline, shots: Shots, panels: Sequence[Panel]) -> None:
        self.pipeline, self.shots, self.panels = pipeline, shots, panels
        model = pipeline.model
        self.experts = model.config.expert_names if isinstance(model, MixtureModel) else ()
        self.painter = Painter(self.experts, self._depths())

    def outputs(self, index: int) -> dict[str, Tensor]:
        """The model's outputs of a frame."""
        camera = self.shots.cameras[index : index + 1].to(self.pipeline.device)
        return self.pipeline.model.get_outputs_for_camera(camera)

    def _depths(self) -> tuple[float, float]:
        if not any(panel.output == "depth" for panel in self.panels):
            return 0.0, 1.0
        seen = [self.outputs(i)["depth"] for i in evenly_spaced(len(self.shots), DEPTH_FRAMES)]
        depths = torch.cat([depth[depth > 0] for depth in seen]).cpu().numpy()
        if not len(depths):
            return 0.0, 1.0
        near, far = np.percentile(depths, [1.0, 99.0])
        return float(near), float(far)

    def pictures(self, index: int) -> list[Picture]:
        """All panels of a frame."""
        outputs = self.outputs(index)
        truth = self.shots.truth
        image = None if truth is None else truth(index).to(self.pipeline.device)
        return [self.painter.paint(panel, outputs, image) for panel in self.panels]

    def picture(self, index: int, *, labels: bool, width: int | None = None) -> Picture:
        """One frame: all panels side by side, below their labels if there are to be any.

        Args:
            width: pixels that a panel is scaled down to.
        """
        pictures = self.pictures(index)
        if width is not None:
            pictures = [scaled(picture, width) for picture in pictures]
        if not labels:
            return np.concatenate(pictures, axis=1)
        keys = [self.painter.key(panel) for panel in self.panels]
        return side_by_side(pictures, [panel.label for panel in self.panels], keys)


def render_frames(renderer: Renderer, folder: FrameFolder, *, labels: bool) -> int:
    """Render the frames that a folder lacks; how many those were."""
    missing = folder.missing(len(renderer.shots))
    for index in track(missing, "Rendering"):
        folder.write(index, renderer.picture(index, labels=labels))
    return len(missing)


def description_of(
    run: Run, shots: Shots, panels: Sequence[Panel], *, labels: bool
) -> dict[str, Any]:
    """What decides how frames look."""
    checkpoint = run.checkpoint_path
    return {
        "checkpoint": checkpoint.name,
        "written": checkpoint.stat().st_mtime_ns,
        "cameras": shots.key,
        "outputs": [panel.output for panel in panels],
        "labels": labels,
    }
