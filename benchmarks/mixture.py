"""Train experts side by side, then routers over them, and score all on held-out cameras.

    python benchmarks/mixture.py --name basketball --data DATA/panoptic_basketball \
        --parser panoptic-data --parser-options="--frames 0 66" --budget 0.2

With `--joint` each mixture is also trained jointly, for as many steps as the two stages take
together: those of its longest expert, then those of the router. Experts keep their schedules.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from measure import UNSEEN
from nerfstudio.configs.method_configs import all_methods
from pictures import save_sheet

from moegs_ns.cli.report import print_scores, score_run
from moegs_ns.cli.results import write_results
from moegs_ns.models.checkpoints import open_run
from moegs_ns.models.trainings import Training, progress_of, train_side_by_side, visible_devices

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
    """Experts of each mixture, joined by commas; by default one mixture of all."""
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
    output_dir: Path = Path("outputs/benchmark")
    results_dir: Path = RESULTS
    """Where the table goes."""
    pictures_dir: Path | None = None
    """Where sheets of pictures go; None for none."""

    def main(self) -> None:
        """Train, score, write."""
        started, scores = time.perf_counter(), []
        for seed in self.seeds:
            trainings = self.train(seed)
            for each in trainings:
                scores.append(score_run(open_run(each.folder)))
                # Written after every run, so that nothing is lost if the time runs out.
                rows = [asdict(score) for score in scores]
                command = shlex.join(["python", *sys.argv])
                write_results(self.results_dir / f"{self.name}.json", rows, command)
            print_scores(scores)
            if self.pictures_dir is not None:
                for router in trainings[len(self.methods) :]:
                    sheet = self.pictures_dir / f"{self.name}_{router.folder.name}.jpg"
                    save_sheet(router.config_path, sheet)
            torch.cuda.empty_cache()
        print(f"{(time.perf_counter() - started) / 60:.1f} minutes")

    def training(
        self, method: str, seed: int, budget: float, options: Sequence[str], name: str
    ) -> Training:
        """A training on the scene."""
        return Training(
            method=method,
            options=(*options, *shlex.split(self.train_options)),
            data=self.data,
            parser=(self.parser, *shlex.split(self.parser_options)),
            budget=budget,
            seed=seed,
            output_dir=self.output_dir,
            experiment=self.name,
            name=name,
            unseen=UNSEEN,
        )

    def train(self, seed: int) -> list[Training]:
        """All experts at once, since small scenes leave most of a GPU idle, then the routers."""
        given = dict(words.split(":", 1) for words in self.expert_options)
        unknown = set(given) - {"all", *self.methods}
        if unknown:
            raise ValueError(
                f"--expert-options expects 'all' or one of {list(self.methods)} before each colon, "
                f"got {sorted(unknown)}."
            )
        own = {m: f"{given.get('all', '')} {given.get(m, '')}" for m in self.methods}
        experts = [
            self.training(method, seed, self.budget, shlex.split(own[method]), f"seed-{seed}")
            for method in self.methods
        ]
        train_missing(experts)
        configs = {each.method: str(each.config_path) for each in experts}
        routers = []
        for words in self.mixtures or (",".join(self.methods),):
            members = words.split(",")
            options = ["--experts", *(configs[method] for method in members)]
            options += shlex.split(self.router_options)
            name = f"seed-{seed}-{'-'.join(m.removeprefix('moegs-') for m in members)}"
            routers.append(self.training("moegs-router", seed, self.router_budget, options, name))
            if self.joint:
                routers.append(self.joint_training(members, seed, own, name))
        train_missing(routers)
        return [*experts, *routers]

    def joint_training(
        self, members: Sequence[str], seed: int, own: dict[str, str], name: str
    ) -> Training:
        """The joint training of a mixture in as many steps as its two stages."""
        router_steps = all_methods["moegs-router"].max_num_iterations * self.router_budget
        longest = max(all_methods[method].max_num_iterations for method in members)
        # Given as steps of the full recipe, of which the budget takes a share.
        steps = longest + round(router_steps / self.budget)
        options = ["--experts", *members, "--max-num-iterations", str(steps)]
        words = [f"{method}: {own[method].strip()}" for method in members if own[method].strip()]
        options += ["--expert-options", *words] if words else []
        return self.training("moegs-joint", seed, self.budget, options, name)


def train_missing(trainings: Sequence[Training]) -> None:
    """Train at once, over all GPUs, what was not trained before."""
    missing = [each for each in trainings if not progress_of(each.folder).is_finished]
    for each in missing:
        print("ns-train", shlex.join(each.words()), flush=True)
    train_side_by_side(missing, at_once=-(-len(missing) // max(1, len(visible_devices()))) or 1)


if __name__ == "__main__":
    tyro.cli(Mixture, description=__doc__).main()
