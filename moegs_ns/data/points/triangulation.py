"""Surface points at one time, triangulated by COLMAP between cameras that stay fixed.

Needs the package pycolmap, the extra `prepare`; importing this module does not.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from moegs_ns.cameras import View

_SEED = 0
_DATABASE, _IMAGES, _MODEL = "database.db", "images", "model"
_ERRORS_ONLY = 2
"""COLMAP's log level; it reports every image and every pair otherwise."""


@dataclass(frozen=True)
class TriangulationOptions:
    """What counts as a point."""

    max_error: float = 1.5
    """Largest distance, in pixels, between a point and the features it was made of."""
    min_angle: float = 2.0
    """Smallest angle, in degrees, under which its cameras must see a point; its depth is uncertain
    below."""
    min_views: int = 2
    """Smallest number of cameras that must see a point; 3 gives fewer, surer ones."""
    peak_threshold: float = 0.003
    """Smallest contrast of a SIFT feature; COLMAP's own 0.0067 finds less on smooth walls."""

    def check(self) -> None:
        """Raise a ValueError for numbers that no point can meet."""
        for name in ("max_error", "min_angle", "peak_threshold"):
            if not getattr(self, name) > 0.0:
                raise ValueError(
                    f"--triangulation.{name.replace('_', '-')} expects a number above 0, got "
                    f"{getattr(self, name)}; leave it out for the default."
                )
        if self.min_views < 2:
            raise ValueError(
                "--triangulation.min-views expects at least 2, since one camera does not tell a "
                f"depth, got {self.min_views}; leave it out for the default."
            )


@dataclass(frozen=True, eq=False)
class Triangulated:
    """Points in the world, with the mean colour of their features."""

    xyz: Float[np.ndarray, "N 3"]
    rgb: UInt8[np.ndarray, "N 3"]
    per_camera: Int[np.ndarray, "C"]
    """Number of these points that each camera has helped to find."""


def require_pycolmap(purpose: str = "Triangulating points") -> ModuleType:
    """The package pycolmap; `purpose` begins the error.

    Raises:
        ImportError: it is not installed, or too old.
    """
    repair = "run `pip install moegs_ns[prepare]`."
    try:
        pycolmap = import_module("pycolmap")
    except ImportError as error:
        raise ImportError(f"{purpose} needs the package pycolmap; {repair}") from error
    if not hasattr(pycolmap, "guided_geometric_verification"):
        raise ImportError(
            f"{purpose} needs pycolmap 4 or newer, but "
            f"{getattr(pycolmap, '__version__', 'an older one')} is installed; {repair}"
        )
    return pycolmap


def triangulate(
    images: Sequence[UInt8[np.ndarray, "H W 3"]], view: View, options: TriangulationOptions
) -> Triangulated:
    """Points that at least `options.min_views` of the cameras see; poses and intrinsics stay.

    SIFT features of every pair of images are matched and kept where they agree with the known
    poses, so that no pair needs the many matches from which a pose could be estimated. Images are
    those of the undistorted cameras in `view` at one time; the same images give the same points,
    perhaps none.

    Raises:
        ImportError: pycolmap is not installed.
    """
    pycolmap = require_pycolmap()
    with quiet(pycolmap), TemporaryDirectory(prefix="moegs-points-") as temporary:
        folder = Path(temporary)
        # Write the images, since COLMAP reads files only; PNG is lossless.
        (folder / _IMAGES).mkdir()
        names = [f"{number:04d}.png" for number in range(len(images))]
        for name, image in zip(names, images, strict=True):
            Image.fromarray(image).save(folder / _IMAGES / name, compress_level=1)
        # Give COLMAP the known cameras and poses.
        known = _known_cameras(pycolmap, view, names)
        with database_of(pycolmap, known, folder / _DATABASE):
            pass
        # Match features between all pairs of images, and triangulate the matches.
        pycolmap.set_random_seed(_SEED)
        _match(pycolmap, known, names, folder, options)
        model = _triangulate(pycolmap, known, folder, options)
    # Collect the points in the order of their ids.
    points = [point for _, point in sorted(model.points3D.items())]
    points = [point for point in points if point.track.length() >= options.min_views]
    xyz = np.array([point.xyz for point in points], dtype=np.float32).reshape(-1, 3)
    rgb = np.array([point.color for point in points], dtype=np.uint8).reshape(-1, 3)
    # A spot with two orientations is two features, hence two points at the same position.
    distinct = np.sort(np.unique(xyz, axis=0, return_index=True)[1])
    per_camera = np.zeros(len(images), dtype=np.int64)
    for index in distinct:
        seen_by = {element.image_id - 1 for element in points[index].track.elements}
        per_camera[list(seen_by)] += 1
    return Triangulated(xyz[distinct], rgb[distinct], per_camera)


