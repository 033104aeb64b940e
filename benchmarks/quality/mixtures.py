"""Train experts side by side, then routers over them, and score all on held-out cameras.

    python -m benchmarks.quality.mixtures --name basketball --data DATA/panoptic_basketball \
        --parser panoptic-data --parser-options="--frames 0 66" --budget 0.2

With `--joint` each mixture is also trained jointly, for as many steps as the two stages take
together: those of its longest expert, then those of the router. Experts keep their schedules.
Beside the table of runs, NAME_gains tells what mixtures gain over the best of their experts.
"""

import math
import shlex
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock

import torch
import tyro
from nerfstudio.configs.method_configs import all_methods

from benchmarks.quality.image_sheets import save_sheet
from benchmarks.trainings import Trainings, num_gpus, own_options
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.executors import LocalExecutor
from moegs_ns.launch.jobs import TrainingJob, progress_of, run_side_by_side
from moegs_ns.paper.scoring import report
from moegs_ns.reports.scores import Score, print_scores

BASELINES = ("average", "constant", "oracle", "oracle_4", "oracle_16", "oracle_32")
"""What mixtures are compared with, beside their best expert; see `Score`."""


@dataclass(frozen=True, kw_only=True)
class Mixtures(Trainings):
    """One or more mixtures per seed on one scene."""

    methods: tuple[str, ...] = ("moegs-stg", "moegs-4dgaussians")
    """Experts."""
    mixtures: tuple[str, ...] | None = None
    """Experts of each mixture, joined by commas; by default one of all, if there are several. An
    empty list trains no router."""
    budget: float = 0.2
    """Fraction of the published steps of the experts."""
    router_budget: float = 1.0
    """Fraction of the published steps of the router."""
    expert_options: tuple[str, ...] = ()
    """Further options of single experts, each 'METHOD: options', or of all, 'all: options'."""
    router_options: str = ""
    """Further options of the router's training."""
    joint: bool = False
    """Also train every mixture jointly (moegs-joint), which shows every image to all experts."""
    seeds_at_once: int = 1
    """Seeds whose experts are trained side by side."""
    one_by_one: bool = False
    """One training on each GPU at a time instead of all side by side, so that times count."""

    def main(self) -> None:
        """Train, score, write."""
        started = time.perf_counter()
        scores: dict[Path, Score] = {}
        pairs: list[Pair] = []
        for first in range(0, len(self.seeds), self.seeds_at_once):
            seeds = self.seeds[first : first + self.seeds_at_once]
            # First stage: the experts of these seeds.
            stages = {seed: self.experts(seed) for seed in seeds}
            trained = self.train([each for stage in stages.values() for each in stage.values()])
            # Second stage: routers, and joint trainings, whose experts are all there.
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
                self.write(gain_rows(pairs), "_gains")
                if self.images_dir is not None:
                    sheet = self.images_dir / f"{self.name}_{router.folder.name}.jpg"
                    save_sheet(router.config_path, sheet)
            print_scores(list(scores.values()))
            torch.cuda.empty_cache()
        print(f"{(time.perf_counter() - started) / 60:.1f} minutes")

    def train(self, trainings: Sequence[TrainingJob]) -> list[TrainingJob]:
        """Those of them that are finished after training what is missing.

        One that fails is reported, and costs no other its score.
        """
        missing = [each for each in trainings if not progress_of(each.folder).is_finished]
        for each in missing:
            print("ns-train", shlex.join(each.args()), flush=True)
        shared = math.ceil(len(missing) / num_gpus()) or 1
        try:
            LocalExecutor(at_once=1 if self.one_by_one else shared).train_all(missing)
        except RuntimeError as error:
            print(f"Left out of the tables: {error}", flush=True)
        return [each for each in trainings if progress_of(each.folder).is_finished]

    def score_all(self, trained: Sequence[TrainingJob], scores: dict[Path, Score]) -> None:
        """Score runs in processes of their own, one on each GPU at a time.

        The table is written with each new score, so that nothing is lost if the time runs out.
        """
        writing = Lock()

        def score(run: TrainingJob, index: int) -> None:
            row = report(run.folder, index)
            with writing:
                scores[run.folder] = Score(**row)
                self.write([asdict(each) for each in scores.values()])

        run_side_by_side([partial(score, run) for run in trained])
        for run in trained:  # In the order of the trainings, not that in which they ended.
            scores[run.folder] = scores.pop(run.folder)
        self.write([asdict(each) for each in scores.values()])

    def experts(self, seed: int) -> dict[str, TrainingJob]:
        """Trainings of one seed's experts by method."""
        own = own_options(self.expert_options, self.methods, "--expert-options")
        return {method: self.job(method, f"seed-{seed}", seed, own[method]) for method in own}

    def routers(
        self, seed: int, experts: dict[str, TrainingJob]
    ) -> list[tuple[TrainingJob, list[TrainingJob]]]:
        """Trainings of one seed's mixtures, each with its experts."""
        found = []
        everything = (",".join(self.methods),) if len(self.methods) > 1 else ()
        for mixture in everything if self.mixtures is None else self.mixtures:
            names = mixture.split(",")
            members = [experts[method] for method in names]
            options = ["--experts", *(str(each.config_path) for each in members)]
            options += shlex.split(self.router_options)
            name = f"seed-{seed}-{'-'.join(m.removeprefix('moegs-') for m in names)}"
            router = self.job("moegs-router", name, seed, options, budget=self.router_budget)
            found.append((router, members))
            if self.joint:
                found.append((self.joint_training(names, seed, name), members))
        return found

    def joint_training(self, members: Sequence[str], seed: int, name: str) -> TrainingJob:
        """The joint training of a mixture in as many steps as its two stages."""
        router_steps = all_methods["moegs-router"].max_num_iterations * self.router_budget
        longest = max(all_methods[method].max_num_iterations for method in members)
        # Given as steps of the full recipe, of which the budget takes a fraction.
        steps = longest + round(router_steps / self.budget)
        options = ["--experts", *members, "--max-num-iterations", str(steps)]
        own = own_options(self.expert_options, self.methods, "--expert-options")
        given = [f"{method}: {shlex.join(own[method])}" for method in members if own[method]]
        options += ["--expert-options", *given] if given else []
        return self.job("moegs-joint", name, seed, options)


