"""Cameras of COLMAP models, read without COLMAP or pycolmap."""

from pathlib import Path

import numpy as np
from nerfstudio.data.utils import colmap_parsing_utils as colmap

from moegs_ns.data.damaged_files import IMAGES
from moegs_ns.data.dataparsers.fixed_rig import FixedCamera
from moegs_ns.data.lens_formats import colmap_lens

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
            IMAGES.check(model / "images.bin")
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
                colmap_lens(camera.model, camera.params),
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
