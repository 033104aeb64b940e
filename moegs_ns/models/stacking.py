"""Copies of a router's experts that leave cameras out, and what is learned from them at the end."""

import time
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from jaxtyping import Bool, Float, Int
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.data.frames.dataset import frame_table, split_cameras, with_image_ids
from moegs_ns.evaluation.image_metrics import decibels
from moegs_ns.launch.cli_args import option_args
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.mixture.evidence import Evidence, measure_evidence
from moegs_ns.mixture.mixture import Mixture, blurred
from moegs_ns.mixture.stacking import Stacked, UnseenPixels, stack
from moegs_ns.models.base import is_mixture, scene_of
from moegs_ns.models.expert_sources import (
    ExpertSource,
    method_config,
    split_windows,
)
from moegs_ns.models.missing_experts import train_in_order, training_template
from moegs_ns.models.trained_mixture import check_scene_of_state, open_mixture
from moegs_ns.routers import (
    RouterConfig,
    VolumeAwarePixelRouter,
    VolumeAwarePixelRouterConfig,
    correction_columns,
    evidence_features,
)
from moegs_ns.runs.checkpoint import Run, run_of, training_record
from moegs_ns.scene import FrameTable
from moegs_ns.splatting import rasterize
from moegs_ns.training.honest import HonestCameras, honest_rows

OF_COPIES = ("budget", "experts", "expert_budget", "mixture_run", "prune", "honest", "stacking",
             "expert_models", "expert_names")  # fmt: skip
"""Options of a router that the one over the copies does not take over."""
EVIDENCE_IMAGES = 200
"""Training images that evidence is measured on, at most; spread evenly over all."""
UNSEEN_IMAGES = 60
"""Images of cameras that copies left out, at most."""
PIXELS_PER_IMAGE = 1000
COPIES = "a mixture of copies"
GROUPS = 6
"""Parts of the unseen images, at most, each of which judges what the others say."""


@dataclass(frozen=True)
class StackingConfig:
    """Copies of the experts, trained for a few steps without some cameras, show what their
    families do on unseen views; gates are corrected by that at the end of the training."""

    cameras: Annotated[HonestCameras, tyro.conf.arg(aliases=["--stacking-cameras"])] = "none"
    """Training cameras that the copies leave out: their numbers as for --val-cameras, or `auto`
    for a quarter of all, spread over the rig (blocks of time where one camera moves)."""
    budget: float = 0.05
    """Fraction of the published steps that copies are trained for, at most as many as their experts
    are."""
    run: Path | None = None
    """Trained mixture of copies to learn from, instead of training one: the config.yml (or folder)
    of a run over the same families in the same order, without some of this run's cameras."""

    @property
    def is_asked(self) -> bool:
        """Whether gates are corrected."""
        return self.cameras != "none" or self.run is not None

    def check(self, model: Any) -> None:
        """Raise ValueError for what does not go together in the config of a mixture."""
        if not self.is_asked:
            return
        if not 0.0 < self.budget <= 1.0:
            raise ValueError(
                "--pipeline.model.stacking.budget expects a fraction of the published steps above "
                f"0 and at most 1, got {self.budget:g}; 0.05 is the default."
            )
        if not isinstance(model.router, VolumeAwarePixelRouterConfig):
            raise ValueError(
                "--stacking-cameras corrects logits that come from weights per Gaussian, which "
                "this router lacks; train a moegs-router."
            )
        if model.is_honest:
            raise ValueError(
                "Expected --stacking-cameras or --honest-cameras, got both; leave one out."
            )
        if model.mixture_run is not None:
            raise ValueError(
                "--stacking-cameras expects experts to mix, got --router, whose gates stay as they "
                "are corrected; leave one out."
            )
        if any(len(split_windows(str(name))) > 1 for name in model.experts):
            raise ValueError(
                "--stacking-cameras expects experts that are one run each, got windows joined by "
                "+; leave the option out."
            )


# ---- before the router: copies, and a router over them ----


def prepare_stacking(
    config: TrainerConfig, sources: Sequence[ExpertSource]
) -> tuple[StackingConfig, RouterConfig]:
    """The options of a mixture once its copies are trained, if they are asked for."""
    model: Any = config.pipeline.model
    stacking: StackingConfig = model.stacking
    if stacking.is_asked and stacking.run is None:
        stacking = replace(stacking, run=train_copies(config, sources))
    if stacking.run is None:
        return stacking, model.router
    stacking = replace(stacking, run=open_stacking_run(stacking.run).config_path.resolve())
    return stacking, replace(model.router, stacked=True)


def open_stacking_run(path: Path) -> Run:
    """The run of a mixture over copies.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is a run of something else.
    """
    name = "the run of a mixture of copies in --pipeline.model.stacking.run"
    return run_of(is_mixture, path, name, "leave the option out to train one")


