"""The training image nearest to what is seen at that instant, and the error against it."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from moegs_ns.cameras import View
from moegs_ns.data.datamanager import MoegsDataManager
from moegs_ns.engine.viewer.outputs import Output, Subject
from moegs_ns.evaluation.image_metrics import scalar_psnr
from moegs_ns.mixture.live import LiveChoices

TRAINING_IMAGE, ERROR = "Training image", "Error"
LARGEST_ERROR = 0.2
"""Mean absolute error of a pixel's channels that is shown by the brightest colour."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A training image beside the same camera's drawing, at the height of the picture or less."""

    camera: int
    frame: int
    target: Float[Tensor, "h w 3"]
    """NaN at pixels that do not count."""
    picture: Float[Tensor, "h w 3"]

    @property
    def error(self) -> Float[Tensor, "h w 1"]:
        """Mean absolute error of the channels."""
        return (self.picture - self.target).abs().mean(-1, keepdim=True)

    @cached_property
    def psnr(self) -> float:
        """In decibels, over the pixels that count."""
        counts = self.target.isfinite().all(-1)
        return float(scalar_psnr(self.picture[counts], self.target[counts]))

    def describe(self) -> str:
        """What is compared, and how near it is."""
        return f"Camera {self.camera}, frame {self.frame}: PSNR {self.psnr:.2f} dB"


class NearestImages:
    """Finds training images by what the viewer sees."""

    def __init__(self, datamanager: MoegsDataManager) -> None:
        self._data = datamanager
        poses = datamanager.train_dataset.cameras.camera_to_worlds.cpu()
        self._positions, self._axes = poses[:, :, 3], -poses[:, :, 2]
        self._table = datamanager.frame_table
        spread = self._positions - self._positions.mean(0)
        self._extent = float(spread.norm(dim=-1).max()) or 1.0

    def index(self, view: View) -> int:
        """The image of the nearest instant whose camera stands and looks most alike."""
        view = view.to("cpu")
        gaps = (self._table.times - view.time).abs()
        rows = torch.nonzero(gaps <= gaps.min() + 1e-6)[:, 0]
        distances = (self._positions[rows] - view.positions[0]).norm(dim=-1) / self._extent
        turns = 1.0 - self._axes[rows] @ view.viewmats[0, 2, :3]
        return int(rows[int((distances + turns).argmin())])

    def compare(self, subject: Subject, view: View, choices: LiveChoices) -> Comparison:
        """The nearest training image and what is drawn of its camera at that instant."""
        index = self.index(view)
        camera, target = self._data.training_image(index)
        camera = at_height(camera, view.height)
        target = resized(target, camera.height, camera.width)
        picture = subject.draw(camera, choices).picture.clamp(0.0, 1.0)
        ids = self._table.camera_ids[index], self._table.frame_ids[index]
        return Comparison(int(ids[0]), int(ids[1]), target, picture)


def outputs_of(comparison: Comparison, view: View) -> dict[str, Output]:
    """The image and the error in the frame of the picture, which they fit if the viewer looks
    through the same camera."""
    size = view.height, view.width
    return {
        TRAINING_IMAGE: Output(fitted(comparison.target, *size)),
        ERROR: Output(fitted(comparison.error, *size), top=LARGEST_ERROR),
    }


def at_height(view: View, height: int) -> View:
    """A camera whose image has at most a height."""
    if view.height <= height:
        return view
    scale = height / view.height
    width = max(1, round(view.width * scale))
    factors = torch.tensor([width / view.width, scale, 1.0], device=view.Ks.device)
    return replace(view, Ks=view.Ks * factors[:, None], width=width, height=height)


def resized(image: Float[Tensor, "H W D"], height: int, width: int) -> Float[Tensor, "h w D"]:
    """An image at another size; NaN stays where it reaches into a pixel."""
    if image.shape[:2] == (height, width):
        return image
    planes = image.permute(2, 0, 1)[None]
    smaller = interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return smaller[0].permute(1, 2, 0)


def fitted(image: Float[Tensor, "h w D"], height: int, width: int) -> Float[Tensor, "H W D"]:
    """An image at a height, in the middle of a width: cut off or with zeros at both sides."""
    image = resized(image, height, max(1, round(image.shape[1] * height / image.shape[0])))
    left = (width - image.shape[1]) // 2
    right = width - image.shape[1] - left
    return torch.nn.functional.pad(image, (0, 0, left, right))
