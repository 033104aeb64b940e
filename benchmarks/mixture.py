"""Train experts side by side, then their router, and score all on held-out cameras.

    python benchmarks/mixture.py --name basketball --data DATA/panoptic_basketball \
        --parser panoptic-data --parser-options="--frames 0 66" --budget 0.2
"""

import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from measure import start_training, wait_for_training
from pictures import save_sheet

from moegs_ns.cli.report import print_scores, score_run
from moegs_ns.cli.results import write_results
from moegs_ns.models.checkpoints import open_run

RESULTS = Path(__file__).parent / "results"


@dataclass
class Mixture:
    """One mixture per seed on one scene."""

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
    budget: float = 0.2
    """Share of the published steps of the experts."""
    router_budget: float = 1.0
    """Share of the published steps of the router."""
    train_options: str = ""
    """Further options of every training, for example --val-cameras."""
    expert_options: tuple[str, ...] = ()
    """Further options of single experts, each 'METHOD: options'."""
    router_options: str = ""
    """Further options of the router's training."""
    seeds: tuple[int, ...] = (0,)
    output_dir: Path = Path("outputs/benchmark")
    results_dir: Path = RESULTS
    """Where the table goes."""
    pictures_dir: Path | None = None
    """Where sheets of pictures go; None for none."""

    def main(self) -> None:
        """Train, score, write."""
        started, scores = time.perf_counter(), []
        for seed in self.seeds:
            self.train_side_by_side(seed)
            experts = [str(self.config(method, seed)) for method in self.methods]
            options = ["--experts", *experts, *shlex.split(self.router_options)]
            router = self.start("moegs-router", seed, self.router_budget, options)
            wait_for_training(router)
            for method in (*self.methods, "moegs-router"):
                scores.append(score_run(open_run(self.config(method, seed))))
            print_scores(scores)
            if self.pictures_dir is not None:
                sheet = self.pictures_dir / f"{self.name}_seed{seed}.jpg"
                save_sheet(self.config("moegs-router", seed), sheet)
            # Written after every seed, so that nothing is lost if the time runs out.
            command = shlex.join(["python", *sys.argv])
            rows = [asdict(score) for score in scores]
            write_results(self.results_dir / f"{self.name}.json", rows, command)
            torch.cuda.empty_cache()
        print(f"{(time.perf_counter() - started) / 60:.1f} minutes")

    def train_side_by_side(self, seed: int) -> None:
        """All experts at once: small scenes leave most of a GPU idle."""
        own = dict(words.split(":", 1) for words in self.expert_options)
        started = [
            self.start(method, seed, self.budget, shlex.split(own.get(method, "")), place)
            for place, method in enumerate(self.methods)
            if not self.is_trained(method, seed)
        ]
        for process in started:
            wait_for_training(process)

    def config(self, method: str, seed: int) -> Path:
        """Where nerfstudio writes the config of a run."""
        return self.output_dir / self.name / method / f"seed-{seed}" / "config.yml"

    def is_trained(self, method: str, seed: int) -> bool:
        """Whether the run was finished before."""
        return (self.config(method, seed).parent / "training.json").is_file()

    def start(
        self, method: str, seed: int, budget: float, options: list[str], place: int = 0
    ) -> tuple[subprocess.Popen, Path]:
        """Start one training on the GPU whose turn it is; its output goes to a log."""
        arguments = [
            method, *options, "--budget", str(budget), *shlex.split(self.train_options),
            "--output-dir", str(self.output_dir), "--experiment-name", self.name,
            "--timestamp", f"seed-{seed}", "--machine.seed", str(seed), "--vis", "tensorboard",
            "--steps-per-eval-image", "0", "--data", str(self.data), self.parser,
            *shlex.split(self.parser_options),
        ]  # fmt: skip
        return start_training(
            arguments, self.output_dir / f"{self.name}_{method}_{seed}.log", place
        )


if __name__ == "__main__":
    tyro.cli(Mixture, description=__doc__).main()
