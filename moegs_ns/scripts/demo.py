"""`moegs demo`: every stage on a small generated scene, on any computer."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.camera_paths import FrozenTime, Orbit
from moegs_ns.experts.names import readable
from moegs_ns.launch.cli_args import output_option, run_nerfstudio
from moegs_ns.launch.jobs import LOG, progress_of
from moegs_ns.launch.option_limits import check_numbers
from moegs_ns.launch.plan import duration
from moegs_ns.reports.report import report_runs
from moegs_ns.runs.checkpoint import CONFIG_NAME, Run, open_run, read_config
from moegs_ns.scripts.browser import open_page
from moegs_ns.scripts.render import Render
from moegs_ns.scripts.stages import Stages

EXPERTS = ("moegs-stg", "moegs-4dgaussians")
VIDEOS = {"orbit": Orbit(), "frozen_time": FrozenTime()}
"""Paths of the videos by their names."""


@dataclass
class Demo:
    """Generate a scene, train two experts and their router, score them, render videos."""

    output_dir: Annotated[Path, output_option("--output-dir")] = Path("outputs/demo")
    """Folder for the scene, the runs, the report (results.html) and the videos."""
    seeds: tuple[int, ...] = (0,)
    """One mixture is trained for each."""
    stg_budget: float = 0.03
    """Fraction of the published steps that Spacetime Gaussians are trained for."""
    hexplane_budget: float = 0.06
    """Fraction of the published steps that 4DGaussians are trained for."""
    router_budget: float = 0.1
    """Fraction of the published steps that the router is trained for."""
    max_gaussians: int = 6_000
    """Bound on the Gaussians of each expert, so that two CPU cores are enough."""
    open: bool = True
    """Open the report in the browser, where there is one."""
    _stages: Stages = field(default_factory=lambda: Stages(1), init=False)

    def main(self) -> None:
        """Run all stages, say how long each took and what to look at."""
        from moegs_ns.demo.scene import write_demo_scene

        # All of them, since the router's budget would be looked at after the experts' training.
        check_numbers(self)
        if not self.seeds:
            raise ValueError("--seeds expects at least one seed, got none; leave it out for one.")
        started = time.perf_counter()
        self._stages = Stages(len(self.seeds) * (len(EXPERTS) + 1) + 3)
        scene = self.output_dir / "scene"
        with self._stages.stage("scene of ten cameras and 24 frames"):
            if not (scene / "poses_bounds.npy").is_file():
                write_demo_scene(scene)
        runs = [run for seed in self.seeds for run in self.train_all(scene, seed)]
        page, mixture = (
            self.output_dir / "results.html",
            self.run_dir("moegs-router", self.seeds[0]),
        )
        with self._stages.stage("scores on held-out views"):
            report_runs([(run,) for run in runs], page)
        with self._stages.stage("videos"):
            self.render(mixture)
        self.say_what_to_open(page, mixture, time.perf_counter() - started)

    def say_what_to_open(self, page: Path, mixture: Path, seconds: float) -> None:
        """The closing words; opens the page as well."""
        is_open = self.open and open_page(page)
        CONSOLE.print(f"Done in {duration(seconds)}. Look at it:", soft_wrap=True)
        videos = ", ".join(f"{self.output_dir / name}.mp4" for name in VIDEOS)
        for what, where in (
            ("report", f"{page}{' (opened in the browser)' if is_open else ''}"),
            ("videos", videos),
            ("viewer", f"moegs view {shlex.quote(str(mixture))}"),
        ):
            CONSOLE.print(f"  {what}  {where}", soft_wrap=True, highlight=False)

    def train_all(self, scene: Path, seed: int) -> list[Run]:
        """Both experts and the mixture for one seed."""
        budgets = dict(zip(EXPERTS, (self.stg_budget, self.hexplane_budget), strict=True))
        cap = ["--pipeline.model.recipe.densification.max-gaussians", str(self.max_gaussians)]
        one_view = ["--pipeline.model.recipe.views", "1"]  # half the time of the published two
        for method, budget in budgets.items():
            extra = one_view if method == "moegs-4dgaussians" else []
            self.train(method, scene, seed, ["--budget", str(budget), *cap, *extra])
        experts = [str(self.run_dir(method, seed) / CONFIG_NAME) for method in EXPERTS]
        options = ["--experts", *experts, "--budget", str(self.router_budget)]
        self.train("moegs-router", scene, seed, options)
        return [open_run(self.run_dir(method, seed)) for method in (*EXPERTS, "moegs-router")]

    def run_dir(self, method: str, seed: int) -> Path:
        """Where nerfstudio puts a run."""
        return self.output_dir / "runs" / method / f"seed-{seed}"

    def train(self, method: str, scene: Path, seed: int, options: Sequence[str]) -> None:
        """Run `ns-train` in this process; a run of an earlier call goes on.

        Raises:
            ValueError: an earlier call had another budget.
        """
        folder = self.run_dir(method, seed)
        checkpoint = progress_of(folder).checkpoint
        budget = options[options.index("--budget") + 1]
        if checkpoint and str(read_config(folder / CONFIG_NAME).pipeline.model.budget) != budget:
            raise ValueError(
                f"Expected the budgets of the demo that is in {self.output_dir}, but {method} was "
                f"trained there with another than {budget}; name another --output-dir."
            )
        load = ["--load-dir", str(checkpoint.parent)] if checkpoint else []
        args = [
            method, *options, *load,
            "--output-dir", str(self.output_dir), "--experiment-name", "runs",
            "--timestamp", f"seed-{seed}", "--machine.seed", str(seed),
            "--vis", "tensorboard", "--data", str(scene), "n3v-data",
        ]  # fmt: skip
        name = readable(method.removeprefix("moegs-"))
        with self._stages.stage(f"{name}, seed {seed}", folder / LOG):
            sys.stdout.write(f"{shlex.join(['ns-train', *args])}\n")
            run_nerfstudio("train", args)

    def render(self, run_dir: Path) -> None:
        """Videos of the mixture beside its gates: an orbit, and frozen time."""
        for name, path in VIDEOS.items():
            video = self.output_dir / f"{name}.mp4"
            Render(run_dir / CONFIG_NAME, path, video, outputs=("mixture", "gates")).main()
