"""Compare options of methods on validation cameras taken from the training set, runs side by side.

    python -m benchmarks.quality.validation --name points --data DATA/panoptic_basketball \
        --parser panoptic-data --parser-options="--frames 0 66" --val-cameras 4 12 20 26 \
        --variants "sparse: moegs-stg --budget 0.2" \
                   "dense: moegs-stg --budget 0.2 | --min-points 40000"

Variants of the router name experts that were trained with the same validation cameras kept back, so
that these are new to both stages.
"""

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import tyro

from benchmarks.trainings import Trainings, train_and_report_all
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.jobs import TrainingJob


@dataclass(frozen=True, kw_only=True)
class Validation(Trainings):
    """Train every variant and score it on the validation cameras."""

    variants: tuple[str, ...]
    """Each 'NAME: METHOD [options] | [options of the parser]'; its --budget and --machine.seed
    take the place of the table's."""
    val_cameras: tuple[int, ...]
    """Training cameras that are kept back."""
    seeds: tuple[int, ...] = (42,)
    """Every variant is trained once for each; more than one are added to its name."""
    at_once: int = 32
    """Runs that are trained side by side at most; 1 on a CPU."""

    def rows(self) -> Iterator[Row | None]:
        jobs = self.jobs()
        rows = train_and_report_all(list(jobs.values()), self.at_once)
        for name, row in zip(jobs, rows, strict=True):
            yield row and {"variant": name, **row}

    def jobs(self) -> dict[str, TrainingJob]:
        """Trainings by the name of their variant, seed by seed."""
        return dict(self.variant(text, seed) for seed in self.seeds for text in self.variants)

    def variant(self, text: str, seed: int) -> tuple[str, TrainingJob]:
        """Name and training of a variant."""
        name, _, args = text.partition(":")
        name += f"-seed-{seed}" if len(self.seeds) > 1 else ""
        options, _, parser_options = args.partition("|")
        method, *options = shlex.split(options)
        numbers = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        numbers.add_argument("--budget", type=float, default=self.budget)
        numbers.add_argument("--machine.seed", dest="seed", type=int, default=seed)
        own, options = numbers.parse_known_args(options)
        options = ["--val-cameras", *map(str, self.val_cameras), *options]
        return name, self.job(
            method, name, own.seed, options, budget=own.budget,
            parser_options=shlex.split(parser_options),
        )  # fmt: skip


if __name__ == "__main__":
    tyro.cli(Validation, description=__doc__).main()
