"""Sheets of images to look at: held-out views of runs beside the truth, gates and errors.

python -m benchmarks.quality.image_sheets --config RUN/config.yml --output sheet.jpg
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from moegs_ns.engine.trainer import MoegsPipeline, load_pipeline
from moegs_ns.reports.panels import ERROR_GAIN
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.training.losses import target_image

WIDTH = 320
"""Width in pixels of each image."""
ERROR = f"error x{ERROR_GAIN:g}"
"""Name of the image of an error."""


@dataclass
class ImageSheet:
    """Rows of named images; the file is written anew after every row, so that none is lost."""

    path: Path | None
    """None for no file."""
    rows: list[list[Image.Image]] = field(default_factory=list)

    def add(self, label: str, images: Mapping[str, Float[Tensor, "H W 3"]]) -> None:
        """Add a row; its label and the names of the images are written into them."""
        if self.path is None:
            return
        names = [f"{label}: {name}" if n == 0 else name for n, name in enumerate(images)]
        self.rows.append([_titled(*pair) for pair in zip(images.values(), names, strict=True)])
        heights = [max(image.height for image in row) for row in self.rows]
        sheet = Image.new("RGB", (WIDTH * max(map(len, self.rows)), sum(heights)))
        for n, row in enumerate(self.rows):
            for column, image in enumerate(row):
                sheet.paste(image, (WIDTH * column, sum(heights[:n])))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(self.path, quality=85)


def error(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> Float[Tensor, "H W 3"]:
    """Absolute error, bright enough to be seen."""
    return ERROR_GAIN * (image - truth).abs()


@torch.no_grad()
def run_images(
    pipeline: MoegsPipeline, index: int, *, with_experts: bool = True
) -> dict[str, Float[Tensor, "H W 3"]]:
    """Truth, image and error of held-out image `index`; of a mixture also gates and argmax gate,
    and its experts with their errors."""
    camera, batch = pipeline.datamanager.eval_item(index)
    outputs = pipeline.model.get_outputs_for_camera(camera)
    truth = target_image(batch, pipeline.device)
    found = {"truth": truth, "image": outputs["rgb"], ERROR: error(outputs["rgb"], truth)}
    for name in (key for key in outputs if key.startswith("rgb_") and with_experts):
        found |= {name: outputs[name], f"{name} {ERROR}": error(outputs[name], truth)}
    found |= {key: outputs[key].expand(-1, -1, 3) for key in outputs if key.startswith("gate_")}
    return found | ({"argmax_gate": outputs["argmax_gate"]} if "argmax_gate" in outputs else {})


def middle_index(pipeline: MoegsPipeline) -> int:
    """The held-out image that stands for all where only one is shown."""
    return len(pipeline.datamanager.eval_dataset) // 2


def save_sheet(config: Path, output: Path, rows: int = 8) -> None:
    """Save `rows` held-out images of a run, spread evenly over all of them."""
    pipeline, sheet = load_pipeline(open_run(config)), ImageSheet(output)
    count = len(pipeline.datamanager.eval_dataset)
    for index in torch.linspace(0, count - 1, min(rows, count)).long().tolist():
        sheet.add(str(index), run_images(pipeline, index))


def _titled(values: Float[Tensor, "H W 3"], title: str) -> Image.Image:
    image = Image.fromarray((values.detach().clamp(0, 1) * 255).round().byte().cpu().numpy())
    height = round(image.height * WIDTH / image.width)
    image = image.resize((WIDTH, height), Image.Resampling.BOX)
    ImageDraw.Draw(image).text((4, 2), title, fill="white", stroke_fill="black", stroke_width=1)
    return image


if __name__ == "__main__":
    tyro.cli(save_sheet, description=__doc__)
