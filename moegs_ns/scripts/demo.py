"""`moegs demo`: the whole road on a small generated scene, on any computer."""

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.data.camera_paths import FrozenTime, Orbit
from moegs_ns.evaluation.tables import write_results
from moegs_ns.launch.nerfstudio_commands import run_nerfstudio
from moegs_ns.reports.scores import Score, print_scores, score_run
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.scripts.render import Render

EXPERTS = ("moegs-stg", "moegs-4dgaussians")


@dataclass
class Demo:
    """Generate a scene, train two experts and their router, score, render a video and gate maps."""

    output_dir: Path = Path("outputs/demo")
    """Folder for the scene, the runs, the table (results.json) and the pictures."""
    seeds: tuple[int, ...] = (0,)
    """One mixture is trained for each."""
    stg_budget: float = 0.03
    """Share of the published steps that Spacetime Gaussians are trained for."""
    hexplane_budget: float = 0.06
    """Share of the published steps that 4DGaussians are trained for."""
    router_budget: float = 0.1
    """Share of the published steps that the router is trained for."""
    max_gaussians: int = 6_000
    """Bound on the Gaussians of each expert, so that two CPU cores are enough."""

    def main(self) -> None:
        """Run all stages and print how long each took."""
        from moegs_ns.demo.scene import write_demo_scene

        started = time.perf_counter()
        scene = self.output_dir / "scene"
        if not (scene / "poses_bounds.npy").is_file():
            CONSOLE.rule("Generating the scene")
            write_demo_scene(scene)
        scores = [score for seed in self.seeds for score in self.train_and_score(scene, seed)]
        print_scores(scores)
        command = shlex.join(["moegs", *sys.argv[1:]])
        write_results(self.output_dir / "results.json", [asdict(s) for s in scores], command)
        self.render(self.run_dir("moegs-router", self.seeds[0]))
        minutes = (time.perf_counter() - started) / 60.0
        CONSOLE.print(f"Done in {minutes:.1f} minutes; everything is in {self.output_dir}.")

    def train_and_score(self, scene: Path, seed: int) -> list[Score]:
        """Both experts and the mixture for one seed."""
        budgets = dict(zip(EXPERTS, (self.stg_budget, self.hexplane_budget), strict=True))
        cap = ["--pipeline.model.recipe.densification.max-gaussians", str(self.max_gaussians)]
        one_view = ["--pipeline.model.recipe.views", "1"]  # half the time of the published two
        for method, budget in budgets.items():
            extra = one_view if method == "moegs-4dgaussians" else []
            self.train(method, scene, seed, ["--budget", str(budget), *cap, *extra])
        experts = [str(self.run_dir(method, seed) / "config.yml") for method in EXPERTS]
        options = ["--experts", *experts, "--budget", str(self.router_budget)]
        self.train("moegs-router", scene, seed, options)
        runs = [open_run(self.run_dir(m, seed)) for m in (*EXPERTS, "moegs-router")]
        return [score_run(run) for run in runs]

    def run_dir(self, method: str, seed: int) -> Path:
        """Where nerfstudio puts a run."""
        return self.output_dir / "runs" / method / f"seed-{seed}"

    def train(self, method: str, scene: Path, seed: int, options: Sequence[str]) -> None:
        """What a user would type, run in this process."""
        arguments = [
            method, *options,
            "--output-dir", str(self.output_dir), "--experiment-name", "runs",
            "--timestamp", f"seed-{seed}", "--machine.seed", str(seed),
            "--vis", "tensorboard", "--data", str(scene), "n3v-data",
        ]  # fmt: skip
        CONSOLE.rule(shlex.join(["ns-train", *arguments]))
        run_nerfstudio("train", arguments)

    def render(self, run_dir: Path) -> None:
        """A video of the mixture beside the map of winning experts, and one of frozen time."""
        if shutil.which("ffmpeg") is None:
            CONSOLE.print("No videos: they need ffmpeg; install it and run the demo again.")
            return
        names = ("rgb", "argmax_gate", *(f"gate_{m.removeprefix('moegs-')}" for m in EXPERTS))
        config = run_dir / "config.yml"
        for path, name in ((Orbit(), "orbit"), (FrozenTime(), "frozen_time")):
            Render(
                load_config=config,
                path=path,
                output_path=self.output_dir / f"{name}.mp4",
                rendered_output_names=names,
            ).main()
