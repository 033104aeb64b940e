"""nerfstudio's trainer with a budget, safe files and clear errors."""

import copy
import gc
import json
import os
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import tyro
import yaml
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import TRAIN_INTERATION_OUTPUT, Trainer, TrainerConfig
from nerfstudio.utils import writer

from moegs_ns.atomic_files import atomic_write_text
from moegs_ns.engine.pipeline import MoegsPipeline, MoegsPipelineConfig
from moegs_ns.mixture.importance import CRITERIA
from moegs_ns.models.expert_model import ExpertModel, ExpertModelConfig
from moegs_ns.models.joint_methods import embed_methods
from moegs_ns.models.joint_model import JointModel, JointModelConfig
from moegs_ns.models.mixture_checks import check_router, continue_run, take_over
from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.models.teacher import prepare_distillation
from moegs_ns.models.training_records import expert_seconds
from moegs_ns.models.two_stage import train_missing_experts
from moegs_ns.runs.checkpoint import (
    CONFIG_NAME,
    TRAINING_RECORD,
    check_resumable,
    model_dir,
    named_config_path,
    newest_checkpoint,
    open_run,
    read_config,
)
from moegs_ns.training.schedules import scaled_steps

ANOTHER_FOLDER = "name another --output-dir"
"""What to do if a run's files cannot be written."""
STEP_TIMES = (
    writer.EventName.ITER_TRAIN_TIME, writer.EventName.TRAIN_RAYS_PER_SEC, writer.EventName.ETA,
)  # fmt: skip
"""What nerfstudio logs of every step."""
STEPS_PER_CHECK = 50
"""Steps between two looks at whether the loss is still a number; each look waits for the GPU."""


@dataclass
class MoegsTrainerConfig(TrainerConfig):
    """Configuration of a run of one of our methods."""

    _target: type = field(default_factory=lambda: MoegsTrainer)
    pipeline: MoegsPipelineConfig = field(default_factory=MoegsPipelineConfig)
    prompt: tyro.conf.Suppress[str | None] = None
    """Hidden, since nothing is made from text."""

    def set_timestamp(self) -> None:
        """Make the run independent of where it was started, before its config is written."""
        super().set_timestamp()
        self.output_dir = Path(self.output_dir).resolve()
        datamanager = self.pipeline.datamanager
        for owner in (self, datamanager, datamanager.dataparser):
            data = getattr(owner, "data", None)
            if data is not None:
                owner.data = Path(data).resolve()
        if self.machine.device_type == "cuda" and not torch.cuda.is_available():
            self.machine.device_type = "cpu"
        budget = self.pipeline.budget
        if not budget > 0:
            raise ValueError(f"--budget expects a share of the full recipe above 0, got {budget}.")
        if isinstance(self.pipeline.model, JointModelConfig):
            embed_methods(self)
        elif isinstance(self.pipeline.model, MixtureModelConfig):
            self._embed_experts(self.pipeline.model)
        elif isinstance(self.pipeline.model, ExpertModelConfig):
            self._find_teacher(self.pipeline.model)

    def _embed_experts(self, model: MixtureModelConfig) -> None:
        """Copy the experts' configurations in, from their runs, which are trained first where
        methods are named, or from the run that is resumed."""
        if self.load_dir is not None and not model.experts and model.mixture_run is None:
            continue_run(self)
        check_router(self)
        if model.expert_models:
            return
        if model.mixture_run is None:
            model.experts = train_missing_experts(self)
        model.embed_experts()
        if model.mixture_run is not None:
            take_over(self, open_run(model.mixture_run).config)
            CRITERIA[model.prune.criterion].check(model.router)

    def _find_teacher(self, model: ExpertModelConfig) -> None:
        """Check the teacher if there is one; a resumed run goes on with its own by default."""
        if self.load_dir is not None and model.distillation.teacher is None:
            path = Path(self.load_dir).parent / CONFIG_NAME
            resumed = read_config(path).pipeline.model if path.is_file() else None
            model.distillation = getattr(resumed, "distillation", model.distillation)
        prepare_distillation(model)

    def get_base_dir(self) -> Path:
        """The run's folder; that of the file named as --load-config if the command names one."""
        named = named_config_path()
        if named is not None and (named.parent / model_dir(self)).is_dir():
            return named.parent.resolve()
        return super().get_base_dir()

    def get_checkpoint_dir(self) -> Path:
        """The folder of checkpoints; a damaged newest one is reported here, before it is read."""
        folder = super().get_checkpoint_dir()
        if named_config_path() is not None:
            newest_checkpoint(folder)
        return folder

    def save_config(self) -> None:
        """Write config.yml, under a temporary name first."""
        path = self.get_base_dir() / CONFIG_NAME
        atomic_write_text(path, yaml.dump(self), "run's configuration", ANOTHER_FOLDER)


