"""`frame-folders-data`: one folder for each frame, with an image of each camera, as STG, 3DGStream
and StreamRF make of N3V and Meet Room.

Imports neither datamanagers nor models, see `multiview`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from moegs_ns.data.dataparsers.colmap_models import find_model, read_cameras
from moegs_ns.data.dataparsers.fixed_rig import (
    FixedCamera,
    FixedRigParser,
    FixedRigParserConfig,
    RigImages,
)
from moegs_ns.data.dataparsers.llff import read_llff_cameras
from moegs_ns.data.dataparsers.n3v import POSES_BOUNDS
from moegs_ns.data.dataparsers.recordings import check_order, padded_name
from moegs_ns.data.frames.images import IMAGE_SUFFIXES


@dataclass
class FrameFoldersDataParserConfig(FixedRigParserConfig):
    """One folder for each frame: `colmap_0/images/cam00.png` with `colmap_0/sparse/0` (STG),
    `frame000000/images/cam00.png` with `frame000000/sparse`, then `frame000001/cam00.png`
    (3DGStream), or `0000/images/cam00.png` with `0000/poses_bounds.npy` (StreamRF)."""

    _target: type = field(default_factory=lambda: FrameFoldersDataParser)
    """Target class to instantiate."""
    data: Path = Path("data/frame_folders")
    """Folder of the scene."""


@dataclass(frozen=True)
class FolderLayout:
    """How the folders of the frames are called, and where the first one has the cameras."""

    pattern: re.Pattern[str]
    read_cameras: Callable[[Path, list[str]], dict[str, FixedCamera]]
    """Given the folder of the first frame and the names of the cameras, in order."""


def _from_colmap(folder: Path, names: list[str]) -> dict[str, FixedCamera]:
    return read_cameras(find_model([folder / "sparse" / "0", folder / "sparse"]))


def _from_llff(folder: Path, names: list[str]) -> dict[str, FixedCamera]:
    """One row for each camera in alphabetical order, as in N3V."""
    check_order([Path(name) for name in names])
    return dict(zip(names, read_llff_cameras(folder / POSES_BOUNDS, names), strict=True))


LAYOUTS = (
    FolderLayout(re.compile("colmap_([0-9]+)"), _from_colmap),
    FolderLayout(re.compile("frame([0-9]+)"), _from_colmap),
    FolderLayout(re.compile("([0-9]+)"), _from_llff),
)


class FrameFoldersDataParser(FixedRigParser):
    """Fixed cameras; poses are those of the first frame, and the world is theirs."""

    config: FrameFoldersDataParserConfig
    point_files = (
        "points3D.npz",
        "points3D.ply",
        "colmap_0/sparse/0/points3D.bin",
        "frame000000/sparse/0/points3D.bin",
        "frame000000/sparse/points3D.bin",
    )

    def rig(self, data: Path) -> RigImages:
        layout, folders = _find_folders(data)
        images: dict[tuple[str, int], Path] = {}
        for frame, folder in folders.items():
            images |= {(path.stem, frame): path for path in _images_in(folder)}
        names = sorted({name for name, _ in images}, key=padded_name)
        first = folders[min(folders)]
        if not names:
            raise FileNotFoundError(
                f"Expected images of the cameras in {first} or {first / 'images'}, but found none; "
                "complete the scene folder."
            )
        known = layout.read_cameras(first, names)
        missing = [name for name in names if name not in known]
        if missing:
            raise ValueError(
                f"Expected a pose of every camera in {first}, but {len(missing)} of {len(names)} "
                f"have none, such as {missing[0]}; calibrate again, or remove the images of these "
                "cameras."
            )
        places = {name: place for place, name in enumerate(names)}
        return RigImages(
            [replace(known[name], name=name) for name in names],
            {(places[name], frame): path for (name, frame), path in images.items()},
            max(folders) + 1,
        )


def _find_folders(data: Path) -> tuple[FolderLayout, dict[int, Path]]:
    """The layout and the folder of each frame."""
    for layout in LAYOUTS:
        matches = [(layout.pattern.fullmatch(path.name), path) for path in sorted(data.iterdir())]
        found = {int(match[1]): path for match, path in matches if match and path.is_dir()}
        if found:
            return layout, found
    raise FileNotFoundError(
        f"Expected folders colmap_0, colmap_1, ..., frame000000, ... or 0000, ... in {data}, but "
        "found none; set --data to the scene folder."
    )


def _images_in(folder: Path) -> list[Path]:
    inside = folder / "images" if (folder / "images").is_dir() else folder
    return [
        path
        for path in sorted(inside.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "." and path.is_file()
    ]


frame_folders_dataparser = DataParserSpecification(
    config=FrameFoldersDataParserConfig(),
    description="One folder for each frame, as of STG, 3DGStream and StreamRF.",
)
