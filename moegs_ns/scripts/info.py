"""`moegs info` and `moegs view`: what a run is, and a look at it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from nerfstudio.utils.rich_utils import CONSOLE
from rich.table import Table

from moegs_ns.launch.cli_args import run_nerfstudio
from moegs_ns.launch.nerfstudio_commands import LOCAL_HOST
from moegs_ns.models.base import is_mixture
from moegs_ns.reports.run_section import facts_of
from moegs_ns.reports.scores import BYTES_PER_MB
from moegs_ns.runs.checkpoint import Run, find_config, open_run, step_of
from moegs_ns.scripts.render import read_rig

MEANS = "gauss_params.means"
"""End of the names of the positions of Gaussians in a checkpoint."""
DEFAULT_PORT = 7007


@dataclass
class Info:
    """Say what a run is: its method, clip, cameras and Gaussians, and how it was trained."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run."""

    def main(self) -> None:
        """Read the run and print a table; nothing is rendered."""
        run = open_run(self.run)
        table = Table(show_header=False, box=None, pad_edge=False)
        for name, value in (*facts_of(run).items(), *described(run)):
            table.add_row(name, value)
        CONSOLE.print(table)
        CONSOLE.print(
            f"moegs report {self.run} scores it, moegs view {self.run} shows it.", soft_wrap=True
        )


def described(run: Run) -> Iterator[tuple[str, str]]:
    """What the checkpoint and the data of a run tell."""
    state = run.model_state()
    counts = {name: len(value) for name, value in state.items() if name.endswith(MEANS)}
    frames = next((int(v) for name, v in state.items() if name.endswith("num_frames")), None)
    model: Any = run.config.pipeline.model
    if is_mixture(model):
        own = [
            sum(count for name, count in counts.items() if f"expert_modules.{index}." in name)
            for index in range(len(model.expert_names))
        ]
        each = zip(model.expert_names, own, strict=True)
        yield "experts", ", ".join(f"{name} ({count:,})" for name, count in each)
        yield "router", type(model.router).__name__.removesuffix("Config")
    yield "Gaussians", f"{sum(counts.values()):,}"
    if frames is not None:
        yield "frames", f"{frames}"
    yield "training cameras", _cameras(run)
    checkpoint = run.checkpoint_path
    megabytes = checkpoint.stat().st_size / BYTES_PER_MB
    yield "checkpoint", f"{checkpoint.name} ({step_of(checkpoint) + 1:,} steps, {megabytes:.1f} MB)"


def _cameras(run: Run) -> str:
    try:
        rig, _, fps = read_rig(run.config)
    except (OSError, ValueError, AssertionError) as error:
        # A run is told of without its data as well.
        return f"unknown, as the data cannot be read ({str(error).partition('; ')[0]})"
    rate = f", {fps:g} frames per second" if fps else ""
    return f"{len(rig.positions)} of {rig.width} x {rig.height} pixels{rate}"


@dataclass
class View:
    """Show a run in the browser: nerfstudio's viewer with this run's time, experts and gates."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run."""
    port: int = DEFAULT_PORT
    """Port of the page."""
    host: str = LOCAL_HOST
    """Address to listen on; by default this machine alone, as the viewer has no password, and
    0.0.0.0 for all."""

    def main(self) -> None:
        """Serve the viewer until Ctrl+C.

        Raises:
            FileNotFoundError: there is no such run.
            ValueError: the port is none, or the path is not that of a run.
        """
        if not 0 < self.port < 2**16:
            raise ValueError(f"--port expects a number from 1 to 65535, got {self.port}.")
        config = find_config(self.run)
        shown = "localhost" if self.host in (LOCAL_HOST, "0.0.0.0") else self.host
        CONSOLE.print(f"Open http://{shown}:{self.port} once the run is loaded; Ctrl+C ends it.")
        args = ["--load-config", str(config), "--viewer.websocket-port", str(self.port)]
        run_nerfstudio("viewer.run_viewer", [*args, "--viewer.websocket-host", self.host])
