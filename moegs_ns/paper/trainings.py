"""The trainings of a study: where its scenes are, and the one place where their jobs are built."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nerfstudio.configs.method_configs import all_methods

from moegs_ns.launch.jobs import UNWATCHED, TrainingJob
from moegs_ns.models.expert_sources import PREFIX
from moegs_ns.models.stacking import WITHOUT
from moegs_ns.paper.published import expert_sets, variant_of
from moegs_ns.runs.checkpoint import training_record

Recipe = Literal["default", "published"]
DISTILLATION = "--pipeline.model.distillation."
SUPERVISIONS: dict[str, tuple[str, ...]] = {
    "ground-truth": (),
    "unweighted": (f"{DISTILLATION}weighting", "unweighted"),
    "gate-weighted": (),
    "gate-weighted, normalized": (f"{DISTILLATION}normalize", "True"),
}
"""Ways to be taught and their options; all but the first have the teacher."""
CAP = "--pipeline.model.recipe.densification.max-gaussians"
PUBLISHED_PRUNING = ("--prune-criterion", "gate-gradient", "--prune-rounds", "5")
"""Equation 10 in rounds; the paper says "progressively" and not how many."""


@dataclass(frozen=True)
class Scene:
    """One of the scenes that a study's tables are about."""

    name: str
    """What its row is called."""
    data: Path


@dataclass(frozen=True, kw_only=True)
class Study:
    """What all trainings of a call have in common."""

    scenes: tuple[Scene, ...]
    parser: tuple[str, ...]
    """Name of the parser of all scenes and its options."""
    recipe: Recipe = "default"
    """Whose numbers experts and routers have: this project's, or those published for the data set
    that a table is about."""
    set_name: str | None = None
    """Name of the set of experts of every table; None for each table's own."""
    experts: tuple[str, ...] = ()
    """Experts of every table by method, without prefix, instead of a set."""
    seeds: tuple[int, ...] = ()
    """Of every table; none for each table's own."""
    budget: float = 1.0
    """Fraction of the steps of all experts."""
    router_budget: float = 1.0
    """Fraction of the steps of all routers."""
    options: tuple[str, ...] = ()
    """Further options of every training."""
    own_options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Further options of experts and students, by method with prefix; variants that were published
    have those of the method that they are of."""
    output_dir: Path = Path("outputs")

    def set_of(self, own: str) -> tuple[str, ...]:
        """Experts to mix where a table has this set of its own."""
        return self.experts or expert_sets()[self.set_name or own].experts

    @property
    def has_own_set(self) -> bool:
        """Whether tables have other experts than the paper's."""
        return bool(self.experts or self.set_name)


@dataclass(frozen=True)
class Trainings:
    """The trainings of one scene and seed, for tables about one data set of the paper."""

    study: Study
    data_set: str
    """Whose published variants are trained, if any are."""
    scene: Scene
    seed: int

    def method(self, name: str) -> str:
        """The method that is trained for an expert or router, named without prefix."""
        variant = f"{PREFIX}{name}-{variant_of(self.data_set)}"
        is_published = self.study.recipe == "published" and variant in all_methods
        return variant if is_published else PREFIX + name

    def expert(self, name: str, share: float = 1.0, options: Sequence[str] = ()) -> TrainingJob:
        """An expert, with a share of the study's budget."""
        budget = float(f"{self.study.budget * share:.6g}")
        own = self.study.own_options.get(PREFIX + name, ())
        return self._job(self.method(name), budget, (*options, *own))

    def experts(self, names: Sequence[str]) -> list[TrainingJob]:
        """Several experts."""
        return [self.expert(name) for name in names]

    def mixture(
        self,
        experts: Sequence[TrainingJob],
        router: str = "router",
        *,
        is_corrected: bool = True,
    ) -> TrainingJob:
        """A router over experts, whose gates are corrected by copies of these if that is the
        default of the recipe, unless they are not to be."""
        gates = () if is_corrected and self.study.recipe == "default" else WITHOUT
        names = ("--experts", *(str(each.config_path) for each in experts))
        return self._job(self.method(router), self.study.router_budget, (*gates, *names))

    def joint(self, names: Sequence[str]) -> TrainingJob:
        """Experts that are trained together with their router, each for the steps of the longest
        one, and with the options that it has alone."""
        methods = [self.method(name) for name in names]
        steps = max(all_methods[method].max_num_iterations for method in methods)
        options = ["--experts", *methods, "--max-num-iterations", str(steps)]
        own = [
            f"{method}: {shlex.join(self.study.own_options[PREFIX + name])}"
            for name, method in zip(names, methods, strict=True)
            if self.study.own_options.get(PREFIX + name)
        ]
        options += ["--expert-options", *own] if own else []
        return self._job(f"{PREFIX}joint", self.study.budget, options)

    def pruned(self, mixture: TrainingJob, ratio: float) -> TrainingJob:
        """A mixture without a fraction of its Gaussians, and its router trained on: in one round by
        the default criterion, or as published."""
        how = PUBLISHED_PRUNING if self.study.recipe == "published" else ()
        options = ("--router", str(mixture.config_path), "--prune-ratio", str(ratio), *how)
        return self._job(mixture.method, self.study.router_budget, options)

    def student(self, name: str, teacher: TrainingJob, supervision: str) -> TrainingJob:
        """An expert that a mixture teaches, with at most as many Gaussians as the one of the same
        seed that learned from the ground truth alone, once that is known."""
        if supervision == "ground-truth":
            return self.expert(name)
        count = training_record(self.expert(name).folder).get("gaussians")
        cap = (CAP, str(count)) if count is not None else ()
        taught = ("--teacher", str(teacher.config_path), *SUPERVISIONS[supervision])
        return self.expert(name, options=(*taught, *cap))

    def _job(self, method: str, budget: float, options: Sequence[str]) -> TrainingJob:
        study = self.study
        job = TrainingJob(
            method, (*options, *study.options), self.scene.data, study.parser, budget, self.seed,
            study.output_dir, self.scene.data.stem, without_effect=UNWATCHED,
        )  # fmt: skip
        return replace(job, part=self.scene.name) if len(study.scenes) > 1 else job


def seconds_of(job: TrainingJob) -> float | None:
    """What a finished training took; None if it is not finished, or its record does not say it."""
    # The record is written last, so it needs no look at the checkpoints.
    return training_record(job.folder).get("seconds")
