"""Copies of a router's experts that leave cameras out, trained before the router."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.frames.dataset import frame_table, split_cameras, with_image_ids
from moegs_ns.launch.cli_args import option_args
from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.models.base import is_mixture
from moegs_ns.models.expert_sources import ExpertSource, method_config, split_windows
from moegs_ns.models.missing_experts import train_in_order, training_template
from moegs_ns.routers import RouterConfig, VolumeAwarePixelRouterConfig
from moegs_ns.runs.checkpoint import Run, run_of, training_record
from moegs_ns.training.honest import HonestCameras, honest_rows

OF_COPIES = ("budget", "experts", "expert_budget", "mixture_run", "prune", "honest", "stacking",
             "expert_models", "expert_names")  # fmt: skip
"""Options of a router that the one over the copies does not take over."""
WITHOUT = ("--stacking-cameras", "none")
"""Options of a router whose gates stay as they are trained."""
LARGEST_SHARE = 0.25
"""Of their experts' steps, above which copies are trained only if cameras are named."""


@dataclass(frozen=True)
class StackingConfig:
    """Copies of the experts, trained for a few steps without some cameras, show what their
    families do on unseen views; gates are corrected by that at the end of the training."""

    cameras: Annotated[HonestCameras, tyro.conf.arg(aliases=["--stacking-cameras"])] = "auto"
    """Training cameras that the copies leave out: their numbers as for --val-cameras; `none` trains
    no copies; `auto` takes a quarter of all, spread over the rig (blocks of time where one camera
    moves), if there are several experts that each is one run of at least four times the copies'
    steps, under a router of weights per Gaussian and without --honest-cameras, else none."""
    budget: float = 0.05
    """Fraction of the published steps that copies are trained for, at most as many as their experts
    are."""
    run: Path | None = None
    """Trained mixture of copies to learn from, instead of training one: the config.yml (or folder)
    of a run over the same families in the same order, without some of this run's cameras."""

    @property
    def is_insisted_on(self) -> bool:
        """Whether it is an error if gates cannot be corrected."""
        return isinstance(self.cameras, tuple) or self.run is not None

    def check(self, model: Any) -> None:
        """Raise ValueError for what does not go together in the config of a mixture."""
        if not 0.0 < self.budget <= 1.0:
            raise ValueError(
                "--pipeline.model.stacking.budget expects a fraction of the published steps above "
                f"0 and at most 1, got {self.budget:g}; 0.05 is the default."
            )
        obstacle = self.obstacle(model)
        if self.is_insisted_on and obstacle is not None:
            raise ValueError(obstacle)

    def obstacle(self, model: Any) -> str | None:
        """Why the gates of a mixture cannot be corrected, as far as its config tells."""
        if not isinstance(model.router, VolumeAwarePixelRouterConfig):
            return (
                "--stacking-cameras corrects logits that come from weights per Gaussian, which "
                "this router lacks; train a moegs-router."
            )
        if model.is_honest:
            return "Expected --stacking-cameras or --honest-cameras, got both; leave one out."
        if model.mixture_run is not None:
            return (
                "--stacking-cameras expects experts to mix, got --router, whose gates stay as they "
                "are corrected; leave one out."
            )
        if any(len(split_windows(str(name))) > 1 for name in model.experts):
            return (
                "--stacking-cameras expects experts that are one run each, got windows joined by "
                "+; leave the option out."
            )
        return None


def prepare_stacking(
    config: TrainerConfig, sources: Sequence[ExpertSource]
) -> tuple[StackingConfig, RouterConfig]:
    """The options of a mixture once its copies are trained, if there are to be any."""
    model: Any = config.pipeline.model
    stacking: StackingConfig = model.stacking
    budgets = [source.runs[0].config.pipeline.model.budget for source in sources]
    if stacking.run is None and are_copies_trained(model, budgets):
        stacking = replace(stacking, run=train_copies(config, sources))
    if stacking.run is None:
        return stacking, model.router
    stacking = replace(stacking, run=open_stacking_run(stacking.run).config_path.resolve())
    return stacking, replace(model.router, stacked=True)


def are_copies_trained(model: Any, budgets: Sequence[float]) -> bool:
    """Whether copies of experts of these budgets are to be trained for the config of a mixture;
    where `auto` decides against it for their cost, it says so."""
    stacking: StackingConfig = model.stacking
    if stacking.cameras != "auto":
        return stacking.cameras != "none"
    if stacking.obstacle(model) is not None or len(budgets) < 2:
        return False
    shortest = min(budgets)
    if stacking.budget <= LARGEST_SHARE * shortest:
        return True
    CONSOLE.print(
        f"Gates stay as they are trained: copies of {stacking.budget:g} of the published steps "
        f"would be more than a quarter of an expert's {shortest:g}. --stacking-cameras with "
        "numbers of cameras trains them all the same."
    )
    return False


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
        options=(*options, *WITHOUT, "--experts", *paths, *template.options),
        budget=model.budget,
    )


def copies_seconds(run: Path) -> float | None:
    """Seconds that the copies and their router were trained for; None if a record is missing."""
    record = training_record(run)
    router, copies = record.get("seconds"), record.get("expert_seconds")
    return None if router is None or copies is None else router + copies
