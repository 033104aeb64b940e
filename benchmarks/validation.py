"""Compare options of experts on validation cameras taken from the training set, runs side by side.

    python benchmarks/validation.py --name points --data DATA/panoptic_basketball \
        --parser panoptic-data --parser-options="--frames 0 66" --val-cameras 4 12 20 26 \
        --variants "sparse: moegs-stg --budget 0.2" \
                   "dense: moegs-stg --budget 0.2 | --min-points 40000"
"""

import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from moegs_ns.cli.report import score_run
from moegs_ns.cli.results import write_results
from moegs_ns.models.checkpoints import open_run


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
    output_dir: Path = Path("outputs/validation")
    results_dir: Path = Path(__file__).parent / "results"

    def main(self) -> None:
        """Train, score, write."""
        started = [self.start(variant) for variant in self.variants]
        rows = []
        for name, process, config in started:
            if process.wait() != 0:
                print(f"{name} failed:", config.with_name("log.txt").read_text()[-2000:])
                continue
            rows.append({"variant": name, **asdict(score_run(open_run(config)))})
        command = shlex.join(["python", *sys.argv])
        write_results(self.results_dir / f"{self.name}.json", rows, command)
        print((self.results_dir / f"{self.name}.md").read_text())

    def start(self, variant: str) -> tuple[str, subprocess.Popen, Path]:
        """Start one training."""
        name, _, words = variant.partition(":")
        options, _, parser_options = words.partition("|")
        method, *rest = shlex.split(options)
        folder = self.output_dir / self.name / method / name
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-W", "ignore", "-m", "nerfstudio.scripts.train", method, *rest,
            "--output-dir", str(self.output_dir), "--experiment-name", self.name,
            "--timestamp", name, "--vis", "tensorboard", "--steps-per-eval-image", "0",
            "--val-cameras", *map(str, self.val_cameras), "--data", str(self.data), self.parser,
            *shlex.split(self.parser_options), *shlex.split(parser_options),
        ]  # fmt: skip
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        return name, process, folder / "config.yml"


if __name__ == "__main__":
    tyro.cli(Validation, description=__doc__).main()
