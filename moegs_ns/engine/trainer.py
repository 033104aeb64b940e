"""nerfstudio's trainer and pipeline, with a budget, our samplers, atomic files and clear errors."""

import gc
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
import yaml
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import TRAIN_INTERATION_OUTPUT, Trainer, TrainerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.utils import writer
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from moegs_ns.atomic_files import atomic_write_text
from moegs_ns.data.datamanager import MoegsDataManager, MoegsDataManagerConfig
from moegs_ns.data.scene_files import resolved
from moegs_ns.engine.budget import at_budget
from moegs_ns.engine.run_files import (
    ANOTHER_FOLDER,
    SECONDS,
    copy_before_finish,
    write_before_finish,
    write_checkpoint,
    write_record,
)
from moegs_ns.engine.run_folder import check_folder, check_place, go_on_as_named, stop_with_advice
from moegs_ns.engine.scoring import ScoredPipeline
from moegs_ns.engine.viewer import LiveViewer, RenderThreads, TrainingCameras
from moegs_ns.launch.locks import claim, give_up
from moegs_ns.launch.nerfstudio_commands import check_command
from moegs_ns.launch.option_limits import check_numbers
from moegs_ns.launch.processes import advise, check_not_stopped, errors_are_stops
from moegs_ns.models.base import GaussianModelConfig, scene_of
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.models.resume import (
    check_resumed_checkpoint,
    check_resumed_scene,
    remaining_steps,
    resumed_folder,
    resumed_record,
)
from moegs_ns.models.trained_mixture import check_number_of_frames
from moegs_ns.runs.checkpoint import (
    CONFIG_NAME,
    Run,
    fitting,
    load_checkpoint,
    model_dir,
    model_state,
    named_config_path,
    newest_checkpoint,
    step_of,
)
from moegs_ns.runs.checkpoint_files import saved_steps, value_fault
from moegs_ns.runs.compact import RECIPE, is_compact

_NAMES = writer.EventName
STEP_TIMES = {
    name.value for name in (_NAMES.ITER_TRAIN_TIME, _NAMES.TRAIN_RAYS_PER_SEC, _NAMES.ETA)
}
"""What nerfstudio logs of every step."""
STEPS_PER_CHECK = 50
"""Steps between two checks that the loss is finite; each check synchronises with the GPU."""


# ---- the pipeline ----


@dataclass
class MoegsPipelineConfig(VanillaPipelineConfig):
    """Datamanager and model."""

    _target: type = field(default_factory=lambda: MoegsPipeline)
    datamanager: MoegsDataManagerConfig = field(default_factory=MoegsDataManagerConfig)
    """Where training images come from."""
    model: GaussianModelConfig = field(default_factory=GaussianModelConfig)
    """What is trained."""


class MoegsPipeline(ScoredPipeline):
    """Lets the recipe choose the training images; loads checkpoints completely or not at all."""

    datamanager: MoegsDataManager
    steps_per_log: int = 1
    """Steps between two computations of the figures that are logged."""

    @property
    def model(self) -> ExpertModel | MixtureModel:
        """The model that is trained."""
        model = self._model
        assert isinstance(model, ExpertModel | MixtureModel), type(model)
        return model

    def __init__(
        self,
        config: MoegsPipelineConfig,
        device: str | torch.device,
        test_mode: Literal["test", "val", "inference"] = "val",
        **kwargs: Any,
    ) -> None:
        super().__init__(config, str(device), test_mode, **kwargs)
        # nerfstudio's viewer finds its controls among the pipeline's attributes.
        self.training_cameras = TrainingCameras(self.datamanager)
        self.live_viewer = LiveViewer(self.model, self.datamanager)
        self.render_threads = RenderThreads()
        if test_mode == "val":  # nerfstudio's name for training
            self.datamanager.sampler = self.model.make_sampler(self.datamanager.frame_table)
            with fitting("The checkpoint of a run that is named"):
                self.model.begin_training()
            self.model.to(device)

    def train(self, mode: bool = True) -> "MoegsPipeline":
        """Skip the recursive `train()` when the mode is unchanged: nerfstudio asks every step."""
        return self if self.training == mode == self.model.training else super().train(mode)

    def get_train_loss_dict(
        self, step: int
    ) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
        """Outputs, losses and, where somebody looks at them, figures of a step."""
        view, batch = self.datamanager.next_train_view(step)
        outputs = self.model.training_outputs(view)
        is_logged = step % self.steps_per_log == 0
        metrics = self.model.get_metrics_dict(outputs, batch) if is_logged else {}
        return outputs, self.model.get_loss_dict(outputs, batch, metrics), metrics

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Load the model's state; all names and shapes but the number of Gaussians must match."""
        self.model.update_to_step(step)
        state = model_state(loaded_state)
        check_number_of_frames(state, scene_of(self.model.kwargs))
        if is_compact(loaded_state):
            state |= self.model.recipe.state_dict(prefix=RECIPE)
        with fitting("The checkpoint"):
            self.model.load_state_dict(state, strict=True)


