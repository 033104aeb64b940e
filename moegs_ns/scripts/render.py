"""`moegs render`: a video or pictures of a run along a path of cameras with time."""

import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.atomic_files import atomic_write_text
from moegs_ns.data.camera_path_files import (
    check_numbers_of_path,
    check_pinholes,
    has_own_times,
    read_camera_path,
)
from moegs_ns.data.camera_paths import (
    FixedCamera,
    FrozenTime,
    Interpolate,
    Orbit,
    Rig,
    RigPath,
    Spiral,
    camera_path_json,
)
from moegs_ns.data.parser_errors import telling_of_the_scene
from moegs_ns.data.scene_files import check_files
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.launch.cli_args import output_option
from moegs_ns.launch.option_limits import check_numbers
from moegs_ns.launch.processes import advise
from moegs_ns.reports.panels import choose_panels
from moegs_ns.reports.rendering import (
    Renderer,
    Shots,
    available_panels,
    description_of,
    render_frames,
    shots_of_images,
    shots_of_path,
)
from moegs_ns.reports.videos import REMEDY, FrameFolder, encode
from moegs_ns.runs.checkpoint import Run, open_run

DEFAULT_FPS = 30.0
VIDEO = ".mp4"
MOST_FRAMES = 1_000_000
"""Of a video; ten hours."""
GO_ON = "Give the same command again: frames that are rendered are kept."


@dataclass(frozen=True)
class Dataset:
    """The recorded images' own cameras and times; `truth` and `error` are outputs then as well."""

    split: Literal["held-out", "training"] = "held-out"
    """Which images."""
    cameras: tuple[int, ...] = ()
    """Numbers of their cameras; all, one after the other, if none are named."""


@dataclass(frozen=True)
class CameraPathFile:
    """A path that was made in the viewer's Render tab, or by another `moegs render`. Where it tells
    no times, or one time that nobody chose, the clip plays along it."""

    file: Path
    """Its JSON."""


@dataclass(frozen=True)
class Clip:
    """What a video shows of a clip, and how fast."""

    num_frames: int
    fps: float
    """Of the clip."""
    frames: tuple[int, int]
    """First and last frame that is shown."""

    @property
    def span(self) -> tuple[float, float]:
        """First and last time, in [0, 1] over the whole clip."""
        last = max(1, self.num_frames - 1)
        return self.frames[0] / last, self.frames[1] / last

    @property
    def seconds(self) -> float:
        """Length of what is shown."""
        return (self.frames[1] - self.frames[0] + 1) / self.fps


