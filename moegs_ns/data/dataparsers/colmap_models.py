"""Cameras of COLMAP models, read without COLMAP or pycolmap."""

from pathlib import Path

import numpy as np
from nerfstudio.data.utils import colmap_parsing_utils as colmap

from moegs_ns.data.dataparsers.fixed_rig import FixedCamera
from moegs_ns.data.frames.undistortion import Lens

_KINDS = ("bin", "txt")


def find_model(folders: list[Path]) -> Path:
    """The first of some folders that holds a model.

    Raises:
        FileNotFoundError: none does.
    """
    for folder in folders:
        if any((folder / f"images.{kind}").is_file() for kind in _KINDS):
            return folder
    raise FileNotFoundError(
        f"Expected a COLMAP model (cameras and images as .bin or .txt) in {folders[0]}, but there "
        "is none; complete the scene folder."
    )


def read_cameras(model: Path) -> dict[str, FixedCamera]:
    """The cameras of a model, by the names of their images without ending.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is broken, a lens is of an unknown kind, or two images have one name.
    """
    kind = next(kind for kind in _KINDS if (model / f"images.{kind}").is_file())
    if not (model / f"cameras.{kind}").is_file():
        raise FileNotFoundError(
            f"Expected cameras.{kind} beside images.{kind} in {model}, but there is no such file; "
            "copy the whole model."
        )
    try:
        if kind == "bin":
            lenses = colmap.read_cameras_binary(model / "cameras.bin")
            images = colmap.read_images_binary(model / "images.bin")
        else:
            lenses = colmap.read_cameras_text(model / "cameras.txt")
            images = colmap.read_images_text(model / "images.txt")
        found: dict[str, FixedCamera] = {}
        for _, image in sorted(images.items()):
            name = Path(image.name).stem
            if name in found:
                raise ValueError(f"two images are called {name}")
            camera, viewmat = lenses[image.camera_id], np.eye(4)
            viewmat[:3, :3], viewmat[:3, 3] = colmap.qvec2rotmat(image.qvec), image.tvec
            found[name] = FixedCamera(
                name,
                _lens(camera.model, [float(value) for value in camera.params]),
                viewmat,
                int(camera.width),
                int(camera.height),
            )
    except Exception as error:
        # A broken file ends in whatever its bytes say.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"Expected a COLMAP model in {model}, but it cannot be read ({reason}); run COLMAP "
            "again."
        ) from error
    if not found:
        raise ValueError(
            f"Expected images in the COLMAP model {model}, got none; run COLMAP again."
        )
    return found


def _lens(model: str, params: list[float]) -> Lens:
    """COLMAP's pixels are counted as ours; SIMPLE models have one focal length."""
    focals = 1 if model.startswith("SIMPLE") or model.startswith("RADIAL") else 2
    fx, fy, cx, cy = params[0], params[focals - 1], *params[focals : focals + 2]
    k = params[focals + 2 :]
    radial = (*k, 0.0, 0.0)[:2]
    distortions = {
        "SIMPLE_PINHOLE": (),
        "PINHOLE": (),
        "SIMPLE_RADIAL": (*radial, 0.0, 0.0),
        "RADIAL": (*radial, 0.0, 0.0),
        "OPENCV": tuple(k),
        "FULL_OPENCV": tuple(k),
        "OPENCV_FISHEYE": tuple(k),
    }
    if model not in distortions:
        raise ValueError(f"a lens of the model {model}, not one of {', '.join(distortions)}")
    distortion = distortions[model]
    if model == "OPENCV_FISHEYE":
        return Lens(fx=fx, fy=fy, cx=cx, cy=cy, model="fisheye", distortion=distortion)
    return Lens(fx=fx, fy=fy, cx=cx, cy=cy, distortion=distortion)
