"""`moegs export`: copies of runs for other places; so far compact runs."""

import io
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from jaxtyping import UInt8
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from moegs_ns.engine.pipeline import MoegsPipeline, load_pipeline
from moegs_ns.evaluation.image_metrics import target_image
from moegs_ns.evaluation.metrics import psnr
from moegs_ns.reports.scores import BYTES_PER_MB
from moegs_ns.runs.checkpoint import (
    CONFIG_NAME,
    TRAINING_RECORD,
    Run,
    load_checkpoint,
    model_dir,
    model_state,
    open_run,
)
from moegs_ns.runs.compact import ROWS, encode_state, is_compact

COMPACT_RECORD = "compact.json"
"""File in a compact run's folder that says what it saves and what that costs."""
MEASURED_VIEWS = 30
"""Held-out views to compare at most, spread evenly over all of them."""
NEAR = 2
"""Pixels whose channels all differ by at most this much of 255 count as equal."""
REFERENCE_COUNT = 150_000
"""Gaussians that sizes of runs are compared at."""


@dataclass(frozen=True)
class Size:
    """What a compact run saves, in MB of 10^6 bytes of the checkpoint files."""

    gaussians: int
    mb_before: float
    mb_after: float
    mb_per_150k: float
    """For each 150,000 Gaussians, if every expert had as many; planes and networks, which are no
    part of Gaussians, would not grow with them."""


@dataclass(frozen=True)
class Cost:
    """What a compact run costs: means over held-out views, None where they were not rendered."""

    psnr_before: float | None = None
    psnr_after: float | None = None
    psnr_cost: float | None = None
    near_share: float | None = None
    """Share of pixels that differ by at most 2 of 255 in every channel."""
    views: int = 0
    reason: str = ""
    """Why figures are missing."""


@dataclass
class Export:
    """Copy a run in a form for other places. `--compact` makes a small run that is opened like any
    other, but whose training cannot go on."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run."""
    output_dir: Path
    """Folder to make for the copy."""
    compact: bool = False
    """Leave out the state of the optimisers, store 16 bits for geometry and 8 for colours."""
    measure: bool = True
    """Render held-out views before and after, where the data set is at hand."""

    def main(self) -> None:
        """Write the copy, print and write what it saves and costs.

        Raises:
            FileNotFoundError: there is no such run.
            OSError: the copy cannot be written; nothing is left of it.
            ValueError: there is no such export, the output exists, or the run is compact already.
        """
        if not self.compact:
            raise ValueError(
                "moegs export expects the kind of copy to make and knows one, compact runs; add "
                "--compact."
            )
        if self.output_dir.exists() and not _is_empty_folder(self.output_dir):
            raise ValueError(
                f"Expected a new or empty folder for the copy, but {self.output_dir} holds "
                "something; name another --output-dir."
            )
        run = open_run(self.run)
        size, cost = write_compact(run, self.output_dir, measure=self.measure)
        CONSOLE.print(
            f"{self.output_dir / CONFIG_NAME}: {size.gaussians:,} Gaussians, {size.mb_before:.2f} "
            f"MB before, {size.mb_after:.2f} MB after, {size.mb_per_150k:.2f} MB per 150,000."
        )
        CONSOLE.print(_sentence(cost))


def write_compact(run: Run, output_dir: Path, measure: bool) -> tuple[Size, Cost]:
    """Write the compact copy of a run, in a temporary folder first.

    Raises:
        OSError: it cannot be written; nothing is left of it.
        ValueError: the run is compact already, or holds numbers that are not finite.
    """
    checkpoint = load_checkpoint(run.checkpoint_path)
    if is_compact(checkpoint["pipeline"]):
        raise ValueError(
            f"The run {run.config_path} is compact already; copy its folder, or export the run "
            "that it was exported from."
        )
    state = encode_state(model_state(checkpoint["pipeline"]))
    compact = {"step": checkpoint["step"], "pipeline": state}
    size = measured_size(run.checkpoint_path.stat().st_size, compact)
    cost = measured_cost(run, state) if measure else Cost(reason="not asked for (--no-measure)")
    parent = output_dir.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".writing-") as temporary:
            folder = Path(temporary) / "run"
            _write_folder(run, compact, asdict(size) | asdict(cost), folder)
            if output_dir.exists():
                output_dir.rmdir()
            os.replace(folder, output_dir)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"The compact run could not be written to {output_dir} ({str(error).splitlines()[0]}); "
            "nothing is left of it: free some space or name another --output-dir."
        ) from error
    return size, cost


