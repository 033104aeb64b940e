"""Evaluation images that are training images as well, whichever parser read them."""

import os
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from moegs_ns.data.frames.dataset import only_images

KEEP_BACK = "train with --val-cameras to keep cameras back"
"""What to do for held-out figures; an image of a single moving camera counts as a camera."""


def drop_trained(
    evaluation: DataparserOutputs, training: DataparserOutputs
) -> tuple[DataparserOutputs, str]:
    """The evaluation images that are no training images, and a sentence if there are others.

    Images are the same if one file holds both, also by way of links, or if the data give both the
    same camera and time. Without times only files are compared, since a camera that stands still
    then has one pose for all of its frames.
    """
    is_trained = same_files(evaluation, training) | same_cameras(evaluation, training)
    count, total = int(is_trained.sum()), len(is_trained)
    kept = only_images(evaluation, torch.nonzero(~is_trained)[:, 0].tolist())
    if count == total:
        return kept, f"Warning: {nothing_held_out(total)}"
    note = (
        f"Warning: {count} of {total} evaluation images are training images as well; they are left "
        "out of all held-out figures."
    )
    return kept, note if count else ""


def nothing_held_out(total: int) -> str:
    """Why a data set has no held-out figures, and what to do."""
    if total == 0:
        return f"the data have no evaluation images, so nothing is held out; {KEEP_BACK}."
    return (
        f"all evaluation images of the data ({total}) are training images as well, so nothing is "
        f"held out; {KEEP_BACK}."
    )


def same_files(evaluation: DataparserOutputs, training: DataparserOutputs) -> Bool[Tensor, "M"]:
    """Whether each evaluation image is read from the file, and frame, of a training image."""
    known: dict[Path, object] = {}

    def identities(outputs: DataparserOutputs) -> list[tuple[object, int | None]]:
        found = []
        for source in outputs.metadata["frame_sources"]:
            if source.path not in known:
                known[source.path] = _file(source.path)
            found.append((known[source.path], source.frame))
        return found

    trained = set(identities(training))
    return torch.tensor([one in trained for one in identities(evaluation)], dtype=torch.bool)


def same_cameras(evaluation: DataparserOutputs, training: DataparserOutputs) -> Bool[Tensor, "M"]:
    """Whether each evaluation image has the pose, lens and time of a training image."""
    if evaluation.cameras.times is None or training.cameras.times is None:
        return torch.zeros(len(evaluation.image_filenames), dtype=torch.bool)
    trained = {tuple(row) for row in _numbers(training).tolist()}
    found = [tuple(row) in trained for row in _numbers(evaluation).tolist()]
    return torch.tensor(found, dtype=torch.bool)


def _numbers(outputs: DataparserOutputs) -> Float[Tensor, "M 17"]:
    cameras, count = outputs.cameras, len(outputs.image_filenames)
    assert cameras.times is not None
    lens = (cameras.fx, cameras.fy, cameras.cx, cameras.cy, cameras.times)
    poses = cameras.camera_to_worlds.reshape(count, 12)
    return torch.cat([poses, *(value.reshape(count, 1).to(poses) for value in lens)], dim=1)


def _file(path: Path) -> object:
    """What all names of one file share; the resolved name of a file that is not there."""
    try:
        status = path.stat()
    except OSError:
        return os.path.realpath(path)
    # Some file systems number no files.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)
