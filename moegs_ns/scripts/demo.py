"""`moegs demo`: every stage on a small generated scene, on any computer."""

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.camera_paths import FrozenTime, Orbit
from moegs_ns.launch.cli_args import output_option, run_nerfstudio
from moegs_ns.launch.jobs import progress_of
from moegs_ns.launch.option_limits import check_numbers
from moegs_ns.reports.scores import report_runs
from moegs_ns.runs.checkpoint import CONFIG_NAME, Run, open_run, read_config
from moegs_ns.scripts.render import Render

EXPERTS = ("moegs-stg", "moegs-4dgaussians")


@dataclass
class Demo:
    """Generate a scene, train two experts and their router, score, render a video and gate maps."""

    output_dir: Annotated[Path, output_option("--output-dir")] = Path("outputs/demo")
    """Folder for the scene, the runs, the table (results.json) and the videos."""
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

    def main(self) -> None:
        """Run all stages and print how long each took."""
        from moegs_ns.demo.scene import write_demo_scene

        # All of them, since the router's budget would be looked at after the experts' training.
        check_numbers(self)
        if not self.seeds:
            raise ValueError("--seeds expects at least one seed, got none; leave it out for one.")
        started = time.perf_counter()
        scene = self.output_dir / "scene"
        if not (scene / "poses_bounds.npy").is_file():
            CONSOLE.rule("Generating the scene")
            write_demo_scene(scene)
        runs = [run for seed in self.seeds for run in self.train_all(scene, seed)]
        report_runs([(run,) for run in runs], self.output_dir / "results.json")
        self.render(self.run_dir("moegs-router", self.seeds[0]))
        minutes = (time.perf_counter() - started) / 60.0
        CONSOLE.print(f"Done in {minutes:.1f} minutes; everything is in {self.output_dir}.")

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
        CONSOLE.rule(shlex.join(["ns-train", *args]))
        run_nerfstudio("train", args)

    def render(self, run_dir: Path) -> None:
        """Videos of the mixture beside the map of argmax gates: an orbit, and frozen time."""
        if shutil.which("ffmpeg") is None:
            CONSOLE.print("No videos: they need ffmpeg; install it and run the demo again.")
            return
        names = ("rgb", "argmax_gate", *(f"gate_{m.removeprefix('moegs-')}" for m in EXPERTS))
        for path, name in ((Orbit(), "orbit"), (FrozenTime(), "frozen_time")):
            video = self.output_dir / f"{name}.mp4"
            Render(run_dir / CONFIG_NAME, path, video, rendered_output_names=names).main()
