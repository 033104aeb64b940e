"""Sheets of pictures of a mixture: truth, mixture, experts, gates and errors side by side."""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from moegs_ns.cli.report import load_pipeline
from moegs_ns.models.checkpoints import open_run
from moegs_ns.models.evaluation import target_image

ERROR_GAIN = 4.0
"""Errors are shown this much brighter."""


@torch.no_grad()
def save_sheet(config: Path, output: Path, rows: int = 8, width: int = 320) -> None:
    """One row per held-out image: truth, mixture, its error, each expert and its gate, winner."""
    pipeline = load_pipeline(open_run(config))
    loader = pipeline.datamanager.fixed_indices_eval_dataloader
    wanted = set(torch.linspace(0, len(loader) - 1, min(rows, len(loader))).long().tolist())
    lines = []
    for place, (camera, batch) in enumerate(loader):
        if place not in wanted:
            continue
        outputs = pipeline.model.get_outputs_for_camera(camera)
        target = target_image(batch, pipeline.device)
        panels = [target, outputs["rgb"], ERROR_GAIN * (outputs["rgb"] - target).abs()]
        for name in (key for key in outputs if key.startswith("rgb_")):
            panels += [outputs[name], ERROR_GAIN * (outputs[name] - target).abs()]
        panels += [outputs[key].expand(-1, -1, 3) for key in outputs if key.startswith("gate_")]
        panels += [outputs["winner"]] if "winner" in outputs else []
        lines.append(torch.cat([_shrink(panel, width) for panel in panels], dim=1))
    sheet = (torch.cat(lines).clamp(0, 1) * 255).byte().cpu().numpy()
    output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(output, quality=85)


def _shrink(image: Float[Tensor, "H W 3"], width: int) -> Float[Tensor, "h w 3"]:
    height = round(image.shape[0] * width / image.shape[1])
    planar = image.permute(2, 0, 1)[None].float()
    return torch.nn.functional.interpolate(planar, (height, width), mode="area")[0].permute(1, 2, 0)


@dataclass
class Sheet:
    """Save a sheet of pictures of a run's held-out views."""

    config: Path
    output: Path
    rows: int = 8

    def main(self) -> None:
        """Save it."""
        save_sheet(self.config, self.output, self.rows)


if __name__ == "__main__":
    tyro.cli(Sheet).main()