def at_budget(config: MoegsTrainerConfig) -> MoegsTrainerConfig:
    """The config with all steps scaled by the budget; never written to disk."""
    budget = config.pipeline.budget
    scaled = copy.copy(config)
    scaled.max_num_iterations = scaled_steps(config.max_num_iterations, budget)
    scaled.optimizers = {
        name: {
            "optimizer": group["optimizer"],
            "scheduler": group["scheduler"].scaled(budget) if group["scheduler"] else None,
        }
        for name, group in config.optimizers.items()
    }
    return scaled


def drop_times(events: list[dict[str, Any]]) -> None:
    """Take the times of a step out of what nerfstudio is going to log."""
    names = {event.value for event in STEP_TIMES}
    events[:] = [event for event in events if event["name"] not in names]


class MoegsOptimizers(Optimizers):
    """nerfstudio's optimisers, which write rates to the log only as often as the log is written."""

    steps_per_log: int = 1

    def scheduler_step_all(self, step: int) -> None:
        """See nerfstudio."""
        for name, scheduler in self.schedulers.items():
            scheduler.step()
            if step % self.steps_per_log == 0:
                rate = scheduler.get_last_lr()[0]
                writer.put_scalar(name=f"learning_rate/{name}", scalar=rate, step=step)


class MoegsTrainer(Trainer):
    """Trains at a budget; keeps the last good checkpoint whatever happens."""

    pipeline: MoegsPipeline

    def __init__(
        self, config: MoegsTrainerConfig, local_rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(at_budget(config), local_rank, world_size)
        self.total_steps = self.config.max_num_iterations
        self._sum_of_losses = torch.zeros(())
        self._started = time.perf_counter()

    def setup_optimizers(self) -> MoegsOptimizers:
        """See nerfstudio."""
        groups = self.pipeline.get_param_groups()
        optimizers = MoegsOptimizers(self.config.optimizers.copy(), groups)
        steps_per_log = max(1, self.config.logging.steps_per_log)
        optimizers.steps_per_log = self.pipeline.steps_per_log = steps_per_log
        return optimizers

    def train(self) -> None:
        """Train until the requested total of steps, also when resumed."""
        if self._start_step and not _counts_total_steps():
            self.config.max_num_iterations = max(0, self.total_steps - self._start_step)
            # With nothing left to do the final save keeps the step that was loaded.
            self.step = self._start_step - 1
        self._started = time.perf_counter()
        # What was imported stays; to look through it for garbage again and again stalls steps.
        gc.collect()
        gc.freeze()
        try:
            super().train()
        finally:
            gc.unfreeze()

    def _after_train(self) -> None:
        self._write_record(time.perf_counter() - self._started)
        super()._after_train()

    def _write_record(self, seconds: float) -> None:
        """Add this session's seconds to those of the sessions that it resumed; say what points
        the first of them started from."""
        path = self.base_dir / TRAINING_RECORD
        resumed = self.config.load_dir
        before = path if resumed is None else Path(resumed).parent / TRAINING_RECORD
        metadata = self.pipeline.datamanager.train_dataparser_outputs.metadata
        earlier = {"seconds": 0.0, "initial_points": metadata["points3D_origin"]}
        if self._start_step and before.is_file():
            earlier |= json.loads(before.read_text())
        record = {
            "seconds": earlier["seconds"] + seconds,
            "steps": self.step + 1,
            "device": self.device,
        }
        cameras = self.pipeline.datamanager.train_dataset.cameras
        record["image_size"] = [int(cameras.width[0, 0]), int(cameras.height[0, 0])]
        model = self.pipeline.model
        if isinstance(model, ExpertModel | JointModel):  # trained experts had their own points
            record["initial_points"] = earlier["initial_points"]
        own = self.config.pipeline.model
        if isinstance(own, MixtureModelConfig) and not isinstance(own, JointModelConfig):
            record["expert_seconds"] = expert_seconds(own)
            if record["expert_seconds"] is None:  # experts may be gone by now
                record["expert_seconds"] = earlier.get("expert_seconds")
        if isinstance(model, ExpertModel):
            record |= model.recipe.supervision.report()
        atomic_write_text(path, json.dumps(record) + "\n", "record of the training", ANOTHER_FOLDER)

    def train_iteration(self, step: int) -> TRAIN_INTERATION_OUTPUT:
        """One step, with a clear message if memory runs out or the loss is no number."""
        try:
            loss, losses, metrics = super().train_iteration(step)
        except torch.cuda.OutOfMemoryError as error:
            raise RuntimeError(
                f"Out of GPU memory at step {step} with {self.pipeline.model.size_report()}."
            ) from error
        self._sum_of_losses = self._sum_of_losses + loss.detach()
        if step % STEPS_PER_CHECK == STEPS_PER_CHECK - 1:
            self._check_loss(step)
        return loss, losses, metrics

    def _update_viewer_state(self, step: int) -> None:
        """See nerfstudio; it comes after a step's times were put down, which go to the log only as
        often as everything else: to write them every step would take a thirtieth of it."""
        super()._update_viewer_state(step)
        if step % self.pipeline.steps_per_log != 0:
            drop_times(writer.EVENT_STORAGE)

    def _check_loss(self, step: int) -> None:
        if bool(torch.isfinite(self._sum_of_losses)):
            return
        saved = sorted(self.checkpoint_dir.glob("step-*.ckpt"))
        rescue = f"resume from {saved[-1]}" if saved else "start again"
        raise FloatingPointError(
            f"The loss stopped being a number within the {STEPS_PER_CHECK} steps before step "
            f"{step + 1}; nothing was saved since: {rescue}, with lower learning rates "
            "(--optimizers.*.optimizer.lr) or another --machine.seed."
        )

    def _load_checkpoint(self) -> None:
        path = self._resumed_checkpoint()
        if path is not None and path.is_file():
            check_resumable(path)
        super()._load_checkpoint()

    def _resumed_checkpoint(self) -> Path | None:
        """The checkpoint that the training goes on from; None for a new one."""
        config = self.config
        if config.load_dir is None:
            return config.load_checkpoint
        if config.load_step is None:
            return newest_checkpoint(Path(config.load_dir))
        return Path(config.load_dir) / f"step-{config.load_step:09d}.ckpt"

    def save_checkpoint(self, step: int) -> None:
        """Save under a temporary name, then replace; earlier checkpoints go last."""
        self._check_loss(step)
        folder = self.checkpoint_dir
        folder.mkdir(parents=True, exist_ok=True)
        name = f"step-{step:09d}.ckpt"
        try:
            with tempfile.TemporaryDirectory(dir=self.base_dir, prefix=".writing-") as temporary:
                self.checkpoint_dir = Path(temporary)
                super().save_checkpoint(step)
                os.replace(Path(temporary) / name, folder / name)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"The checkpoint of step {step} could not be written to {folder} "
                f"({str(error).splitlines()[0]}); earlier ones are untouched: free some space, "
                "then resume."
            ) from error
        finally:
            self.checkpoint_dir = folder
        if self.config.save_only_latest_checkpoint:
            for old in folder.glob("step-*.ckpt"):
                if old.name != name:
                    old.unlink()


def _counts_total_steps() -> bool:
    """Whether this nerfstudio reads max_num_iterations as a total when a run is resumed."""
    numbers = tuple(int(part) for part in version("nerfstudio").split(".")[:3] if part.isdigit())
    return numbers > (1, 1, 5)