def train_copies(config: TrainerConfig, sources: Sequence[ExpertSource]) -> Path | None:
    """Train a copy of each expert without some cameras, and a router over the copies.

    Returns:
        The config of that router's run; None if the scene has too few cameras to leave one out.

    Raises:
        RuntimeError: a training failed.
        ValueError: a camera does not exist, or copies cannot be told by command-line arguments.
    """
    datamanager: Any = config.pipeline.datamanager
    model: Any = config.pipeline.model
    cameras = cameras_to_leave_out(datamanager, model.stacking.cameras)
    if not cameras:
        CONSOLE.print(
            "This scene has too few training cameras to leave one out, so gates are not corrected."
        )
        return None
    without = copy(config)
    without.pipeline = copy(config.pipeline)
    left_out = tuple(sorted({*datamanager.val_cameras, *cameras}))
    without.pipeline.datamanager = replace(datamanager, val_cameras=left_out)
    template = training_template(without)
    copies = [copy_training(template, source.runs[0], model.stacking.budget) for source in sources]
    router = router_of_copies(template, config, copies)
    named = ", ".join(map(str, cameras))
    titles = [f"Copy {number} of {len(copies)}" for number in range(1, len(copies) + 1)]
    titled = zip((*copies, router), (*titles, "Router of the copies"), strict=True)
    train_in_order((job, f"{title}, without the cameras {named}") for job, title in titled)
    return router.config_path.resolve()


def cameras_to_leave_out(datamanager: Any, cameras: HonestCameras) -> tuple[int, ...]:
    """Numbers of the training cameras that copies leave out.

    Raises:
        ValueError: a camera that is named does not exist, or none would be left.
    """
    parser = copy(datamanager.dataparser)
    parser.data = datamanager.data or parser.data
    outputs = with_image_ids(parser.setup().get_dataparser_outputs(split="train"))
    if datamanager.val_cameras:
        outputs, _ = split_cameras(outputs, tuple(datamanager.val_cameras))
    table = frame_table(outputs)
    chosen = table.camera_ids[honest_rows(table, cameras)].unique()
    # Blocks of time of one camera that is one number for all images cannot be left out by number.
    kept = table.camera_ids[~torch.isin(table.camera_ids, chosen)]
    return tuple(chosen.tolist()) if len(kept) else ()


def copy_training(template: TrainingJob, run: Run, budget: float) -> TrainingJob:
    """The training of an expert's copy: its own method, options and seed, for fewer steps."""
    model = run.config.pipeline.model
    default = method_config(run.config.method_name).pipeline.model
    options = option_args(model, default, "pipeline.model.", skip=["budget", "honest"])
    return replace(
        template,
        method=run.config.method_name,
        options=(*options, *template.options),
        budget=min(budget, model.budget),
        seed=run.config.machine.seed,
    )


def router_of_copies(
    template: TrainingJob, config: TrainerConfig, copies: Sequence[TrainingJob]
) -> TrainingJob:
    """The training of a router over copies, as this one's."""
    model: Any = config.pipeline.model
    method = str(config.method_name)
    default = method_config(method).pipeline.model
    options = option_args(model, default, "pipeline.model.", skip=OF_COPIES)
    paths = [str(job.config_path.resolve()) for job in copies]
    return replace(
        template,
        method=method,
        options=(*options, "--experts", *paths, *template.options),
        budget=model.budget,
    )


def copies_seconds(run: Path) -> float | None:
    """Seconds that the copies and their router were trained for; None if a record is missing."""
    record = training_record(run)
    router, copies = record.get("seconds"), record.get("expert_seconds")
    return None if router is None or copies is None else router + copies


# ---- after the router's last step: the correction ----


@torch.no_grad()
def correct_gates(model: Any, datamanager: Any) -> dict[str, Any]:
    """Learn from the copies, and correct the gates of a MixtureModel from now on.

    Returns:
        What the record of the training says of it.

    Raises:
        FileNotFoundError: the run over the copies is gone.
    """
    started = time.perf_counter()
    run = open_stacking_run(model.config.stacking.run)
    table: FrameTable = datamanager.frame_table
    unseen = unseen_by(run, table)
    groups = groups_of(table, unseen)
    copies = open_mixture(run, scene_of(model.kwargs), COPIES).to(model.device)
    evidence = evidence_of(copies, datamanager, ~unseen)
    generator = torch.Generator().manual_seed(0)
    pixels = [
        sampled_pixels(copies, evidence, model, view, target, int(groups[index]), generator)
        for index, view, target in images_of(datamanager, unseen, UNSEEN_IMAGES)
    ]
    del copies
    mixture: Mixture = model.mixture
    found = stack(UnseenPixels.cat(pixels), mixture.temperature, mixture.gate_config)
    router = mixture.router
    assert isinstance(router, VolumeAwarePixelRouter) and router.correction is not None
    own = evidence_of(model, datamanager, torch.ones_like(unseen))
    router.correction.set_(own, found.correction.bias, found.correction.slopes)
    seconds = time.perf_counter() - started
    record = _report(found, table.camera_ids[unseen].unique().tolist())
    return record | {"seconds": seconds, "copies_seconds": copies_seconds(run.config_path)}


