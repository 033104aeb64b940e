"""Train experts side by side, then routers over them, and score all on held-out cameras.

    python benchmarks/mixture.py --name basketball --data DATA/panoptic_basketball \
        --parser panoptic-data --parser-options="--frames 0 66" --budget 0.2

With `--joint` each mixture is also trained jointly, for as many steps as the two stages take
together: those of its longest expert, then those of the router. Experts keep their schedules.
Beside the table of runs, NAME_gains tells what mixtures gain over the best of their experts.
"""

import json
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
import tyro
from gains import Pair, gain_rows
from measure import UNSEEN
from nerfstudio.configs.method_configs import all_methods
from pictures import save_sheet

from moegs_ns.evaluation.tables import write_results
from moegs_ns.launch.jobs import (
    TrainingJob,
    progress_of,
    run_module,
    run_side_by_side,
    train_side_by_side,
    visible_devices,
)
from moegs_ns.reports.scores import Score, print_scores, score_run
from moegs_ns.runs.checkpoint import open_run

RESULTS = Path(__file__).parent / "results"


@dataclass
class Mixture:
    """One or more mixtures per seed on one scene."""

    name: str
    """Name of the results file."""
    data: Path
    """Folder of the scene."""
    parser: str
    """nerfstudio's name of the parser."""
    parser_options: str = ""
    """Options of the parser as they would be typed, for example "--frames 0 66"."""
    methods: tuple[str, ...] = ("moegs-stg", "moegs-4dgaussians")
    """Experts."""
    mixtures: tuple[str, ...] = ()
    """Experts of each mixture, joined by commas; by default one of all, if there are several."""
    budget: float = 0.2
    """Share of the published steps of the experts."""
    router_budget: float = 1.0
    """Share of the published steps of the router."""
    train_options: str = ""
    """Further options of every training, for example --val-cameras."""
    expert_options: tuple[str, ...] = ()
    """Further options of single experts, each 'METHOD: options', or of all, 'all: options'."""
    router_options: str = ""
    """Further options of the router's training."""
    joint: bool = False
    """Also train every mixture jointly (moegs-joint), which shows every image to all experts."""
    seeds: tuple[int, ...] = (0,)
    seeds_at_once: int = 1
    """Seeds whose experts are trained side by side."""
    one_by_one: bool = False
    """One training on each GPU at a time instead of all side by side, so that times count."""
    output_dir: Path = Path("outputs/benchmark")
    results_dir: Path = RESULTS
    """Where the table goes."""
    pictures_dir: Path | None = None
    """Where sheets of pictures go; None for none."""

    def main(self) -> None:
        """Train, score, write."""
        started = time.perf_counter()
        scores: dict[Path, Score] = {}
        pairs: list[Pair] = []
        for first in range(0, len(self.seeds), self.seeds_at_once):
            seeds = self.seeds[first : first + self.seeds_at_once]
            stages = {seed: self.experts(seed) for seed in seeds}
            wanted = [each for stage in stages.values() for each in stage.values()]
            trained = self.train(wanted)
            mixtures = [
                (router, experts)
                for seed in seeds
                for router, experts in self.routers(seed, stages[seed])
                if all(expert in trained for expert in experts)
            ]
            routers = self.train([router for router, _ in mixtures])
            self.score_all([*trained, *routers], scores)
            for router, experts in mixtures:
                if router not in routers:
                    continue
                own = tuple(scores[each.folder] for each in experts)
                pairs.append(Pair(scores[router.folder], own))
                self.write("_gains", gain_rows(pairs))
                if self.pictures_dir is not None:
                    sheet = self.pictures_dir / f"{self.name}_{router.folder.name}.jpg"
                    save_sheet(router.config_path, sheet)
            print_scores(list(scores.values()))
            torch.cuda.empty_cache()
        print(f"{(time.perf_counter() - started) / 60:.1f} minutes")

    def train(self, trainings: Sequence[TrainingJob]) -> list[TrainingJob]:
        """Those of them that are finished after training what is missing.

        One that fails is told, and costs no other its score.
        """
        missing = [each for each in trainings if not progress_of(each.folder).is_finished]
        for each in missing:
            print("ns-train", shlex.join(each.args()), flush=True)
        shared = math.ceil(len(missing) / max(1, len(visible_devices()))) or 1
        try:
            train_side_by_side(missing, at_once=1 if self.one_by_one else shared)
        except RuntimeError as error:
            print(f"Left out of the tables: {error}", flush=True)
        return [each for each in trainings if progress_of(each.folder).is_finished]

    def score_all(self, trained: Sequence[TrainingJob], scores: dict[Path, Score]) -> None:
        """Score runs, in a process on each GPU if there are several."""
        if len(visible_devices()) < 2:
            for run in trained:
                self.score(run, scores)
            return
        writing = Lock()

        def score_apart(run: TrainingJob, place: int) -> None:
            score = scored_by_command(run.folder, place)
            with writing:
                self.keep(run, score, scores)

        run_side_by_side([partial(score_apart, run) for run in trained])
        for run in trained:  # in the order that was asked for, not that of their ends
            self.keep(run, scores.pop(run.folder), scores)

    def score(self, trained: TrainingJob, scores: dict[Path, Score]) -> None:
        """Score a run in this process."""
        self.keep(trained, score_run(open_run(trained.folder)), scores)

    def keep(self, trained: TrainingJob, score: Score, scores: dict[Path, Score]) -> None:
        """Write the table with each new score, so that nothing is lost if the time runs out."""
        scores[trained.folder] = score
        self.write("", [asdict(each) for each in scores.values()])

    def write(self, suffix: str, rows: list[dict[str, Any]]) -> None:
        """A table named after this one."""
        command = shlex.join(["python", *sys.argv])
        write_results(self.results_dir / f"{self.name}{suffix}.json", rows, command)

    def training(
        self, method: str, seed: int, budget: float, options: Sequence[str], name: str
    ) -> TrainingJob:
        """A training on the scene."""
        return TrainingJob(
            method=method,
            options=(*options, *shlex.split(self.train_options)),
            data=self.data,
            parser=(self.parser, *shlex.split(self.parser_options)),
            budget=budget,
            seed=seed,
            output_dir=self.output_dir,
            experiment=self.name,
            name=name,
            without_effect=UNSEEN,
        )

    def experts(self, seed: int) -> dict[str, TrainingJob]:
        """Trainings of one seed's experts by method."""
        own = self.own_options()
        return {
            method: self.training(method, seed, self.budget, own[method], f"seed-{seed}")
            for method in self.methods
        }

    def own_options(self) -> dict[str, list[str]]:
        """Further options of every expert."""
        given = dict(words.split(":", 1) for words in self.expert_options)
        unknown = set(given) - {"all", *self.methods}
        if unknown:
            raise ValueError(
                f"--expert-options expects 'all' or one of {list(self.methods)} before each colon, "
                f"got {sorted(unknown)}."
            )
        shared = given.get("all", "")
        return {m: shlex.split(f"{shared} {given.get(m, '')}") for m in self.methods}

    def routers(
        self, seed: int, experts: dict[str, TrainingJob]
    ) -> list[tuple[TrainingJob, list[TrainingJob]]]:
        """Trainings of one seed's mixtures, each with its experts."""
        found = []
        everything = (",".join(self.methods),) if len(self.methods) > 1 else ()
        for words in self.mixtures or everything:
            names = words.split(",")
            members = [experts[method] for method in names]
            options = ["--experts", *(str(each.config_path) for each in members)]
            options += shlex.split(self.router_options)
            name = f"seed-{seed}-{'-'.join(m.removeprefix('moegs-') for m in names)}"
            router = self.training("moegs-router", seed, self.router_budget, options, name)
            found.append((router, members))
            if self.joint:
                found.append((self.joint_training(names, seed, name), members))
        return found

    def joint_training(self, members: Sequence[str], seed: int, name: str) -> TrainingJob:
        """The joint training of a mixture in as many steps as its two stages."""
        router_steps = all_methods["moegs-router"].max_num_iterations * self.router_budget
        longest = max(all_methods[method].max_num_iterations for method in members)
        # Given as steps of the full recipe, of which the budget takes a share.
        steps = longest + round(router_steps / self.budget)
        options = ["--experts", *members, "--max-num-iterations", str(steps)]
        own = self.own_options()
        words = [f"{method}: {shlex.join(own[method])}" for method in members if own[method]]
        options += ["--expert-options", *words] if words else []
        return self.training("moegs-joint", seed, self.budget, options, name)


def scored_by_command(folder: Path, place: int) -> Score:
    """What `moegs report` says of a run, on the GPU that the place is given.

    Raises:
        RuntimeError: it failed; what it printed is beside its table in the run's folder.
    """
    table = folder / "score.json"
    words = ["moegs_ns.scripts.main", "report", str(folder), "--output-path", str(table)]
    if run_module(words, place, table.with_suffix(".log")) != 0:
        raise RuntimeError(f"Scoring {folder} failed; see {table.with_suffix('.log')}.")
    [row] = json.loads(table.read_text())["rows"]
    return Score(**row)


if __name__ == "__main__":
    tyro.cli(Mixture, description=__doc__).main()
