"""Carry a compact run to another machine and compare its images with those of the whole run.

    python -m benchmarks.speed.compact_run write RUN/config.yml --folder outputs/carried
    python -m benchmarks.speed.compact_run compare outputs/carried --data DATA/panoptic_basketball

The first command, where the run was trained, writes the compact run and images of the whole one.
The second, anywhere, opens the compact run and renders the same held-out views.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torchvision.io import read_image, write_png

from benchmarks.tables import Table
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.evaluation.tables import Row, hardware
from moegs_ns.reports.compact_export import near_fraction, render_views, write_compact
from moegs_ns.reports.held_out import evenly_spaced
from moegs_ns.runs.checkpoint import open_run

RECORD = "pictures.json"
"""File in the carried folder: which views were rendered where, and their PSNR."""
COMPACT = "compact"
"""Folder of the compact run in the carried one."""


@dataclass(frozen=True)
class Write:
    """Write the compact run and images of the whole one."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run."""
    folder: Path
    """New folder for both."""
    views: int = 12
    """Held-out views, spread evenly over all of them."""

    def main(self) -> None:
        """Export, render, write."""
        run = open_run(self.run)
        size, _ = write_compact(run, self.folder / COMPACT, measure=False)
        pipeline = load_pipeline(run)
        rows = evenly_spaced(len(pipeline.datamanager.eval_dataset), self.views)
        with torch.no_grad():
            images, psnr = render_views(pipeline, rows)
        for row, image in zip(rows, images, strict=True):
            write_png(image.movedim(-1, 0), str(self.folder / f"{row}.png"))
        record = {
            "method": run.config.method_name, "rows": rows, "psnr": psnr, "hardware": hardware(),
            "gaussians": size.gaussians, "mb": size.mb_after,
        }  # fmt: skip
        (self.folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")


@dataclass(frozen=True, kw_only=True)
class Compare(Table):
    """Render the compact runs here and write how far they are from the images of whole ones."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that `write` made."""
    data: Path
    """Folder of the scene on this machine."""
    name: str = "compact_run"

    def rows(self) -> Iterator[Row]:
        yield from map(self.row, self.folders)

    def row(self, folder: Path) -> Row:
        """Figures of one carried run."""
        record = json.loads((folder / RECORD).read_text())
        run = open_run(folder / COMPACT)
        run.config.pipeline.datamanager.data = self.data
        with torch.no_grad():
            images, psnr = render_views(load_pipeline(run), record["rows"])
        before = [read_image(str(folder / f"{row}.png")).movedim(0, -1) for row in record["rows"]]
        return {
            "method": record["method"], "gaussians": record["gaussians"], "mb": record["mb"],
            "rendered whole on": record["hardware"], "psnr_before": record["psnr"],
            "psnr_after": psnr, "psnr_cost": record["psnr"] - psnr,
            "near_share": near_fraction(before, images), "images": len(images),
        }  # fmt: skip


Command = (
    Annotated[Write, tyro.conf.subcommand("write")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
)

if __name__ == "__main__":
    tyro.cli(Command, description=__doc__).main()
