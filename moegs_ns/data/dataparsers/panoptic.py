"""`panoptic-data`: PanopticSports layout, one JPEG per camera and frame, JSON calibration.

Imports neither datamanagers nor models, see `multiview`.
"""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.cameras import opengl_from_viewmats
from moegs_ns.data.calibration import check_rotations
from moegs_ns.data.dataparsers.multiview import (
    Align,
    MultiViewDataParser,
    MultiViewParserConfig,
    ParsedImages,
    check_poses,
    checked_fps,
    choose_frames,
    scaled_size,
)
from moegs_ns.data.dataparsers.recordings import FrameNumber, frame_numbers
from moegs_ns.data.dataparsers.selection import divide_cameras
from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.points.initial import Frustums


@dataclass
class PanopticDataParserConfig(MultiViewParserConfig):
    """PanopticSports layout: `train_meta.json`, perhaps `test_meta.json`,
    `ims/<camera>/<frame>.jpg` and perhaps initial points in init_pt_cld.npz, init_sift_all.npz or
    init_sift_t0.npz."""

    _target: type = field(default_factory=lambda: PanopticDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/panoptic")
    """Folder of the scene."""
    fps: float = 30.0
    """Frames per second of the recording."""
    downscale_factor: int = 1
    """Divides the image size."""
    held_out_cameras: tuple[int, ...] | None = None
    """cam_ids of the cameras that are never trained on, whichever file lists them; by default those
    of test_meta.json, in the published scenes 0 10 15 30."""
    exclude_cameras: tuple[int, ...] = ()
    """cam_ids of cameras that are not used at all."""
    min_points: int = 40_000
    """A file with fewer points is topped up to this number at random."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """One JSON file: M images, camera by camera and in order of time within a camera."""

    width: int
    height: int
    num_frames: int
    cameras: Int[np.ndarray, "M"]
    frames: Int[np.ndarray, "M"]
    Ks: Float[np.ndarray, "M 3 3"]
    viewmats: Float[np.ndarray, "M 4 4"]
    filenames: list[str]

    def cameras_at(
        self, rows: np.ndarray, width: int, height: int
    ) -> tuple[Float[np.ndarray, "M 3 4"], Float[np.ndarray, "M 3 3"]]:
        """Camera to world (OpenGL) and intrinsics, at another image size, of some images."""
        scale = np.array([width / self.width, height / self.height, 1.0])
        return opengl_from_viewmats(self.viewmats[rows]), self.Ks[rows] * scale[:, None]

    def rows(self, kept: Int[np.ndarray, "m"]) -> "Calibration":
        """Some of the images."""
        return replace(
            self,
            cameras=self.cameras[kept],
            frames=self.frames[kept],
            Ks=self.Ks[kept],
            viewmats=self.viewmats[kept],
            filenames=[self.filenames[row] for row in kept],
        )

    def of_cameras(self, cameras: list[int]) -> "Calibration":
        """The images of some cameras."""
        return self.rows(np.flatnonzero(np.isin(self.cameras, cameras)))

    def joined(self, other: "Calibration") -> "Calibration":
        """With the images of another file of the same size."""
        cameras = np.concatenate([self.cameras, other.cameras])
        frames = np.concatenate([self.frames, other.frames])
        both = replace(
            self,
            num_frames=max(self.num_frames, other.num_frames),
            cameras=cameras,
            frames=frames,
            Ks=np.concatenate([self.Ks, other.Ks]),
            viewmats=np.concatenate([self.viewmats, other.viewmats]),
            filenames=self.filenames + other.filenames,
        )
        return both.rows(np.lexsort((frames, cameras)))

    def matched(self, frames: list[int], num_frames: int) -> "Calibration":
        """With other frames of the images; those at -1 are left out."""
        numbered = replace(self, num_frames=num_frames, frames=np.array(frames))
        return numbered.rows(np.flatnonzero(np.array(frames) >= 0))


class PanopticDataParser(MultiViewDataParser):
    """Fixed cameras in a dome; metres, world y down, principal points off-centre."""

    config: PanopticDataParserConfig
    point_files = ("init_pt_cld.npz", "init_sift_all.npz", "init_sift_t0.npz")

    def read(self, split: str) -> tuple[ParsedImages, Frustums]:
        config, data = self.config, Path(self.config.data)
        # Read the calibrations; the held-out cameras have their own file, which may be missing.
        paths = {name: data / f"{name}_meta.json" for name in ("train", "test")}
        wanted = "train" if split == "train" else "test"
        known = [name for name, path in paths.items() if path.is_file() or name == "train"]
        splits = {name: read_calibration(paths[name]) for name in known}
        _check_split(splits, data)
        if config.held_out_cameras is not None or config.exclude_cameras:
            splits = _divided(splits, config)
        if wanted not in splits:
            raise FileNotFoundError(
                f"Expected the held-out cameras in {paths[wanted]}, but there is no such file; "
                "complete the scene, or choose some of the cameras with --held-out-cameras after "
                "the parser's name."
            )
        splits, note = _aligned(splits, config.align, data)
        train, shown = splits["train"], splits[wanted]
        # Choose frames and image size.
        frames = choose_frames(config.frames, train.num_frames)
        present = sorted(set(train.frames.tolist()) & set(frames))
        if not present:
            raise ValueError(
                f"Expected training images of the frames {frames.start} to {frames.stop - 1} in "
                f"{data}, but no frame there is one that all cameras have; choose other --frames."
            )
        if config.align == "number":
            frames = range(present[0], present[-1] + 1)
        size = scaled_size(shown.width, shown.height, config.downscale_factor)
        fps = checked_fps(config.fps)
        # Select the images of the clip.
        rows = np.flatnonzero(np.isin(shown.frames, frames))
        images = ParsedImages(
            frames,
            fps,
            *size,
            *shown.cameras_at(rows, *size),
            camera_ids=shown.cameras[rows].tolist(),
            frame_ids=(shown.frames[rows] - frames.start).tolist(),
            sources=[FrameSource(data / "ims" / shown.filenames[row]) for row in rows],
            num_recorded=train.num_frames,
            note=note,
        )
        at_first = np.flatnonzero(train.frames == present[0])
        return images, Frustums(*train.cameras_at(at_first, *size), *size)


def _check_split(splits: dict[str, Calibration], data: Path) -> None:
    """Raise if a held-out camera is also trained on."""
    both = set.intersection(*(set(each.cameras.tolist()) for each in splits.values()))
    if len(splits) > 1 and both:
        raise ValueError(
            f"Expected other cameras in {data / 'test_meta.json'} than in train_meta.json, but "
            f"{', '.join(map(str, sorted(both)))} are in both; keep each in one of the files."
        )


def _divided(
    splits: dict[str, Calibration], config: PanopticDataParserConfig
) -> dict[str, Calibration]:
    """All cameras of both files, divided as the options say."""
    first, *others = splits.values()
    sizes = {(each.width, each.height) for each in splits.values()}
    if len(sizes) > 1:
        raise ValueError(
            f"Expected one image size w, h in both calibrations of {config.data}, got "
            f"{' and '.join(f'{width}x{height}' for width, height in sorted(sizes))}; correct them."
        )
    every = first
    for other in others:
        every = every.joined(other)
    held_out = config.held_out_cameras
    if held_out is None:
        test = set(splits["test"].cameras.tolist()) if "test" in splits else set[int]()
        held_out = tuple(sorted(test - set(config.exclude_cameras)))
    divided = divide_cameras(set(every.cameras.tolist()), held_out, config.exclude_cameras)
    return {
        name: every.of_cameras(cameras)
        for name, cameras in (("train", divided.train), ("test", divided.held_out))
    }


def _aligned(
    splits: dict[str, Calibration], align: Align | None, data: Path
) -> tuple[dict[str, Calibration], str]:
    """The calibrations with matched frames, and the sentence about it.

    Raises:
        ValueError: at some time the names of the images bear different numbers, and `align` is
            None; or it is one that images do not have.
    """
    if align == "time":
        raise ValueError(
            "--align expects number or position for images, got time; leave it out unless the "
            "cameras disagree."
        )
    if align == "position" or splits["train"].num_frames == 1:
        return splits, ""
    numbers = {name: _numbers(each, data / "ims") for name, each in splits.items()}
    if align == "number":
        return _by_number(splits, numbers)
    files = {
        pair: file
        for name, each in splits.items()
        for pair, file in zip(
            zip(each.frames.tolist(), numbers[name], strict=True), each.filenames, strict=True
        )
    }
    times, known = Counter(time for time, _ in files), Counter(number for _, number in files)
    torn = sorted(pair for pair in files if times[pair[0]] > 1 or known[pair[1]] > 1)
    if torn:
        raise ValueError(
            f"Expected images of one number in their names at each of the {len(times)} times of "
            f"{data}, but at {len({time for time, _ in torn})} of them cameras differ (for example "
            f"{files[torn[0]]} and {files[torn[1]]}); correct the lists fn, or use the frames that "
            "all cameras have with --align number after the parser's name, if equal numbers mean "
            "equal instants."
        )
    return splits, ""


def _by_number(
    splits: dict[str, Calibration], numbers: dict[str, list[FrameNumber]]
) -> tuple[dict[str, Calibration], str]:
    """The images whose numbers all cameras have, in frames by these numbers."""
    cameras = sum(len(set(each.cameras.tolist())) for each in splits.values())
    counts = Counter(number for each in numbers.values() for number in each)
    places = {number: place for place, number in enumerate(sorted(counts))}
    shared = {number for number, count in counts.items() if count == cameras}
    matched = {
        name: each.matched([places[n] if n in shared else -1 for n in numbers[name]], len(places))
        for name, each in splits.items()
    }
    note = (
        f"Frames are matched by number: of {len(places)}, all {cameras} cameras have "
        f"{len(shared)}, which are used."
    )
    return matched, note


def _numbers(calibration: Calibration, folder: Path) -> list[FrameNumber]:
    """What the name of each image says of its frame."""
    numbers: list[FrameNumber] = [()] * len(calibration.filenames)
    for camera in np.unique(calibration.cameras):
        rows = np.flatnonzero(calibration.cameras == camera).tolist()
        files = [PurePosixPath(calibration.filenames[row]) for row in rows]
        for row, number in zip(rows, frame_numbers(files, folder / str(camera)), strict=True):
            numbers[row] = number
    return numbers


def read_calibration(path: Path) -> Calibration:
    """Cameras and file names of one split, sorted by camera, then by frame.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such JSON, its lists differ in length, or a pose is not finite.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the calibration {path}, but there is no such file; set --data to a "
            "PanopticSports scene."
        )
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        width, height = int(meta["w"]), int(meta["h"])
        cameras = [_whole(camera) for at_time in meta["cam_id"] for camera in at_time]
        frames = [time for time, at_time in enumerate(meta["cam_id"]) for _ in at_time]
        names = [str(name) for at_time in meta["fn"] for name in at_time]
        Ks, viewmats = (
            np.array([matrix for at_time in meta[key] for matrix in at_time], dtype=np.float64)
            for key in ("k", "w2c")
        )
        counts = {len(cameras), len(names), len(Ks), len(viewmats)}
        if len(counts) != 1 or Ks.shape[1:] != (3, 3) or viewmats.shape[1:] != (4, 4):
            raise ValueError(f"lists of {sorted(counts)} entries")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected w, h and equally long lists k, w2c, fn, cam_id in {path}, but they cannot "
            f"be read ({type(error).__name__}: {error}); download the file again."
        ) from error
    check_poses(viewmats, path)
    check_poses(Ks, path)
    _check_entries(path, list(zip(cameras, frames, strict=True)), names, viewmats)
    if min(width, height) < 1:
        raise ValueError(
            f"Expected a width w and height h above 0 in {path}, got {width} and {height}; "
            "download the file again."
        )
    order = np.lexsort((frames, cameras))
    return Calibration(
        width=width,
        height=height,
        num_frames=len(meta["cam_id"]),
        cameras=np.array(cameras)[order],
        frames=np.array(frames)[order],
        Ks=Ks[order],
        viewmats=viewmats[order],
        filenames=[names[row] for row in order],
    )


