"""A scene from videos alone: the four commands of the README with their times, and what the
calibration that they make costs beside the one that came with the scene.

    python -m benchmarks.quality.from_videos --data DATA/panoptic_basketball \
        --parser panoptic-data --budget 0.2

The images of a PanopticSports scene are encoded as videos first, which is not timed. Both rows
train on these videos with points that are prepared in the same way, and are scored on cameras that
are held out of points and training, each at its own pose.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from benchmarks.trainings import Scene, Trainings, train_and_report
from moegs_ns.data.calibrations.comparing import differences
from moegs_ns.data.points.files import load_points
from moegs_ns.data.points.initial import PREPARED_POINTS
from moegs_ns.data.rig_files import RIG, Rig, RigCamera, lens_from_matrix, read_rig, write_rig
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.jobs import run_module

FPS = 30
_LIKE_THE_IMAGES = {"crf": "10", "preset": "fast"}
"""Of H.264; larger differences than those of the images' own compression would be ours."""


@dataclass(frozen=True, kw_only=True)
class FromVideos(Trainings):
    """Calibrate, make points, train; then the same with the given calibration."""

    name: str = "from_videos"
    method: str = "moegs-stg"
    instants: int = 8
    """Whose features are pooled to calibrate."""
    every: int = 10
    """Frames between those that points are made of."""
    work: Path = Path("outputs/from_videos")
    """Folder of the videos and of both scenes."""

    def rows(self) -> Iterator[Row | None]:
        given, held_out = panoptic_rig(self.scene.data, self.work / "videos")
        videos = write_videos(self.scene.data / "ims", self.work / "videos")
        own = self.work / "own"
        times = {
            "rig_s": self.command("rig", *videos, "--data", own, "--overwrite"),
            "calibrate_s": self.command(*("calibrate", "--data", own, "--instants", self.instants)),
        }
        off = differences(read_rig(own / RIG), given)
        calibration: Row = {
            "calibrated_cameras": len(off.names),
            "center_cm_median": 100.0 * float(np.median(off.centers)),
            "center_cm_worst": 100.0 * float(off.centers.max()),
            "focal_percent_median": 100.0 * float(np.median(off.focals)),
            "focal_percent_worst": 100.0 * float(off.focals.max()),
        }
        yield from self.trained("own", times | calibration, held_out)
        write_rig(self.work / "given" / RIG, given)
        yield from self.trained("given", {}, held_out)

    def trained(self, name: str, known: Row, held_out: list[str]) -> Iterator[Row | None]:
        """Rows of the scene of that name in the folder of work, one for each seed."""
        scene, parser = self.work / name, ("rig-data", "--held-out-cameras", *held_out)
        seconds = self.command(
            *("points", "--data", scene, "--every", self.every, "--overwrite", *parser)
        )
        count = len(load_points(scene / PREPARED_POINTS).xyz)
        known = {"calibration": name} | known | {"points_s": seconds, "points": count}
        table = replace(self, scene=Scene(scene.resolve(), parser[0], " ".join(parser[1:])))
        for index, seed in enumerate(self.seeds):
            row = train_and_report(table.job(self.method, f"{name}-seed-{seed}", seed), index)
            yield row and known | row

    def command(self, *args: Any) -> float:
        """Seconds that `moegs prepare` with these arguments takes, in a process of its own.

        Raises:
            RuntimeError: it failed.
        """
        log = self.work / "prepare.log"
        began = time.perf_counter()
        if run_module(["moegs_ns.scripts.main", "prepare", *map(str, args)], log=log) != 0:
            raise RuntimeError(f"moegs prepare {args[0]} failed; see {log}.")
        return time.perf_counter() - began


def camera_name(camera: int) -> str:
    """Of a camera's video, without its ending."""
    return f"cam{camera:02d}"


def panoptic_rig(scene: Path, videos: Path) -> tuple[Rig, list[str]]:
    """The cameras of a PanopticSports scene as those of videos, and the names of those held out."""
    cameras, held_out = [], []
    for split in ("train", "test"):
        meta = json.loads((scene / f"{split}_meta.json").read_text())
        for K, pose, number in zip(meta["k"][0], meta["w2c"][0], meta["cam_id"][0], strict=True):
            name = camera_name(number)
            cameras.append(
                _camera(name, videos, np.array(K), np.array(pose)[:3], (meta["w"], meta["h"]))
            )
            if split == "test":
                held_out.append(name)
    return Rig(tuple(sorted(cameras, key=lambda camera: camera.name)), "m"), held_out


def _camera(
    name: str, videos: Path, K: np.ndarray, pose: np.ndarray, size: tuple[int, int]
) -> RigCamera:
    file = (videos / f"{name}.mp4").resolve().as_posix()
    return RigCamera(name, file, *size, lens_from_matrix(K), pose, fps=FPS)


def write_videos(images: Path, videos: Path) -> list[Path]:
    """A video of each folder of images that has none yet."""
    import av

    videos.mkdir(parents=True, exist_ok=True)
    paths = []
    for folder in sorted(images.iterdir(), key=lambda path: int(path.name)):
        path = videos / f"{camera_name(int(folder.name))}.mp4"
        paths.append(path)
        if path.is_file():
            continue
        part = path.with_suffix(".part.mp4")
        with av.open(str(part), mode="w") as container:
            files = sorted(folder.iterdir())
            stream = container.add_stream("libx264", rate=FPS, options=_LIKE_THE_IMAGES)
            stream.width, stream.height = Image.open(files[0]).size
            stream.pix_fmt = "yuv420p"
            for file in files:
                frame = av.VideoFrame.from_ndarray(np.array(Image.open(file)), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        part.replace(path)
    return paths


if __name__ == "__main__":
    tyro.cli(FromVideos, description=__doc__).main()
