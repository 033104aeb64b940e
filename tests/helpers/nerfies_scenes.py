"""Scenes in the layout of Nerfies, HyperNeRF and DyCheck, with known cameras and dots."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from layouts import KnownCamera, dots, known_camera

LENS = (-0.3, 0.1, 0.02, -0.03, 0.05)
"""k1, k2, p1, p2, k3."""
SIZE = (321, 241)
"""Odd, so that the images at 2x are not quite half of it."""
SMALL = (160, 120)


def nerfies_camera(number: int, lens: tuple[float, ...] = LENS) -> KnownCamera:
    """A camera at the size of 1x, with its principal point off-centre and pixels no squares."""
    camera = known_camera(number, width=SIZE[0], height=SIZE[1], shift=(7.0, -5.0), ratio=1.01)
    return replace(camera, distortion=lens)


def write_image(folder: Path, name: str, camera: KnownCamera, frame: int, **entries) -> None:
    """One image at 2x and its camera; the image is one of the small size, not a resized one."""
    x, y = SMALL[0] / SIZE[0], SMALL[1] / SIZE[1]
    small = replace(
        camera,
        fx=camera.fx * x,
        cx=camera.cx * x,
        fy=camera.fy * y,
        cy=camera.cy * y,
        width=SMALL[0],
        height=SMALL[1],
    )
    path = folder / "rgb" / "2x" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    small.image(frame).save(path)
    k1, k2, p1, p2, k3 = camera.distortion
    described = {
        "orientation": camera.R.tolist(),
        "position": camera.center.tolist(),
        "focal_length": camera.fx,
        "principal_point": [camera.cx, camera.cy],
        "skew": 0.0,
        "pixel_aspect_ratio": camera.fy / camera.fx,
        "radial_distortion": [k1, k2, k3],
        "tangential_distortion": [p1, p2],
        "image_size": [camera.width, camera.height],
    }
    described |= entries
    path = folder / "camera" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({k: v for k, v in described.items() if v is not None}))


def write_index(
    folder: Path, times: dict[str, int], train: list[str], val: list[str], **scene
) -> None:
    """dataset.json, metadata.json, scene.json and points.npy."""
    ids = list(times)
    dataset = {"count": len(ids), "num_exemplars": len(train), "ids": ids}
    dataset |= {"train_ids": train, "val_ids": val}
    metadata = {
        name: {"warp_id": time, "appearance_id": time, "camera_id": 0}
        for name, time in times.items()
    }
    described = {"scale": 0.1, "center": [0.0, 0.0, 0.0], "near": 0.1, "far": 0.9, **scene}
    for name, content in (("dataset", dataset), ("metadata", metadata), ("scene", described)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    np.save(folder / "points.npy", dots(0))


def vrig_scene(folder: Path, frames: int = 4, lens: tuple[float, ...] = LENS) -> Path:
    """Left and right alternate in time between training and validation, as in vrig scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    times, splits = {}, ([], [])
    for time in range(frames):
        for side, name in enumerate(("left1", "right1")):
            image = f"{name}_{time:06d}"
            camera = nerfies_camera(2 * time + side, lens)
            # Older files call the tangential coefficients otherwise.
            old = {"tangential_distortion": None, "tangential": list(lens[2:4])} if time else {}
            write_image(folder, image, camera, time, **old)
            times[image] = time
            splits[(time + side) % 2].append(image)
    write_index(folder, times, *splits)
    return folder


def interp_scene(folder: Path, count: int = 13) -> Path:
    """One camera and no validation images, as in interp and misc scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:06d}" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        write_image(folder, name, nerfies_camera(number), number)
    times = {name: number for number, name in enumerate(names)}
    write_index(folder, times, names, [])
    return folder