def _whole(value: Any) -> int:
    """The number of a camera, which may be written as text."""
    if int(value) != float(value):
        raise ValueError(f"the camera {value}")
    return int(value)


def _check_entries(
    path: Path,
    images: list[tuple[int, int]],
    names: list[str],
    viewmats: Float[np.ndarray, "M 4 4"],
) -> None:
    """Raise unless each camera has one image at a time, inside of the scene, and a proper pose;
    `images` are pairs of camera and time."""
    (camera, time), count = Counter(images).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"Expected each camera once at a time in {path}, but camera {camera} is listed {count} "
            f"times at time {time}; remove what is listed twice."
        )
    absolute = [name for name in names if PurePosixPath(name).is_absolute()]
    if absolute:
        raise ValueError(
            f"Expected names inside of the folder ims in {path}, got {absolute[0]}; move the "
            "images there and correct their names."
        )
    check_rotations(viewmats[:, :3, :3], [f"{path.parent / 'ims' / name}" for name in names])
    if np.abs(viewmats[:, 3] - (0.0, 0.0, 0.0, 1.0)).max() > 1e-6:
        raise ValueError(
            f"Expected w2c matrices with the last row 0 0 0 1 in {path}, got another; write world "
            "to camera, row by row."
        )


panoptic_dataparser = DataParserSpecification(
    config=PanopticDataParserConfig(),
    description="PanopticSports layout: images per camera and train_meta.json, test_meta.json.",
)