def load_pipeline(run: Run, test_mode: str = "test") -> MoegsPipeline:
    """The run's pipeline with its trained weights, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = run.config.pipeline.setup(device=device, test_mode=test_mode)
    pipeline.eval()
    pipeline.load_pipeline(load_checkpoint(run.checkpoint_path)["pipeline"], step=0)
    return pipeline


# ---- the trainer ----


@dataclass
class MoegsTrainerConfig(TrainerConfig):
    """Configuration of a run of one of our methods."""

    _target: type = field(default_factory=lambda: MoegsTrainer)
    pipeline: MoegsPipelineConfig = field(default_factory=MoegsPipelineConfig)
    prompt: tyro.conf.Suppress[str | None] = None
    """Hidden, since nothing is made from text."""
    recipe: tyro.conf.Suppress[Literal["defaults", "published"]] = "defaults"
    """Whether the method's numbers are this project's own (docs/defaults.md) or those published for
    one data set; options that were given in addition are not counted."""

    def set_timestamp(self) -> None:
        """Check the options and make paths absolute; nerfstudio calls this before it prints or
        writes anything."""
        super().set_timestamp()
        self.output_dir = resolved(self.output_dir, "--output-dir")
        check_place(self.experiment_name, self.timestamp)
        datamanager = self.pipeline.datamanager
        for owner in (self, datamanager, datamanager.dataparser):
            data = getattr(owner, "data", None)
            if data is not None:
                owner.data = resolved(data, "the data")
        if self.machine.device_type == "cuda" and not torch.cuda.is_available():
            self.machine.device_type = "cpu"
        num_devices = self.machine.num_devices * self.machine.num_machines
        if num_devices != 1:
            raise ValueError(
                f"One device trains a run here, but {num_devices} are named "
                "(--machine.num-devices, --machine.num-machines); train several runs side by side "
                "instead."
            )
        go_on_as_named(self)
        self.pipeline.model.check(self)
        check_numbers(self)
        check_folder(self)
        stop_with_advice(self)

    def setup(self, **kwargs: Any) -> "MoegsTrainer":
        """Train what this training needs, save the config that names it, and build the trainer."""
        claim(self.get_base_dir())
        try:
            self.pipeline.model.prepare(self)
            self.save_config()
            return super().setup(**kwargs)
        except BaseException:
            give_up(self.get_base_dir())
            raise

    def get_base_dir(self) -> Path:
        """The run's folder; that of the file named as --load-config if the command names one."""
        named = named_config_path()
        if named is not None and (named.parent / model_dir(self)).is_dir():
            return named.parent.resolve()
        return super().get_base_dir()

    def get_checkpoint_dir(self) -> Path:
        """The folder of checkpoints; before a tool reads the newest one it is looked at here, also
        for code that torch before 2.6 would run, and so is what the tool wants to do with it."""
        folder = super().get_checkpoint_dir()
        if named_config_path() is not None:
            check_command(sys.argv)
            newest = newest_checkpoint(folder)
            load_checkpoint(newest, is_mapped=True)
            # nerfstudio would read a step from the name of every file in the folder.
            self.load_step = step_of(newest)
        return folder

    def save_config(self) -> None:
        """Write config.yml, under a temporary name first, once the folder is this training's."""
        if claim(self.get_base_dir()):
            check_folder(self)
        path = self.get_base_dir() / CONFIG_NAME
        atomic_write_text(path, yaml.dump(self), "run's configuration", ANOTHER_FOLDER)


def drop_times(events: list[dict[str, Any]]) -> None:
    """Remove the times of a step from the events that nerfstudio is going to log."""
    events[:] = [event for event in events if event["name"] not in STEP_TIMES]


