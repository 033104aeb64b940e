"""Scores of trained runs on their held-out views, and the table of them."""

import math
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from moegs_ns.engine.trainer import MoegsPipeline, load_pipeline
from moegs_ns.evaluation.perceptual import LPIPS_WEIGHTS, MS_SSIM_SIDE, WEIGHTS_VARIABLE
from moegs_ns.evaluation.tables import Row, write_results
from moegs_ns.evaluation.timing import synchronize
from moegs_ns.experts.windows import WindowedExpertConfig
from moegs_ns.mixture.distill import DistillationConfig
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.models.expert_sources import JOINT
from moegs_ns.models.mixture_model import MixtureModel, MixtureModelConfig
from moegs_ns.runs.checkpoint import Run, training_record

BYTES_PER_MB = 1e6
WARM_UP_FRAMES = 8
CONVENTIONS = ("lpips_alex_01", "st_lpips", "ssim_padded", "dssim1", "ms_ssim", "dssim_ms")
"""Figures of `convention_metrics` that a score has."""
TIMED_FRAMES = 30


@dataclass(frozen=True)
class Score:
    """One row of a table of results: means over held-out images, spread in `*_std`."""

    method: str
    kind: str
    """expert, distilled (an expert that a mixture taught) or mixture."""
    psnr: float
    psnr_std: float
    psnr_dynamic: float
    """Over held-out pixels whose ground truth varies over time, a mean over the images that have
    such pixels; NaN where nothing moves."""
    ssim: float
    lpips: float | None
    """`lpips_alex` of docs/metrics.md."""
    gaussians: int
    mb: float
    """Parameters and buffers of the model in the precision that they are stored in."""
    train_seconds: float | None
    """Of this run's own training: that of a mixture is its router's alone, or after pruning that of
    the rounds; see `MixtureModelConfig.expert_seconds`."""
    fps: float
    """From the median of synchronised renders, one new time each, deformation included."""
    seed: int
    images: int
    options: str
    psnr_best_expert: float | None = None
    """Of the mixture's best expert on these views; this and the next ones of mixtures only."""
    psnr_average: float | None = None
    """Of the plain mean of the experts' images."""
    psnr_constant: float | None = None
    """Of the best constant weights of the experts, fitted on training views."""
    psnr_oracle: float | None = None
    """Of the best expert at every pixel."""
    psnr_oracle_4: float | None = None
    """Of the best expert by errors blurred by 4 pixels; likewise the next ones."""
    psnr_oracle_16: float | None = None
    psnr_oracle_32: float | None = None
    expert_seconds: float | None = None
    """Sum of the training times of a mixture's experts, as its own training found them."""
    images_dynamic: int | None = None
    """Held-out images with pixels that move."""
    run: str = ""
    """Folder of the run as it was named."""
    lpips_alex_01: float | None = None
    """This and the next ones by the conventions of docs/metrics.md."""
    st_lpips: float | None = None
    ssim_padded: float | None = None
    dssim1: float | None = None
    ms_ssim: float | None = None
    dssim_ms: float | None = None
    recipe: str = ""
    """"defaults" or "published": whose numbers the method has, see docs/defaults.md; `options` are
    those that a command changed."""
    reason: str = ""
    """Why figures are missing."""