@dataclass
class Render:
    """Render a video of a run: an orbit while the clip plays, unless another path is named last."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run."""
    path: (
        FixedCamera
        | Orbit
        | FrozenTime
        | Interpolate
        | Spiral
        | Dataset
        | Annotated[CameraPathFile, tyro.conf.subcommand("file")]
    ) = field(default_factory=Orbit)
    """Path of the camera."""
    output_path: Annotated[Path, output_option("--output-path")] = Path("renders/video.mp4")
    """Video (.mp4) to write, or a folder for pictures (PNG). A path is written beside it as JSON,
    for ns-render and, in SCENE/camera_paths, for the viewer's Render tab."""
    outputs: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--rendered-output-names"])] = (
        "rgb",
    )
    """What to show, side by side: mixture, names of experts, gates, argmax_gate, gate_NAME, depth,
    opacity; of recorded images also truth and error."""
    labels: bool | None = None
    """Write the names above the pictures; by default if there are several."""
    frames: tuple[int, int] | None = None
    """First and last frame of the clip to show, from 0; all by default."""
    speed: float = 1.0
    """How fast the clip plays; 0.5 for half as fast as it was recorded."""
    seconds: float | None = None
    """Length of the video, in place of --speed."""
    fps: float | None = None
    """Frames per second of the video; by default 30, that of the clip for recorded images, that of
    the file for a path from a file."""
    path_only: bool = False
    """Write the camera path and stop, for `ns-render camera-path`."""

    def main(self) -> None:
        """Write the path, then render along it; frames of an earlier attempt are kept.

        Raises:
            ValueError: an option is out of range, or a name is no output.
        """
        check_numbers(self)
        run = open_run(self.run)
        panels = choose_panels(
            self.outputs, available_panels(run, with_truth=isinstance(self.path, Dataset))
        )
        self._check_output()
        if isinstance(self.path, Dataset):
            self._refuse(self.seconds is not None, "--seconds", "--speed or --fps")
            self._refuse(self.path_only, "--path-only", "another path")
            pipeline = load_pipeline(run)
            images = (self.path.split, self.path.cameras, self.frames)
            shots = shots_of_images(pipeline.datamanager, *images)
            clip_fps = pipeline.datamanager.train_dataset.metadata.get("fps") or DEFAULT_FPS
            fps = self.fps or float(clip_fps) * self.speed
        else:
            shots, fps = self._shots_of_path(run)
            if self.path_only:
                return
            pipeline = load_pipeline(run, test_mode="inference")
        labels = len(panels) > 1 if self.labels is None else self.labels
        folder = self._begin(description_of(run, shots, panels, labels=labels))
        self._render(Renderer(pipeline, shots, panels), folder, fps, labels=labels)

    def _shots_of_path(self, run: Run) -> tuple[Shots, float]:
        rig, clip = self._clip(run)
        if isinstance(self.path, CameraPathFile):
            content = read_camera_path(self.path.file)
            check_pinholes(content, self.path.file)
            check_numbers_of_path(content, self.path.file)
            self._refuse(self.seconds is not None, "--seconds", "--fps")
            self._refuse(self.path_only, "--path-only", "another path")
            if has_own_times(content):
                self._refuse(self.frames is not None, "--frames", "a file without times")
            else:
                CONSOLE.print(
                    f"{self.path.file} tells no times, so the clip plays along it.", soft_wrap=True
                )
            fps = float(self.fps or content.get("fps") or DEFAULT_FPS) * self.speed
            return shots_of_path(content, clip.span), fps
        assert isinstance(self.path, RigPath), self.path
        fps = self.fps or DEFAULT_FPS
        seconds = self.seconds or clip.seconds / self.speed
        if seconds * fps > MOST_FRAMES:
            raise ValueError(
                f"--seconds, --speed and --fps expect a video of at most {MOST_FRAMES:,} frames, "
                f"got {seconds * fps:.4g}; ask for less."
            )
        count = max(1, round(seconds * fps))
        content = camera_path_json(self.path, rig, count, fps, clip.span)
        json_path = self.output_path.with_suffix(".json")
        atomic_write_text(json_path, json.dumps(content), "camera path", REMEDY)
        CONSOLE.print(f"Camera path of {count} frames: {json_path}", soft_wrap=True)
        return shots_of_path(content, clip.span), fps

    def _clip(self, run: Run) -> tuple[Rig, Clip]:
        rig, num_frames, clip_fps = read_rig(run.config)
        frames = self.frames or (0, num_frames - 1)
        if not 0 <= frames[0] <= frames[1] < num_frames:
            raise ValueError(
                f"--frames expects a first and a last frame from 0 to {num_frames - 1}, got "
                f"{frames[0]} {frames[1]}."
            )
        return rig, Clip(num_frames, clip_fps or self.fps or DEFAULT_FPS, frames)

    def _check_output(self) -> None:
        if self.speed <= 0:
            raise ValueError(
                f"--speed expects a number above 0, got {self.speed:g}; 1 is real time."
            )
        if self.seconds is not None and self.speed != 1.0:
            raise ValueError("--seconds and --speed both say how long the video is; give one.")
        if self.output_path.suffix not in ("", VIDEO):
            raise ValueError(
                f"--output expects the name of a {VIDEO} file, or of a folder for pictures, got "
                f"{self.output_path}."
            )
        if self.output_path.suffix == VIDEO and self.output_path.is_dir():
            raise ValueError(
                f"--output expects a place for a video, but {self.output_path} is a folder; name "
                "another."
            )

    def _refuse(self, is_given: bool, option: str, instead: str) -> None:
        if is_given:
            raise ValueError(
                f"{option} means nothing for this path, which has its own frames and "
                f"times; use {instead}."
            )

    def _begin(self, description: dict) -> FrameFolder:
        is_video = self.output_path.suffix == VIDEO
        # Beside the video, so that an attempt that was stopped is seen and goes on.
        name = f"{self.output_path.name}.frames" if is_video else self.output_path.name
        folder = FrameFolder(self.output_path.with_name(name))
        folder.begin(description, is_ours=is_video)
        advise(lambda: GO_ON)
        return folder

    def _render(self, renderer: Renderer, folder: FrameFolder, fps: float, *, labels: bool) -> None:
        count = len(renderer.shots)
        rendered = render_frames(renderer, folder, labels=labels)
        kept = f", {count - rendered} of them from before" if rendered < count else ""
        if self.output_path.suffix == VIDEO:
            encode([folder.path(index) for index in range(count)], self.output_path, fps)
            shutil.rmtree(folder.folder)
        CONSOLE.print(f"{count} frames{kept}: {self.output_path}", soft_wrap=True)


def read_rig(config) -> tuple[Rig, int, float]:
    """Physical training cameras, number of frames and frames per second of a run's data."""
    datamanager = config.pipeline.datamanager
    if datamanager.data is not None:
        datamanager.dataparser.data = Path(datamanager.data)
    parser = datamanager.dataparser
    check_files(Path(parser.data))
    with telling_of_the_scene(parser, Path(parser.data)):
        outputs = parser.setup().get_dataparser_outputs(split="train")
    metadata = outputs.metadata
    ids = torch.as_tensor(metadata.get("camera_ids", range(len(outputs.cameras))))
    first_of_each = [int(torch.nonzero(ids == camera)[0]) for camera in ids.unique()]
    times = outputs.cameras.times
    distinct = 1 if times is None else len(times.unique())
    cameras = outputs.cameras[torch.tensor(first_of_each)]
    # Size and field of view are those of the first camera.
    width, height, focal = (
        float(value[0]) for value in (cameras.width, cameras.height, cameras.fy)
    )
    fov = math.degrees(2.0 * math.atan(0.5 * height / focal))
    poses = cameras.camera_to_worlds.numpy().astype(float)
    rig = Rig(camera_to_worlds=poses, fov=fov, width=int(width), height=int(height))
    return rig, int(metadata.get("num_frames", distinct)), float(metadata.get("fps") or 0.0)
