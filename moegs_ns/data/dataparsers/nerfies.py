"""The files of Nerfies, which HyperNeRF and DyCheck use as well: one camera for each image."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moegs_ns.cameras import opengl_from_viewmats
from moegs_ns.data.dataparsers.fixed_rig import FixedCamera
from moegs_ns.data.dataparsers.listing import Listing
from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.frames.images import read_image_size
from moegs_ns.data.frames.mask_files import mask_files
from moegs_ns.data.frames.undistortion import Lens, Undistortion
from moegs_ns.data.lens_formats import centered_lens


@dataclass(frozen=True)
class NerfiesScene:
    """What dataset.json, metadata.json and scene.json say."""

    data: Path
    ids: list[str]
    """Names of all images, without ending."""
    train_ids: list[str]
    val_ids: list[str]
    """Empty where the data set leaves the split to the reader."""
    times: dict[str, int]
    """Frame of each image, the `warp_id`."""
    bounds: tuple[float, float] | None
    """Nearest and farthest depth in the units of the cameras; None where unknown."""


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected {path}, but there is no such file; set --data to a scene folder that holds "
            "dataset.json, metadata.json, camera/ and rgb/."
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"Expected JSON in {path}, but it cannot be read ({error}); download the file again."
        ) from error


def read_scene(data: Path) -> NerfiesScene:
    """The names and frames of all images of a scene; no image is opened.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file lacks an entry.
    """
    dataset, metadata = read_json(data / "dataset.json"), read_json(data / "metadata.json")
    try:
        ids = [str(name) for name in dataset["ids"]]
        train = [str(name) for name in dataset.get("train_ids", [])]
        val = [str(name) for name in dataset.get("val_ids", [])]
        times = {name: int(metadata[name]["warp_id"]) for name in {*ids, *train, *val}}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"Expected a list ids in {data / 'dataset.json'} and a warp_id of each of them in "
            f"metadata.json, but they cannot be read ({type(error).__name__}: {error}); download "
            "the files again."
        ) from error
    both = sorted(set(train) & set(val))
    if both:
        raise ValueError(
            f"Expected other images in val_ids than in train_ids of {data / 'dataset.json'}, but "
            f"{both[0]} is in both; download the file again."
        )
    bounds = None
    if (data / "scene.json").is_file():
        scene = read_json(data / "scene.json")
        try:
            # Depths are those of the world after it was multiplied by the scale.
            near, far = (float(scene[key]) / float(scene["scale"]) for key in ("near", "far"))
            bounds = (near, far) if 0.0 <= near < far < float("inf") else None
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            bounds = None
    return NerfiesScene(data, ids, train, val, times, bounds)


def read_camera(path: Path) -> FixedCamera:
    """The camera of one image, at the size that the image has in the folder 1x.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an entry is missing or impossible.
    """
    entries = read_json(path)
    try:
        focal = float(entries["focal_length"])
        cx, cy = (float(value) for value in entries["principal_point"])
        # Older files say `tangential`.
        tangential = entries.get("tangential_distortion", entries.get("tangential", (0.0, 0.0)))
        k1, k2, k3 = (float(value) for value in entries.get("radial_distortion", (0.0, 0.0, 0.0)))
        p1, p2 = (float(value) for value in tangential)
        lens = Lens(
            fx=focal,
            fy=focal * float(entries.get("pixel_aspect_ratio", 1.0)),
            cx=cx,
            cy=cy,
            skew=float(entries.get("skew", 0.0)),
            distortion=(k1, k2, p1, p2, k3),
        )
        viewmat = np.eye(4)
        viewmat[:3, :3] = np.array(entries["orientation"], dtype=np.float64)
        viewmat[:3, 3] = -viewmat[:3, :3] @ np.array(entries["position"], dtype=np.float64)
        width, height = (int(value) for value in entries["image_size"])
        if min(width, height) < 1 or not np.isfinite(viewmat).all():
            raise ValueError(f"size {width}x{height} or a pose that is not finite")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"Expected a camera (orientation, position, focal_length, principal_point, image_size) "
            f"in {path}, but it cannot be read ({type(error).__name__}: {error}); download the "
            "file again."
        ) from error
    return FixedCamera(str(path), lens, viewmat, width, height)


def list_images(
    scene: NerfiesScene,
    ids: Sequence[str],
    numbers: Sequence[int],
    frames: Sequence[int],
    factor: int,
    *,
    full_lens: bool = True,
    is_opaque: bool = False,
) -> Listing:
    """Some images of the folder `rgb/<factor>x` with their cameras.

    Args:
        scene: the scene that they belong to.
        ids: names of M images.
        numbers: of each the number of its camera.
        frames: of each its frame.
        factor: how many times smaller images are than in the folder 1x.
        full_lens: whether distortion is removed and principal points are used; otherwise the lens
            is its focal length.
        is_opaque: whether the transparency of images is ignored.

    Raises:
        FileNotFoundError: a camera, or the folder of images, is missing.
        ValueError: a camera cannot have taken its image.
    """
    folder = scene.data / "rgb" / f"{factor}x"
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in folder.parent.glob("*x"))) or "none"
        raise FileNotFoundError(
            f"Expected images in {folder}, but there is no such folder (there is {there}); choose "
            "another --downscale-factor after the parser's name, or download that size."
        )
    width, height, _ = read_image_size(folder / f"{ids[0]}.png")
    sources, pinholes, viewmats, undistortions = [], [], [], []
    for name in ids:
        camera = read_camera(scene.data / "camera" / f"{name}.json")
        lens = camera.lens_at(width, height)
        if not full_lens:
            lens = centered_lens(lens.fx, width, height)
        undistortion = Undistortion(lens, (width, height), (width, height))
        image = folder / f"{name}.png"
        needed = undistortion.if_needed
        sources.append(FrameSource(image, is_opaque=is_opaque, undistortion=needed))
        pinholes.append(undistortion.pinhole.K)
        viewmats.append(camera.viewmat)
        undistortions.append(undistortion)
    return Listing(
        sources=sources,
        cameras=np.array(numbers),
        frames=np.array(frames),
        camera_to_worlds=opengl_from_viewmats(np.stack(viewmats)),
        Ks=np.stack(pinholes),
        width=width,
        height=height,
        masks=mask_files(undistortions, (width, height), scene.data),
    )
