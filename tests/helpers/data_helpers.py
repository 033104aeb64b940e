"""Tiny scenes on disk for the tests of `moegs_ns.data`."""

import json
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from moegs_ns.data.datamanager import MoegsDataManager, MoegsDataManagerConfig
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.demo.scene import write_demo_scene

TINY = {"num_cameras": 4, "num_frames": 5, "width": 48, "height": 36}


def tiny_video_scene(folder: Path, **changes: int) -> Path:
    """4 cameras, 5 frames, 48x36 pixels, as videos."""
    write_demo_scene(folder, **{**TINY, **changes})
    return folder


def test_image(camera: int, frame: int, width: int = 24, height: int = 16) -> np.ndarray:
    """An image that says which camera and frame it is: red 10 x camera, green 20 x frame."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[:, :, 0], image[:, :, 1] = 10 * camera, 20 * frame
    image[:, :, 2] = np.arange(width)[None] * 8
    return image


test_image.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


def poses_bounds(num_cameras: int, width: int = 24, height: int = 16) -> np.ndarray:
    """Cameras side by side that look along -z, in LLFF columns."""
    rows = np.zeros((num_cameras, 3, 5))
    rows[:, :, 0], rows[:, :, 1], rows[:, :, 2] = (0, -1, 0), (1, 0, 0), (0, 0, 1)
    rows[:, 0, 3] = 0.2 * np.arange(num_cameras)
    rows[:, :, 4] = (height, width, 20.0)
    return np.concatenate([rows.reshape(num_cameras, 15), np.tile([1.0, 4.0], (num_cameras, 1))], 1)


def image_scene(folder: Path, num_cameras: int = 3, num_frames: int = 4) -> Path:
    """N3V layout with extracted frames instead of videos."""
    for camera in range(num_cameras):
        images = folder / f"cam{camera:02d}" / "images"
        images.mkdir(parents=True)
        for frame in range(num_frames):
            Image.fromarray(test_image(camera, frame)).save(images / f"{frame:04d}.png")
    np.save(folder / "poses_bounds.npy", poses_bounds(num_cameras))
    return folder


def panoptic_scene(folder: Path, num_frames: int = 3) -> Path:
    """PanopticSports layout: cameras 1, 4, 7 train and 2 tests; listed in mixed order."""
    for split, cameras in (("train", [4, 1, 7]), ("test", [2])):
        meta: dict = {"w": 24, "h": 16, "k": [], "w2c": [], "fn": [], "cam_id": []}
        for frame in range(num_frames):
            meta["cam_id"].append(cameras)
            meta["fn"].append([f"{camera}/{frame:06d}.jpg" for camera in cameras])
            meta["k"].append([[[20, 0, 11.5], [0, 21, 8.25], [0, 0, 1]] for _ in cameras])
            poses = [np.eye(4) for _ in cameras]
            for pose, camera in zip(poses, cameras, strict=True):
                pose[:3, 3] = (0.1 * camera, 0.0, 3.0)
            meta["w2c"].append([pose.tolist() for pose in poses])
            for camera in cameras:
                path = folder / "ims" / f"{camera}" / f"{frame:06d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(test_image(camera, frame)).save(path, quality=98)
        (folder / f"{split}_meta.json").write_text(json.dumps(meta))
    return folder


def dnerf_scene(folder: Path) -> Path:
    """D-NeRF layout: a transparent image with a red square, seen from a ring of cameras."""
    for split, times in (("train", [0.0, 0.25, 0.5, 0.75, 1.0]), ("val", [0.5]), ("test", [0.25])):
        frames = []
        for number, time in enumerate(times):
            image = np.zeros((20, 20, 4), dtype=np.uint8)
            image[5:15, 5:15] = (255, 0, 0, 255)
            image[0, 0] = (0, 0, 255, 128)
            path = folder / split / f"r_{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            pose = _ring_pose(2 * np.pi * number / 5 + len(split))
            frames.append(
                {"file_path": f"./{split}/r_{number:03d}", "time": time, "transform_matrix": pose}
            )
        meta = {"camera_angle_x": 0.7, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(meta))
    return folder


def nerfstudio_scene(folder: Path, **lens: float | str) -> Path:
    """The layout of nerfstudio-data: five images without times, and what `lens` says of all."""
    frames = []
    for number in range(5):
        path = folder / "images" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test_image(number, 0)).save(path)
        pose = _ring_pose(2 * np.pi * number / 5)
        frames.append({"file_path": f"images/{path.name}", "transform_matrix": pose})
    size = {"w": 24, "h": 16, "fl_x": 20.0, "fl_y": 20.0, "cx": 12.0, "cy": 8.0}
    (folder / "transforms.json").write_text(json.dumps({**size, **lens, "frames": frames}))
    return folder


def dycheck_scene(folder: Path, num_frames: int = 4) -> Path:
    """Layout of DyCheck's iPhone scenes: one moving camera, of which all images train; the parser
    gives the first of them for evaluation."""
    names = [f"0_{frame:05d}" for frame in range(num_frames)]
    for part in ("camera", "rgb/1x", "processed_depth/1x", "splits"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    tables = {
        "extra": {"factor": 1, "fps": 30, "bbox": [[-1] * 3, [1] * 3], "lookat": [0] * 3,
                  "up": [0, 0, 1]},
        "scene": {"center": [0.0] * 3, "scale": 1.0, "near": 0.1, "far": 4.0},
        "dataset": {"ids": names},
        "metadata": {n: {"warp_id": k, "camera_id": 0} for k, n in enumerate(names)},
        "splits/train": {"frame_names": names, "time_ids": list(range(num_frames))},
    }  # fmt: skip
    for number, name in enumerate(names):
        pose = np.array(_ring_pose(0.3 * number))
        tables[f"camera/{name}"] = {
            "orientation": pose[:3, :3].T.tolist(), "position": pose[:3, 3].tolist(),
            "focal_length": 20.0, "pixel_aspect_ratio": 1.0, "principal_point": [12.0, 8.0],
            "image_size": [24, 16],
        }  # fmt: skip
        Image.fromarray(test_image(0, number)).save(folder / "rgb" / "1x" / f"{name}.png")
        np.save(folder / "processed_depth" / "1x" / f"{name}.npy", np.ones((16, 24), np.float32))
    for name, content in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def masked_scene(folder: Path, outside: int = 0, **options) -> Path:
    """`nerfstudio_scene` with masks: a column of pixels more counts in each image, from 9 on.
    Where nothing counts, images have the value `outside`."""
    scene = nerfstudio_scene(folder, **options)
    meta = json.loads((scene / "transforms.json").read_text())
    (scene / "masks").mkdir()
    for number, frame in enumerate(meta["frames"]):
        mask = np.zeros((16, 24), np.uint8)
        mask[:, : 9 + number] = 255
        frame["mask_path"] = f"masks/{number:04d}.png"
        Image.fromarray(mask).save(scene / frame["mask_path"])
        path = scene / frame["file_path"]
        image = np.array(Image.open(path))
        image[mask == 0] = outside
        Image.fromarray(image).save(path)
    (scene / "transforms.json").write_text(json.dumps(meta))
    return scene


def _ring_pose(angle: float) -> list[list[float]]:
    back = np.array([np.cos(angle), np.sin(angle), 0.6])
    back /= np.linalg.norm(back)
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(back, right), back], axis=1)
    pose[:3, 3] = 4.0 * back
    return pose.tolist()


def open_scene(scene: Path, *, test_mode="val", **options) -> MoegsDataManager:
    """The datamanager of a scene in N3V layout."""
    frames = options.pop("frames", None)
    config = MoegsDataManagerConfig(
        dataparser=N3VDataParserConfig(data=scene, frames=frames, num_random_points=50), **options
    )
    return config.setup(device="cpu", test_mode=test_mode)


def write_video(
    path: Path,
    images: Sequence[np.ndarray],
    *,
    places: Sequence[int] | None = None,
    fps: int = 30,
    pix_fmt: str = "yuv444p",
    codec: dict[str, str] | None = None,
) -> Path:
    """Lossless H.264; `places` are those of the images on the clock, by default 0, 1, 2, ..."""
    codec = {"qp": "0", "bf": "0", "preset": "ultrafast", "threads": "1", **(codec or {})}
    with av.open(str(path), mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=codec)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = pix_fmt, Fraction(1, fps)
        for place, image in zip(places or range(len(images)), images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def show_turned(path: Path, matrix: Sequence[float]) -> None:
    """Ask players to show an mp4 otherwise: a pixel of (x, y) at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (round(value * 65536) for value in matrix)
    # The track's header, whose 48th byte after its name begins the matrix.
    start = data.index(b"tkhd") + 4 + 40
    data[start : start + 20] = struct.pack(">5i", a, b, 0, c, d)
    path.write_bytes(data)