def write_table(path: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Write rows and the `moegs` command that made them; see `write_results`."""
    return write_results(path, rows, shlex.join(["moegs", *sys.argv[1:]]))


def score_run(run: Run, pipeline: MoegsPipeline | None = None) -> Score:
    """Render every held-out view of a run and measure it; without such views only its size and
    speed.

    A pipeline's model may have been changed since it was loaded; without one the run is loaded.
    """
    pipeline = pipeline or load_pipeline(run)
    unscored = _why_unscored(pipeline)
    if unscored:
        CONSOLE.print(f"There is nothing to score: {unscored}", soft_wrap=True)
    metrics = {} if unscored else pipeline.get_average_eval_image_metrics(get_std=True)
    model, record = pipeline.model, training_record(run.config_path)
    parameters = model.mixture if isinstance(model, MixtureModel) else model.expert
    tensors = (*parameters.parameters(), *parameters.buffers())
    conventions: dict[str, Any] = {name: metrics.get(name) for name in CONVENTIONS}
    score = Score(
        method=run.config.method_name,
        kind=_kind(run),
        psnr=metrics.get("psnr", math.nan),
        psnr_std=metrics.get("psnr_std", math.nan),
        psnr_dynamic=metrics.get("psnr_dynamic", math.nan),
        ssim=metrics.get("ssim", math.nan),
        lpips=metrics.get("lpips_alex"),
        gaussians=parameters.num_gaussians,
        mb=sum(t.numel() * t.element_size() for t in tensors) / BYTES_PER_MB,
        train_seconds=record.get("seconds"),
        fps=1.0 / statistics.median(frame_seconds(pipeline)),
        seed=run.config.machine.seed,
        images=len(pipeline.datamanager.eval_dataset),
        options=_options(run),
        psnr_best_expert=_best_expert(model, metrics),
        psnr_average=metrics.get("psnr_average"),
        psnr_constant=metrics.get("psnr_constant"),
        psnr_oracle=metrics.get("psnr_oracle"),
        psnr_oracle_4=metrics.get("psnr_oracle_4"),
        psnr_oracle_16=metrics.get("psnr_oracle_16"),
        psnr_oracle_32=metrics.get("psnr_oracle_32"),
        expert_seconds=record.get("expert_seconds"),
        images_dynamic=images_with(metrics, "psnr_dynamic"),
        run=str(run.config_path.parent),
        **conventions,
        recipe=getattr(run.config, "recipe", "defaults"),
    )
    return replace(score, reason=_missing(score, unscored))


def score_runs(runs: Sequence[Run], run: Run, pipeline: MoegsPipeline) -> Score:
    """Score a run, or those of consecutive windows, in order of time, as the one that they make."""
    score = score_run(run, pipeline)
    if len(runs) == 1:
        return score
    seconds = [training_record(one.config_path).get("seconds") for one in runs]
    known = [value for value in seconds if value is not None]
    total = sum(known) if len(known) == len(runs) else None
    score = replace(score, train_seconds=total, run=folders_of(runs))
    return replace(score, reason=_missing(score, _why_unscored(pipeline)))


def folders_of(runs: Sequence[Run]) -> str:
    """The folders of a row's runs as they were named."""
    return JOINT.join(str(run.config_path.parent) for run in runs)


def images_with(averages: dict[str, float], name: str) -> int:
    """Number of images that have a figure, of which these are the means over images."""
    count = averages["images"] if name in averages else 0
    return int(averages.get(f"{name}_images", count))


@torch.no_grad()
def frame_seconds(pipeline: MoegsPipeline, count: int = TIMED_FRAMES) -> list[float]:
    """Of synchronised renders of at most `count` held-out cameras (of training cameras where none
    is held out), each at another time.

    A mixture is timed without the fused set, which is another way to draw it, and without images
    of its experts alone.
    """
    model = pipeline.model
    if not isinstance(model, MixtureModel):
        return _frame_seconds(pipeline, count)
    values, model.responsibilities.values = model.responsibilities.values, []
    model.shows_experts_alone = False
    try:
        return _frame_seconds(pipeline, count)
    finally:
        model.responsibilities.values, model.shows_experts_alone = values, True


def _frame_seconds(pipeline: MoegsPipeline, count: int) -> list[float]:
    data = pipeline.datamanager
    dataset = data.eval_dataset if len(data.eval_dataset) else data.train_dataset
    cameras = dataset.cameras.to(pipeline.device)
    indices = torch.linspace(0, len(cameras) - 1, min(len(cameras), count)).long().tolist()
    seconds = []
    for index in indices[:WARM_UP_FRAMES] + indices:
        camera = cameras[index : index + 1]
        synchronize()
        started = time.perf_counter()
        pipeline.model.get_outputs_for_camera(camera)
        synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds[-len(indices) :]


COLUMNS = {
    "method": "{}", "kind": "{}", "seed": "{}", "psnr": "{:.2f}", "psnr_dynamic": "{:.2f}",
    "ssim": "{:.4f}", "lpips": "{:.4f}", "gaussians": "{:,}", "mb": "{:.1f}",
    "train_seconds": "{:.0f}", "fps": "{:.1f}", "images": "{}", "options": "{}",
}  # fmt: skip
"""How figures are shown on the terminal."""
MIXTURE_COLUMNS = {"method": "{}", "seed": "{}", "psnr": "{:.2f}"} | {
    f"psnr_{name}": "{:.2f}"
    for name in (
        *("best_expert", "average", "constant"),
        *("oracle_32", "oracle_16", "oracle_4", "oracle"),
    )
}
"""How figures of mixtures are shown beside what they are compared with."""
TEXT_COLUMNS = ("method", "kind", "options")


def print_scores(scores: list[Score]) -> None:
    """One table on the terminal; the number of images is in its title if it is that of all. LPIPS
    has a column where it was measured."""
    title, columns = "Held-out views", dict(COLUMNS)
    if len({score.images for score in scores}) == 1:
        title += f" ({scores[0].images} images)"
        del columns["images"]
    if all(score.lpips is None for score in scores):
        del columns["lpips"]
    _print_table(title, columns, scores)
    mixtures = [score for score in scores if score.kind == "mixture"]
    if mixtures:
        _print_table("Mixtures beside blends and bounds", MIXTURE_COLUMNS, mixtures)
    _print_rest(scores)


def _print_rest(scores: Sequence[Score]) -> None:
    """What the tables above leave out, a line for each figure that some run has."""
    shown = {*COLUMNS, *MIXTURE_COLUMNS} - {"images"}
    table = Table(title="All other columns", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for score in scores:
        table.add_column(escape(f"{score.method}, seed {score.seed}"), overflow="fold")
    for each in fields(Score):
        values = [getattr(score, each.name) for score in scores]
        if each.name not in shown and any(value not in (None, "") for value in values):
            table.add_row(each.name, *(_short(value) for value in values))
    CONSOLE.print(table)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _print_table(title: str, columns: dict[str, str], scores: Sequence[Score]) -> None:
    # No lines between columns, so that the last one has room for its text.
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        header = name.replace("_", " ")  # Headers wrap at spaces.
        justify = "left" if name in TEXT_COLUMNS else "right"
        table.add_column(header, justify=justify, no_wrap=name == "method", overflow="fold")
    for score in scores:
        values = ((layout, getattr(score, name)) for name, layout in columns.items())
        cells = ("-" if _is_missing(v) else escape(layout.format(v)) for layout, v in values)
        table.add_row(*cells)
    CONSOLE.print(table)


def _why_unscored(pipeline: MoegsPipeline) -> str:
    """Why there are no scores; empty if there are."""
    datamanager = pipeline.datamanager
    return "" if len(datamanager.eval_dataset) else datamanager.why_nothing_is_held_out()


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _missing(score: Score, unscored: str = "") -> str:
    spent = "an expert has none of its own"
    if score.kind == "mixture":
        spent = "the record of its training does not tell it"
    of_images = {
        "lpips": f"lpips, lpips_alex_01: name the weights {LPIPS_WEIGHTS} in {WEIGHTS_VARIABLE}",
        "st_lpips": "st_lpips: the extra `perceptual` is not installed",
        "ms_ssim": f"ms_ssim, dssim_ms: of images above {MS_SSIM_SIDE} pixels a side only",
        "psnr_average": "psnr_best_expert to psnr_oracle_32: of mixtures only",
        "psnr_dynamic": "psnr_dynamic: nothing moves in the held-out views",
    }
    if unscored:
        of_images = {"psnr": f"psnr and all other figures of images: {unscored.rstrip('.')}"}
    reasons = of_images | {
        "train_seconds": "train_seconds: the run has no training record",
        "expert_seconds": f"expert_seconds: {spent}",
    }
    values = ((getattr(score, name), reason) for name, reason in reasons.items())
    return "; ".join(reason for value, reason in values if _is_missing(value))


def _best_expert(model: ExpertModel | MixtureModel, metrics: dict[str, float]) -> float | None:
    if not isinstance(model, MixtureModel) or not metrics:
        return None
    return max(metrics[f"psnr_{name}"] for name in model.config.expert_names)


def _kind(run: Run) -> str:
    model = run.config.pipeline.model
    if isinstance(model, MixtureModelConfig):
        return "mixture"
    return "expert" if _distillation(model).teacher is None else "distilled"


def _distillation(model: Any) -> DistillationConfig:
    """How an expert was taught; runs older than distillation do not say it."""
    return getattr(model, "distillation", DistillationConfig())


def _options(run: Run) -> str:
    """Options that a reader of the row needs: budget, frames, validation cameras and the like."""
    model: Any = run.config.pipeline.model
    datamanager: Any = run.config.pipeline.datamanager
    options = [f"budget {model.budget:g}"]
    if frames := getattr(datamanager.dataparser, "frames", None):
        options.append(f"frames {frames[0]}-{frames[1]}")
    expert = getattr(model, "expert", None)
    if isinstance(expert, WindowedExpertConfig):
        spans = (f"{first}-{last}" for first, last in expert.windows)
        options.append(f"windows {', '.join(spans)}")
    if datamanager.val_cameras:
        options.append(f"validation cameras {datamanager.val_cameras}")
    if isinstance(model, MixtureModelConfig):
        options += [f"experts {', '.join(model.expert_names)}", *model.prune.summary()]
        if getattr(model.router, "stacked", False):
            options.append("gates corrected by copies")
    else:
        if getattr(model, "color_correction", False):
            options.append("color correction")
        if getattr(model, "time_offsets", False):
            options.append("time offsets")
    return ", ".join(options + _distillation(model).summary())
