"""`multipleview-data`: a folder of images for each camera and a COLMAP model of the first ones, as
4DGaussians reads recordings of one's own.

Imports neither datamanagers nor models, see `multiview`.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.data.dataparsers.colmap_models import find_model, read_cameras
from moegs_ns.data.dataparsers.fixed_rig import FixedRigParser, FixedRigParserConfig, RigImages

_CAMERA, _IMAGE = re.compile("cam([0-9]+)"), re.compile(r"frame_([0-9]+)\.(jpg|jpeg|png)")


@dataclass
class MultipleViewDataParserConfig(FixedRigParserConfig):
    """4DGaussians' multipleview layout: `cam01/frame_00001.jpg`, a COLMAP model of image1.jpg,
    image2.jpg, ... in `sparse_/`, and perhaps initial points in points3D_multipleview.ply."""

    _target: type = field(default_factory=lambda: MultipleViewDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/multipleview")
    """Folder of the scene."""


class MultipleViewDataParser(FixedRigParser):
    """Fixed cameras; the world is that of the COLMAP model. 4DGaussians trains on all of them and
    evaluates on three frames of each; here the first is held out."""

    config: MultipleViewDataParserConfig
    point_files = ("points3D.npz", "points3D.ply", "points3D_multipleview.ply")

    def rig(self, data: Path) -> RigImages:
        folders = {
            int(match[1]): path
            for path in sorted(data.iterdir())
            if path.is_dir() and (match := _CAMERA.fullmatch(path.name))
        }
        if not folders:
            raise FileNotFoundError(
                f"Expected folders cam01, cam02, ... in {data}, but found none; set --data to the "
                "scene folder."
            )
        model = find_model([data / "sparse_", data / "sparse_" / "0"])
        known = read_cameras(model)
        cameras, images = [], {}
        for place, (number, folder) in enumerate(sorted(folders.items())):
            if f"image{number}" not in known:
                there = ", ".join(sorted(known)[:4])
                raise ValueError(
                    f"Expected image{number} of {folder.name} in the COLMAP model {model}, but it "
                    f"has {there}, ...; calibrate that camera too, or remove its folder."
                )
            cameras.append(replace(known[f"image{number}"], name=folder.name))
            for path in folder.iterdir():
                if match := _IMAGE.fullmatch(path.name):
                    images[place, int(match[1])] = path
        if not images:
            raise FileNotFoundError(
                f"Expected images frame_00001.jpg, ... in {folders[min(folders)]}, but found none; "
                "extract the frames of the videos."
            )
        return RigImages(cameras, images, max(frame for _, frame in images) + 1)


multipleview_dataparser = DataParserSpecification(
    config=MultipleViewDataParserConfig(),
    description="4DGaussians' multipleview layout: images per camera and a COLMAP model.",
)
