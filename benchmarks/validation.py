"""Compare options of methods on validation cameras taken from the training set, runs side by side.

    python benchmarks/validation.py --name points --data DATA/panoptic_basketball \
        --parser panoptic-data --parser-options="--frames 0 66" --val-cameras 4 12 20 26 \
        --variants "sparse: moegs-stg --budget 0.2" \
                   "dense: moegs-stg --budget 0.2 | --min-points 40000"

Runs are dealt out over all GPUs. Variants of the router name experts that were trained with the
same validation cameras kept back, so that these are new to both stages.
"""

import json
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

from moegs_ns.evaluation.tables import write_results
from moegs_ns.launch.jobs import run_module

SCORES = "scores.json"


@dataclass
class Validation:
    """Train every variant at once and score it on the validation cameras."""

    name: str
    """Name of the results file."""
    data: Path
    parser: str
    variants: tuple[str, ...]
    """Each 'NAME: METHOD [options] | [options of the parser]'."""
    val_cameras: tuple[int, ...]
    """Training cameras that are kept back."""
    parser_options: str = ""
    at_once: int = 32
    """Runs that are trained side by side at most; 1 on a CPU."""
    output_dir: Path = Path("outputs/validation")
    results_dir: Path = Path(__file__).parent / "results"

    def main(self) -> None:
        """Train, score, write."""
        with ThreadPoolExecutor(self.at_once) as pool:
            results = list(pool.map(self.train_and_score, range(len(self.variants))))
        rows = [row for row in results if row is not None]
        command = shlex.join(["python", *sys.argv])
        write_results(self.results_dir / f"{self.name}.json", rows, command)
        print((self.results_dir / f"{self.name}.md").read_text())

    def folder(self, place: int) -> Path:
        """Folder of a variant's run."""
        name, method, _ = self.parsed(place)
        return self.output_dir / self.name / method[0] / name

    def parsed(self, place: int) -> tuple[str, list[str], list[str]]:
        """Name of a variant, its method with options, and its options of the parser."""
        name, _, words = self.variants[place].partition(":")
        options, _, parser_options = words.partition("|")
        return name, shlex.split(options), shlex.split(parser_options)

    def words(self, place: int) -> list[str]:
        """What trains a variant, as it is given to Python's -m."""
        name, method, parser_options = self.parsed(place)
        return [
            "nerfstudio.scripts.train", *method, "--output-dir", str(self.output_dir),
            "--experiment-name", self.name, "--timestamp", name,
            "--vis", "tensorboard", "--steps-per-eval-image", "0",
            "--val-cameras", *map(str, self.val_cameras), "--data", str(self.data), self.parser,
            *shlex.split(self.parser_options), *parser_options,
        ]  # fmt: skip

    def train_and_score(self, place: int) -> dict | None:
        """Row of one variant; None if it failed, with the end of its log printed."""
        name, _, _ = self.parsed(place)
        run, train = self.folder(place), self.words(place)
        run.mkdir(parents=True, exist_ok=True)
        score = ["moegs_ns.scripts.main", "report", str(run), "--output-path", str(run / SCORES)]
        for module in (train, score):
            if run_module(module, place, run / "log.txt") != 0:
                print(f"{name} failed:", (run / "log.txt").read_text()[-2000:], flush=True)
                return None
        row = json.loads((run / SCORES).read_text())["rows"][0]
        print(f"{name}: {row['psnr']:.2f} dB", flush=True)
        return {"variant": name, **row}


if __name__ == "__main__":
    tyro.cli(Validation, description=__doc__).main()