def measured_size(bytes_before: int, compact: dict[str, Any]) -> Size:
    """Sizes of a run's checkpoint and of the compact one."""
    state = compact["pipeline"]
    per_expert = Counter[str]()
    for name, value in state.items():
        if name.endswith(f"{ROWS}means"):
            # An expert may have several sets of rows: kinds of Gaussians, or windows of the clip.
            per_expert[expert_of(name)] += entry_rows(value)
    counts = list(per_expert.values())
    rows = {name: value for name, value in state.items() if _has_rows(name, value, counts)}
    after, of_rows, gaussians = len(torch_file(compact)), len(torch_file(rows)), sum(counts)
    growth = REFERENCE_COUNT * len(counts) / gaussians if gaussians else 1.0
    return Size(
        gaussians=gaussians,
        mb_before=bytes_before / BYTES_PER_MB,
        mb_after=after / BYTES_PER_MB,
        mb_per_150k=(after - of_rows + of_rows * growth) / len(counts) / BYTES_PER_MB,
    )


def expert_of(name: str) -> str:
    """What the names of the states of one expert begin with."""
    found = re.match(r"(mixture\.expert_modules\.\d+|expert)\.", name)
    return name if found is None else found.group()


def entry_rows(entry: Any) -> int:
    """Rows of an entry of a compact state; 0 for one that has none."""
    shape = entry["shape"] if isinstance(entry, dict) and "shape" in entry else None
    shape = entry.shape if isinstance(entry, Tensor) else shape
    return int(shape[0]) if shape else 0


@torch.no_grad()
def measured_cost(run: Run, state: dict[str, Any]) -> Cost:
    """Held-out views of the run and of its compact state, through the same pipeline."""
    datamanager = run.config.pipeline.datamanager
    data = datamanager.data or datamanager.dataparser.data
    if not Path(data).exists():
        return Cost(reason=f"the data set {data} is not there")
    pipeline = load_pipeline(run)
    count = len(pipeline.datamanager.eval_dataset)
    rows = torch.linspace(0, count - 1, min(count, MEASURED_VIEWS)).round().long().tolist()
    if not rows:
        return Cost(reason="the data set has no held-out views")
    before, psnr_before = render_views(pipeline, rows)
    pipeline.load_pipeline(state, step=0)
    after, psnr_after = render_views(pipeline, rows)
    return Cost(
        psnr_before=psnr_before,
        psnr_after=psnr_after,
        psnr_cost=psnr_before - psnr_after,
        near_share=near_share(before, after),
        views=len(rows),
    )


def near_share(
    before: Sequence[UInt8[Tensor, "H W 3"]], after: Sequence[UInt8[Tensor, "H W 3"]]
) -> float:
    """Share of pixels that differ by at most `NEAR` of 255 in every channel."""
    near = [
        ((one.int() - other.int()).abs() <= NEAR).all(-1).double().mean()
        for one, other in zip(before, after, strict=True)
    ]
    return float(torch.stack(near).mean())


def render_views(
    pipeline: MoegsPipeline, rows: list[int]
) -> tuple[list[UInt8[Tensor, "H W 3"]], float]:
    """Pictures of held-out views in 8 bits, and their mean PSNR."""
    images, scores = [], []
    for row in rows:
        camera, batch = pipeline.datamanager.eval_item(row)
        rgb = pipeline.model.get_outputs_for_camera(camera)["rgb"].clamp(0.0, 1.0)
        image = (rgb * 255.0).round().to(torch.uint8)
        images.append(image.cpu())
        scores.append(float(psnr(image.float() / 255.0, target_image(batch, image.device))))
    return images, sum(scores) / len(scores)


def _write_folder(run: Run, compact: dict[str, Any], record: dict[str, Any], folder: Path) -> None:
    """Everything that makes a run: config, checkpoint and records."""
    checkpoints = folder / model_dir(run.config)
    checkpoints.mkdir(parents=True)
    (checkpoints / run.checkpoint_path.name).write_bytes(torch_file(compact))
    (folder / COMPACT_RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf8")
    training = run.config_path.parent / TRAINING_RECORD
    if training.is_file():
        shutil.copyfile(training, folder / TRAINING_RECORD)
    shutil.copyfile(run.config_path, folder / CONFIG_NAME)


def torch_file(content: dict[str, Any]) -> bytes:
    """The file that torch makes of something."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _has_rows(name: str, entry: Any, counts: list[int]) -> bool:
    """Whether an entry has a row for each Gaussian of an expert, as a router's weights do."""
    return ROWS in name or 0 < entry_rows(entry) in counts


def _sentence(cost: Cost) -> str:
    if cost.psnr_before is None or cost.psnr_after is None or cost.near_share is None:
        return f"Held-out views were not rendered: {cost.reason}."
    return (
        f"{cost.views} held-out views: {cost.psnr_before:.3f} dB before, {cost.psnr_after:.3f} dB "
        f"after; {cost.near_share:.3%} of the pixels are within {NEAR} of 255."
    )


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
