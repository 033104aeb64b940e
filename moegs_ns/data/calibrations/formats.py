"""Tells the formats of calibrations apart, and reads them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moegs_ns.data.calibrations.anipose import read_anipose
from moegs_ns.data.calibrations.cmu_panoptic import read_cmu_panoptic
from moegs_ns.data.calibrations.colmap import read_colmap
from moegs_ns.data.calibrations.easymocap import INTRINSICS, read_easymocap
from moegs_ns.data.calibrations.immersive import read_immersive
from moegs_ns.data.calibrations.llff import read_llff
from moegs_ns.data.calibrations.neuralbody import ANNOTATIONS, read_neuralbody
from moegs_ns.data.calibrations.qualisys import read_qualisys
from moegs_ns.data.calibrations.reading import read_json, reading
from moegs_ns.data.calibrations.transforms_json import read_transforms
from moegs_ns.data.rig_files import Rig


@dataclass(frozen=True)
class CalibrationFormat:
    """A kind of calibration file."""

    name: str
    read: Callable[[Path], Rig]
    recognises: Callable[[Path], bool]
    """Given an existing file or folder that is no JSON."""
    recognises_json: Callable[[Any], bool] = lambda content: False
    """Given the content of a JSON file."""


def _has_suffix(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.name.lower().endswith(suffixes)


def _is_easymocap(path: Path) -> bool:
    return (path / INTRINSICS).is_file() or _has_suffix(".yml", ".yaml")(path)


def _is_colmap(path: Path) -> bool:
    return any((path / f"cameras{suffix}").is_file() for suffix in (".bin", ".txt"))


def _never(path: Path) -> bool:
    return False


def _is_immersive(content: Any) -> bool:
    return isinstance(content, list) and all(map(_has_key("projection_type"), content))


def _has_key(key: str) -> Callable[[Any], bool]:
    return lambda content: isinstance(content, dict) and key in content


FORMATS = (
    CalibrationFormat("Qualisys (.qca.txt)", read_qualisys, _has_suffix(".qca.txt", ".qca")),
    CalibrationFormat("anipose (.toml)", read_anipose, _has_suffix(".toml")),
    CalibrationFormat("EasyMocap (intri.yml, extri.yml)", read_easymocap, _is_easymocap),
    CalibrationFormat("COLMAP (folder of a model)", read_colmap, _is_colmap),
    # Before LLFF, whose files may have any name.
    CalibrationFormat("NeuralBody (annots.npy)", read_neuralbody, _has_suffix(ANNOTATIONS)),
    CalibrationFormat("LLFF (poses_bounds.npy)", read_llff, _has_suffix(".npy")),
    CalibrationFormat("CMU Panoptic (.json)", read_cmu_panoptic, _never, _has_key("cameras")),
    CalibrationFormat("nerfstudio (transforms.json)", read_transforms, _never, _has_key("frames")),
    CalibrationFormat("Immersive (models.json)", read_immersive, _never, _is_immersive),
)


def read_calibration_file(path: Path) -> tuple[Rig, str]:
    """The cameras of a calibration in any of `FORMATS`, and the format's name.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: no format fits, or the file is broken.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"Expected a calibration at {path}, but there is nothing; set --from to a file or "
            "folder."
        )
    if path.suffix.lower() == ".json":
        with reading(path, "a calibration in JSON"):
            content = read_json(path)
        found = [each for each in FORMATS if each.recognises_json(content)]
    else:
        found = [each for each in FORMATS if each.recognises(path)]
    if not found:
        raise ValueError(
            f"Expected a calibration in one of the forms {', '.join(f.name for f in FORMATS)}, got "
            f"{path}; export it in one of them."
        )
    return found[0].read(path), found[0].name