class MoegsOptimizers(Optimizers):
    """nerfstudio's optimisers; learning rates go to the log only when the log is written."""

    steps_per_log: int = 1

    def scheduler_step_all(self, step: int) -> None:
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
        # Not the one that `get_checkpoint_dir` chose for tools.
        self.config.load_step = config.load_step
        self.total_steps = self.config.max_num_iterations
        self._sum_of_losses = torch.zeros(())
        self._earlier_seconds = 0.0
        self._started = time.perf_counter()

    def setup_optimizers(self) -> MoegsOptimizers:
        """The optimisers, told how often the log is written."""
        groups = self.pipeline.get_param_groups()
        optimizers = MoegsOptimizers(self.config.optimizers.copy(), groups)
        steps_per_log = max(1, self.config.logging.steps_per_log)
        optimizers.steps_per_log = self.pipeline.steps_per_log = steps_per_log
        return optimizers

    def _load_checkpoint(self) -> None:
        content = check_resumed_checkpoint(self.config)
        if content is not None:
            check_resumed_scene(self.config, content, scene_of(self.pipeline.model.kwargs))
            # Runs of 0.2 tell their seconds only when they are finished.
            recorded = resumed_record(self.config).get("seconds", 0.0)
            self._earlier_seconds = content.get(SECONDS, recorded)
        super()._load_checkpoint()

    def train(self) -> None:
        """Train until the requested total of steps, also when resumed; then the folder is free."""
        try:
            with errors_are_stops():
                self._train()
        finally:
            give_up(self.base_dir)

    def _train(self) -> None:
        self._started = time.perf_counter()
        if self._start_step:
            copy_before_finish(resumed_folder(self.config) or self.base_dir, self.base_dir)
            if self._start_step >= self.total_steps:
                self._end_finished()
                return
            self.config.max_num_iterations = remaining_steps(self.total_steps, self._start_step)
        # Imported modules stay alive: scanning them in every collection would stall steps.
        gc.collect()
        gc.freeze()
        try:
            super().train()
        finally:
            gc.unfreeze()

    def _end_finished(self) -> None:
        """Nothing is left to train; leave a whole run behind, as this may be another folder."""
        self.step = self._start_step - 1
        if self.step not in saved_steps(self.checkpoint_dir):
            self.save_checkpoint(self.step)
        self._write_record()
        CONSOLE.print(
            f"Finished already: {self._start_step:,} steps are trained, of {self.total_steps:,}; "
            "for more raise --budget or --max-num-iterations.",
            soft_wrap=True,
        )
        self.shutdown()

    def train_iteration(self, step: int) -> TRAIN_INTERATION_OUTPUT:
        """One step, with a clear message if memory runs out or the loss is not finite."""
        if step == self.pipeline.model.finish_starts:
            self._save_before_finish()
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
        """Also drops the step's times, which nerfstudio has just queued for the log, unless the
        log is due: writing them every step would take 3 % of it."""
        super()._update_viewer_state(step)
        if step % self.pipeline.steps_per_log != 0:
            drop_times(writer.EVENT_STORAGE)

    def _check_loss(self, step: int) -> None:
        check_not_stopped()
        if not bool(torch.isfinite(self._sum_of_losses)):
            raise self._diverged(
                f"The loss stopped being a number within the {STEPS_PER_CHECK} steps before step "
                f"{step + 1}"
            )

    def _diverged(self, what: str) -> FloatingPointError:
        saved = list(saved_steps(self.checkpoint_dir).values())
        rescue = f"resume from {saved[-1]}" if saved else "start again"
        return FloatingPointError(
            f"{what}; nothing was saved since: {rescue}, with lower learning rates "
            "(--optimizers.*.optimizer.lr) or another --machine.seed."
        )

    def save_checkpoint(self, step: int) -> None:
        """Save under a temporary name, then replace; earlier checkpoints go last, and the record of
        the whole training is written only now."""
        self._check_loss(step)
        # A few Gaussians out of sight may be lost without a trace in the loss.
        if (fault := value_fault(self.pipeline.state_dict())) is not None:
            raise self._diverged(f"At step {step + 1} {fault}")
        seconds = self._earlier_seconds + time.perf_counter() - self._started
        write_checkpoint(self.checkpoint_dir, step, self, seconds)
        if self.config.save_only_latest_checkpoint:
            for number, old in saved_steps(self.checkpoint_dir).items():
                if number != step:
                    old.unlink()
        if self.training_state == "completed":
            self._write_record()

    def _save_before_finish(self) -> None:
        """Keep the expert as it is before it sees the honest images, for routers."""
        write_before_finish(self.base_dir, self.pipeline.state_dict())

    def _train_complete_viewer(self) -> None:
        """Show what was trained until Ctrl+C, which then interrupts nothing."""
        advise(lambda: None)
        super()._train_complete_viewer()

    def _write_record(self) -> None:
        """Write training.json; the seconds of resumed sessions are added up."""
        earlier = resumed_record(self.config)
        cameras = self.pipeline.datamanager.train_dataset.cameras
        record = {
            "seconds": self._earlier_seconds + time.perf_counter() - self._started,
            "steps": self.step + 1,
            "device": self.device,
            "version": version("moegs_ns"),
            "image_size": [int(cameras.width[0, 0]), int(cameras.height[0, 0])],
            **self.pipeline.model.training_record(earlier),
        }
        write_record(self.base_dir, record)