@contextmanager
def quiet(pycolmap: ModuleType, level: int = _ERRORS_ONLY) -> Iterator[None]:
    """COLMAP says nothing below a level of its log."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = level
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


def _known_cameras(pycolmap: ModuleType, view: View, names: list[str]) -> Any:
    """A reconstruction of cameras and poses without points; each camera is its own rig."""
    known = pycolmap.Reconstruction()
    # Pixel centres are at half-integers here and in COLMAP, so intrinsics carry over unchanged.
    Ks, viewmats = view.Ks.double().cpu().numpy(), view.viewmats.double().cpu().numpy()
    for number, (name, K, viewmat) in enumerate(zip(names, Ks, viewmats, strict=True), start=1):
        camera = pycolmap.Camera(
            model="PINHOLE",
            width=view.width,
            height=view.height,
            params=[K[0, 0], K[1, 1], K[0, 2], K[1, 2]],
            camera_id=number,
        )
        camera.has_prior_focal_length = True
        known.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=name, camera_id=number, image_id=number)
        pose = pycolmap.Rigid3d(np.ascontiguousarray(viewmat[:3]))
        known.add_image_with_trivial_frame(image, pose)
    return known


@contextmanager
def database_of(pycolmap: ModuleType, cameras: Any, path: Path) -> Iterator[Any]:
    """A new database with the cameras, poses and images of a reconstruction under the same
    numbers; COLMAP would guess its own otherwise."""
    database = pycolmap.Database.open(str(path))
    try:
        for kind in ("camera", "rig", "frame", "image"):
            for each in getattr(cameras, f"{kind}s").values():
                getattr(database, f"write_{kind}")(each, **{f"use_{kind}_id": True})
        yield database
    finally:
        database.close()


def _match(
    pycolmap: ModuleType, known: Any, names: list[str], folder: Path, options: TriangulationOptions
) -> None:
    """Features of all images, matches of all pairs, and those that fit the known poses."""
    database = folder / _DATABASE
    # Extract SIFT features.
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.use_gpu = False
    extraction.sift.peak_threshold = options.peak_threshold
    pycolmap.extract_features(database, folder / _IMAGES, names, extraction_options=extraction)
    # Match every pair of images.
    matching = pycolmap.FeatureMatchingOptions()
    matching.use_gpu = False
    matching.skip_geometric_verification = True
    # Several matchers in parallel sometimes find other matches; each search is parallel anyway.
    matching.num_threads = 1
    pycolmap.match_exhaustive(database, matching_options=matching)
    # Keep the matches that agree with the known poses.
    verification = pycolmap.TwoViewGeometryOptions()
    verification.min_num_inliers = 1
    verification.ransac.random_seed = _SEED
    verification.ransac.max_error = 2.0 * options.max_error
    pycolmap.guided_geometric_verification(known, database, two_view_geometry_options=verification)


def _triangulate(
    pycolmap: ModuleType, known: Any, folder: Path, options: TriangulationOptions
) -> Any:
    """The known cameras with points; COLMAP's adjustment moves the points alone."""
    pipeline = pycolmap.IncrementalPipelineOptions()
    pipeline.random_seed = _SEED
    pipeline.min_num_matches = 1
    pipeline.mapper.filter_max_reproj_error = options.max_error
    pipeline.mapper.filter_min_tri_angle = options.min_angle
    triangulation = pipeline.triangulation
    triangulation.random_seed = _SEED
    triangulation.ignore_two_view_tracks = options.min_views > 2
    triangulation.min_angle = options.min_angle
    triangulation.merge_max_reproj_error = options.max_error
    triangulation.complete_max_reproj_error = options.max_error
    model = folder / _MODEL
    model.mkdir()
    return pycolmap.triangulate_points(
        known, folder / _DATABASE, folder / _IMAGES, model, options=pipeline
    )
