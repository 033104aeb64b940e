"""Compact copies of runs, what they save and what they cost."""

import io
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from moegs_ns.atomic_files import replace_synced, temporary_folder
from moegs_ns.engine.trainer import MoegsPipeline, load_pipeline
from moegs_ns.evaluation.image_metrics import psnr, quantize
from moegs_ns.progress import track
from moegs_ns.reports.held_out import evenly_spaced
from moegs_ns.reports.scores import BYTES_PER_MB
from moegs_ns.runs.checkpoint import (
    CONFIG_NAME,
    TRAINING_RECORD,
    Run,
    load_checkpoint,
    model_dir,
    model_state,
)
from moegs_ns.runs.compact import ROWS, encode_state, is_compact
from moegs_ns.training.losses import mask_of, target_image

COMPACT_RECORD = "compact.json"
"""File in a compact run's folder that says what it saves and what that costs."""
MEASURED_VIEWS = 30
"""Held-out views to compare at most, evenly spaced."""
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
    """If every expert had 150,000 Gaussians; planes and networks would not grow with them."""


@dataclass(frozen=True)
class Cost:
    """What a compact run costs: means over held-out views, None where they were not rendered."""

    psnr_before: float | None = None
    psnr_after: float | None = None
    psnr_cost: float | None = None
    near_share: float | None = None
    """Fraction of pixels that differ by at most 2 of 255 in every channel."""
    views: int = 0
    reason: str = ""
    """Why figures are missing."""


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
        with temporary_folder(parent) as temporary:
            folder = temporary / "run"
            _write_folder(run, compact, asdict(size) | asdict(cost), folder)
            if output_dir.exists():
                output_dir.rmdir()
            replace_synced(folder, output_dir)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"The compact run could not be written to {output_dir} ({str(error).splitlines()[0]}); "
            "nothing is left of it: free some space or name another --output."
        ) from error
    return size, cost


def _write_folder(run: Run, compact: dict[str, Any], record: dict[str, Any], folder: Path) -> None:
    """Everything that makes a run: config, checkpoint and records."""
    checkpoints = folder / model_dir(run.config)
    checkpoints.mkdir(parents=True)
    (checkpoints / run.checkpoint_path.name).write_bytes(_serialized(compact))
    (folder / COMPACT_RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf8")
    training = run.config_path.parent / TRAINING_RECORD
    if training.is_file():
        shutil.copyfile(training, folder / TRAINING_RECORD)
    shutil.copyfile(run.config_path, folder / CONFIG_NAME)


def measured_size(bytes_before: int, compact: dict[str, Any]) -> Size:
    """Sizes of a run's checkpoint and of the compact one."""
    state = compact["pipeline"]
    per_expert = Counter[str]()
    for name, value in state.items():
        if name.endswith(f"{ROWS}means"):
            # An expert may have several sets: kinds of Gaussians, or windows of the clip.
            found = re.match(r"(mixture\.expert_modules\.\d+|expert)\.", name)
            per_expert[found.group() if found else name] += _num_rows(value)
    counts = list(per_expert.values())
    # Entries with a row per Gaussian, router weights included, grow with their number.
    per_gaussian = {
        name: value
        for name, value in state.items()
        if ROWS in name or 0 < _num_rows(value) in counts
    }
    after, growing = len(_serialized(compact)), len(_serialized(per_gaussian))
    gaussians = sum(counts)
    growth = REFERENCE_COUNT * len(counts) / gaussians if gaussians else 1.0
    return Size(
        gaussians=gaussians,
        mb_before=bytes_before / BYTES_PER_MB,
        mb_after=after / BYTES_PER_MB,
        mb_per_150k=(after - growing + growing * growth) / len(counts) / BYTES_PER_MB,
    )


def _num_rows(entry: Any) -> int:
    """Rows of an entry of a compact state; 0 for one that has none."""
    shape = entry.get("shape") if isinstance(entry, dict) else getattr(entry, "shape", None)
    return int(shape[0]) if shape else 0


def _serialized(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@torch.no_grad()
def measured_cost(run: Run, state: dict[str, Any]) -> Cost:
    """Held-out views of the run and of its compact state, through the same pipeline."""
    datamanager = run.config.pipeline.datamanager
    data = datamanager.data or datamanager.dataparser.data
    if not Path(data).exists():
        return Cost(reason=f"the data set {data} is not there")
    pipeline = load_pipeline(run)
    indices = evenly_spaced(len(pipeline.datamanager.eval_dataset), MEASURED_VIEWS)
    if not indices:
        return Cost(reason="the data set has no held-out views")
    before, psnr_before = render_views(pipeline, indices, "Rendering the run")
    pipeline.load_pipeline(state, step=0)
    after, psnr_after = render_views(pipeline, indices, "Rendering the copy")
    return Cost(
        psnr_before=psnr_before,
        psnr_after=psnr_after,
        psnr_cost=psnr_before - psnr_after,
        near_share=near_fraction(before, after),
        views=len(indices),
    )


def near_fraction(
    before: Sequence[UInt8[Tensor, "H W 3"]], after: Sequence[UInt8[Tensor, "H W 3"]]
) -> float:
    """Fraction of pixels that differ by at most `NEAR` of 255 in every channel."""
    return fmean(
        float(((one.int() - other.int()).abs() <= NEAR).all(-1).double().mean())
        for one, other in zip(before, after, strict=True)
    )


def render_views(
    pipeline: MoegsPipeline, indices: list[int], what: str = "Rendering"
) -> tuple[list[UInt8[Tensor, "H W 3"]], float]:
    """Held-out views rendered to 8 bits, and their mean PSNR; `what` stands beside the bar."""
    images, scores = [], []
    for index in track(indices, what):
        camera, batch = pipeline.datamanager.eval_item(index)
        rgb = quantize(pipeline.model.get_outputs_for_camera(camera)["rgb"])
        images.append((255.0 * rgb).round().byte().cpu())
        mask = mask_of(batch, rgb.device)
        if mask is None or bool(mask.any()):
            scores.append(float(psnr(rgb, target_image(batch, rgb.device), mask)))
    return images, fmean(scores or [math.nan])