@dataclass(frozen=True)
class Pair:
    """A mixture beside the experts of the same seed."""

    mixture: Score
    experts: tuple[Score, ...]

    @property
    def best(self) -> float:
        """PSNR of the best expert."""
        return max(expert.psnr for expert in self.experts)

    @property
    def router_fraction(self) -> float | None:
        """Time of the router's training over that of its experts; None if one is not known, or if
        all were trained together."""
        times = [expert.train_seconds for expert in self.experts]
        router = self.mixture.train_seconds
        if self.mixture.method == "moegs-joint" or router is None or None in times:
            return None
        return router / sum(time for time in times if time is not None)


def gain_rows(pairs: Sequence[Pair]) -> list[Row]:
    """One row per mixture: means over seeds, and the spread (standard deviation) of the gain."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        members = ",".join(expert.method for expert in pair.experts)
        groups.setdefault((pair.mixture.method, members), []).append(pair)
    return [_row(method, members, group) for (method, members), group in groups.items()]


def _mean(mixtures: Sequence[Score], name: str) -> float:
    return statistics.mean(getattr(mixture, name) for mixture in mixtures)


def _row(method: str, members: str, group: Sequence[Pair]) -> Row:
    gains = [pair.mixture.psnr - pair.best for pair in group]
    mixtures = [pair.mixture for pair in group]
    fractions = [pair.router_fraction for pair in group if pair.router_fraction is not None]
    reasons = [
        *(["gain_spread: one seed"] if len(gains) == 1 else []),
        *(["router_share: trained together, or times are unknown"] if not fractions else []),
    ]
    return {
        "method": method,
        "experts": members,
        "n": len(group),
        "psnr": statistics.mean(pair.mixture.psnr for pair in group),
        "best_expert": statistics.mean(pair.best for pair in group),
        "gain": statistics.mean(gains),
        "gain_spread": statistics.stdev(gains) if len(gains) > 1 else None,
        "gain_min": min(gains),
        "gain_max": max(gains),
        **{name: _mean(mixtures, f"psnr_{name}") for name in BASELINES},
        "gain_over_average": _mean(mixtures, "psnr") - _mean(mixtures, "psnr_average"),
        "router_share": statistics.mean(fractions) if fractions else None,
        "seeds": [pair.mixture.seed for pair in group],
        "reason": "; ".join(reasons),
    }


if __name__ == "__main__":
    tyro.cli(Mixtures, description=__doc__).main()