def unseen_by(run: Run, table: FrameTable) -> Bool[Tensor, "M"]:
    """The training images that the copies of a run have not seen."""
    left_out = torch.tensor(run.config.pipeline.datamanager.val_cameras, dtype=torch.long)
    return torch.isin(table.camera_ids, left_out)


def groups_of(table: FrameTable, unseen: Bool[Tensor, "M"]) -> Int[Tensor, "M"]:
    """A group for each image, of which there are two to `GROUPS` among the unseen ones: cameras, or
    neighbours by number where there are more; of a single camera the two halves of the clip."""
    cameras, index = torch.unique(table.camera_ids[unseen], return_inverse=True)
    groups = torch.full_like(table.camera_ids, -1)
    groups[unseen] = index * min(GROUPS, len(cameras)) // max(1, len(cameras))
    if len(cameras) == 1:
        times = table.times[unseen]
        groups[unseen] = (times > times.median()).long()
    return groups


def _report(found: Stacked, cameras: list[int]) -> dict[str, Any]:
    psnr = {name: float(decibels(torch.tensor(error))) for name, error in found.errors.items()}
    shown = ", ".join(f"{name} {value:.2f}" for name, value in psnr.items())
    CONSOLE.print(
        f"Gates are corrected by {found.form}, chosen on the cameras {', '.join(map(str, cameras))}"
        f" that copies had not seen. PSNR there, fitted on the others of them: {shown} dB."
    )
    return {"cameras": cameras, "form": found.form, "psnr": psnr}


def check_copies(model: Any, datamanager: Any) -> None:
    """Look at the run that is to teach a MixtureModel, before it is trained.

    Raises:
        FileNotFoundError: the run is gone.
        ValueError: it has other experts, is of another scene, or has seen all cameras.
    """
    run = open_stacking_run(model.config.stacking.run)
    copies, option = run.config.pipeline.model, "--pipeline.model.stacking.run"
    own, copied = (
        [each.expert._target for each in config.expert_models] for config in (model.config, copies)
    )
    if own != copied:
        raise ValueError(
            f"{option} expects a mixture of the families {', '.join(model.config.expert_names)} in "
            f"this order, got {', '.join(copies.expert_names)} in {run.config_path}."
        )
    check_scene_of_state(run.model_state(), scene_of(model.kwargs), run, COPIES)
    table: FrameTable = datamanager.frame_table
    unseen = unseen_by(run, table)
    if len(groups_of(table, unseen)[unseen].unique()) < 2:
        raise ValueError(
            f"{option} expects a mixture that has not seen two of this run's training cameras, or "
            f"one of them over several frames, but {run.config_path} was trained on all; train it "
            "with more --val-cameras."
        )
    if getattr(copies.router, "stacked", False):
        raise ValueError(
            f"{option} expects a mixture whose gates are as its router was trained, but those of "
            f"{run.config_path} are corrected; train it without --stacking-cameras."
        )


def images_of(
    datamanager: Any, rows: Tensor, count: int
) -> Iterator[tuple[int, View, Float[Tensor, "H W 3"]]]:
    """At most `count` of the training images that are marked, spread evenly over them."""
    marked = torch.nonzero(rows)[:, 0]
    step = max(1.0, len(marked) / count)
    for at in range(min(count, len(marked))):
        index = int(marked[int(at * step)])
        yield index, *datamanager.training_image(index)


def evidence_of(model: Any, datamanager: Any, rows: Tensor) -> list[Evidence]:
    """Evidence of a model's experts on the training images that are marked."""
    images = ((v, image) for _, v, image in images_of(datamanager, rows, EVIDENCE_IMAGES))
    corrections = model.corrections
    return measure_evidence(model.mixture, images, corrections.views, corrections.recorded)


def sampled_pixels(
    copies: Any,
    evidence: Sequence[Evidence],
    model: Any,
    view: View,
    target: Tensor,
    group: int,
    generator: torch.Generator,
) -> UnseenPixels:
    """Some pixels of an image, such as one that the copies have not seen.

    The experts proper know this camera's colours, so that its tint is not taken for an error.
    """
    mixture: Mixture = copies.mixture
    render = mixture.render(view)
    projected = render.rendered.projected
    features = [
        evidence_features(own, one.ids) for own, one in zip(evidence, projected, strict=True)
    ]
    rendered = rasterize(projected, view, features).features[:, 0]
    logits = mixture.logits(render.rendered.features[:, 0], view)
    columns = correction_columns(logits, rendered)
    sigma = mixture.gate_config.blur * view.height
    columns = blurred(columns.movedim(-1, 1), sigma).movedim(1, -1)
    images = model.corrections.recorded(render.images, view)
    counting = torch.nonzero(~target[..., 0].flatten().isnan())[:, 0].cpu()
    chosen = counting[torch.randperm(len(counting), generator=generator)[:PIXELS_PER_IMAGE]]
    chosen = chosen.to(target.device)
    return UnseenPixels(
        images.flatten(1, 2)[:, chosen],
        columns.flatten(1, 2)[:, chosen],
        target.flatten(0, 1)[chosen],
        torch.full((len(chosen),), group, device=target.device),
    )
