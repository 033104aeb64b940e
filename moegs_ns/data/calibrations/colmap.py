"""COLMAP models with one image of each camera, or several images from one place.

Needs the package pycolmap, the extra `prepare`; importing this module does not.
"""

from pathlib import Path
from typing import Any

from moegs_ns.data.calibrations.reading import reading
from moegs_ns.data.lens_formats import colmap_lens
from moegs_ns.data.points.colmap_poses import images_by_camera, read_colmap_model
from moegs_ns.data.rig_files import Rig, RigCamera


def read_colmap(folder: Path) -> Rig:
    """The cameras of a model, called like their images (cam00 of cam00.png or cam00/0000.png);
    world and unit are the model's own.

    Raises:
        FileNotFoundError: there is no model in the folder.
        ImportError: pycolmap is not installed.
        ValueError: the model is broken, a camera has two images, or a lens is of an unknown kind.
    """
    # Images are parts of the model, which must live as long.
    model = read_colmap_model(folder, "--from")
    images = images_by_camera(model, folder)
    with reading(folder, "a COLMAP model"):
        return Rig(tuple(_camera(name, image) for name, image in images.items()))


def _camera(name: str, image: Any) -> RigCamera:
    pose = image.cam_from_world().matrix()
    camera = image.camera
    lens = colmap_lens(camera.model.name, camera.params)
    return RigCamera(name, "", camera.width, camera.height, lens, pose)
