"""`moegs render`: writes a camera path with time and lets nerfstudio render it."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from nerfstudio.scripts.render import RenderCameraPath
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.atomic_files import atomic_write_text
from moegs_ns.data.camera_paths import FixedCamera, FrozenTime, Orbit, Rig, camera_path_json
from moegs_ns.data.parser_errors import telling_of_the_scene
from moegs_ns.data.scene_files import check_files
from moegs_ns.launch.cli_args import output_option, replaced_argv
from moegs_ns.launch.option_limits import check_numbers
from moegs_ns.reports.videos import REMEDY, whole_video
from moegs_ns.runs.checkpoint import open_run

MOST_FRAMES = 1_000_000
"""Of a video; ten hours."""


@dataclass
class Render:
    """Render a video of a run along a path with time: a fixed camera, an orbit, frozen time."""

    load_config: Path
    """config.yml of the run."""
    path: FixedCamera | Orbit | FrozenTime = field(default_factory=Orbit)
    """Path of the camera."""
    output_path: Annotated[Path, output_option("--output-path")] = Path("renders/video.mp4")
    """Video to write; the camera path is written beside it as JSON."""
    seconds: float | None = None
    """Length of the video; None for that of the clip."""
    fps: float = 30.0
    """Frames per second of the video, and of clips that do not say theirs."""
    rendered_output_names: tuple[str, ...] = ("rgb",)
    """Outputs side by side, for example rgb depth argmax_gate."""
    path_only: bool = False
    """Write the camera path and stop, for `ns-render camera-path`."""

    def main(self) -> None:
        """Write the path, then render it."""
        check_numbers(self)
        if not self.rendered_output_names:
            raise ValueError("--rendered-output-names expects outputs, such as rgb, got none.")
        run = open_run(self.load_config)
        rig, num_clip_frames, clip_fps = read_rig(run.config)
        clip_seconds = num_clip_frames / (clip_fps or self.fps)
        count = max(1.0, (self.seconds or clip_seconds) * self.fps)
        if count > MOST_FRAMES:
            raise ValueError(
                f"--seconds and --fps expect a video of at most {MOST_FRAMES:,} frames, got "
                f"{count:.4g}; ask for less."
            )
        count = round(count)
        content = camera_path_json(self.path, rig, count, self.fps)
        json_path = self.output_path.with_suffix(".json")
        atomic_write_text(json_path, json.dumps(content), "camera path", REMEDY)
        CONSOLE.print(f"Camera path of {count} frames: {json_path}")
        if not self.path_only:
            self.render(run.config_path, json_path, count)

    def render(self, config_path: Path, json_path: Path, num_frames: int) -> None:
        """Let nerfstudio render the video, which replaces an earlier one when it is whole.

        Raises:
            OSError: it cannot be written.
        """
        # nerfstudio gives videos this ending.
        path = self.output_path if self.output_path.suffix else self.output_path.with_suffix(".mp4")
        with whole_video(path, num_frames) as temporary:
            video = RenderCameraPath(
                load_config=config_path,
                camera_path_filename=json_path,
                output_path=temporary,
                rendered_output_names=list(self.rendered_output_names),
            )
            # nerfstudio finds a moved run only by the --load-config of the command line.
            with replaced_argv(["ns-render", "camera-path", "--load-config", str(config_path)]):
                video.main()
        CONSOLE.print(f"{num_frames} frames: {path}", soft_wrap=True)


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
