"""How fast the viewer opens, and pictures a second while it plays, as a client receives them.

    python -m benchmarks.speed.live_viewer RUN/config.yml --height 1080

A client without a browser (`benchmarks.viser_client`) connects to the viewer as a page does, plays
the clip and counts pictures: drawn at the full size, encoded as JPEG and sent over the network of
this machine. nerfstudio would draw smaller ones in motion to reach 30 a second.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Annotated, Any

import tyro

from benchmarks.tables import Table
from benchmarks.viser_client import ViserClient
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.evaluation.tables import Row, hardware
from moegs_ns.runs.checkpoint import open_run

WAIT = 120.0
"""Seconds after which something that does not come counts as a failure."""
SLOWEST = 1e-6
"""Rate that nerfstudio is told to reach in motion, so that it draws at the full size."""


@dataclass(frozen=True, kw_only=True)
class LiveViewer(Table):
    """Open runs in the viewer, play them, and write the rates."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """config.yml or folder of each run."""
    height: int = 1080
    """Of the pictures, in pixels."""
    aspect: float = 16 / 9
    """Width over height."""
    speed: float = 120.0
    """Frames a second that are asked for; more than can be drawn."""
    seconds: float = 10.0
    """How long to play."""
    outputs: tuple[str, ...] = ("",)
    """What is shown, by the names in the viewer; empty for the first output."""
    port: int = 7391
    """Of the viewer."""
    name: str = "live_viewer"

    def rows(self) -> Iterator[Row]:
        for run in self.runs:
            yield from self.of_run(run)

    def of_run(self, path: Path) -> Iterator[Row]:
        """A row for each output of one run."""
        started = time.monotonic()
        run = open_run(path)
        pipeline = load_pipeline(run)
        opened = time.monotonic()
        with TemporaryDirectory() as folder, self.viewer(pipeline, Path(folder)) as viewer:
            port = viewer.viser_server.get_port()
            with ViserClient(port, self.aspect) as client:
                wait(lambda: client.pictures, "the first picture")
                first = client.pictures[0][0]
                [thread] = viewer.render_statemachines.values()
                thread.target_fps = SLOWEST
                for output in self.outputs:
                    if output:
                        client.set("Show", output)
                    yield {
                        "method": run.config.method_name,
                        "output": output or client.control("Show")["value"],
                        "seconds_to_open": opened - started,
                        "seconds_to_first_picture": first - opened,
                        **self.play(client),
                        "hardware": hardware(),
                    }

    @contextmanager
    def viewer(self, pipeline: Any, folder: Path) -> Iterator[Any]:
        """nerfstudio's viewer of a pipeline, as `ns-viewer` starts it."""
        from nerfstudio.configs.base_config import ViewerConfig
        from nerfstudio.viewer.viewer import Viewer

        data, config = pipeline.datamanager, ViewerConfig(websocket_port=self.port)
        viewer = Viewer(config, folder / "log", folder, pipeline, train_lock=Lock())
        # The larger side, which is what nerfstudio bounds.
        viewer.control_panel._max_res.value = round(self.height * max(1.0, self.aspect))
        viewer.init_scene(data.train_dataset, "completed", data.eval_dataset)
        try:
            yield viewer
        finally:
            for thread in list(viewer.render_statemachines.values()):
                thread.running = False
                thread.join(WAIT)
            viewer.viser_server.stop()

    def play(self, client: ViserClient) -> Row:
        """Rates of one output, after a second to get going."""
        client.set("Frames per second", self.speed)
        client.set("Play clip", True)
        time.sleep(1.0)
        before, started = len(client.pictures), time.monotonic()
        time.sleep(self.seconds)
        arrived = client.pictures[before:]
        client.set("Pause clip", True)
        height, width = client.picture().shape[:2]
        gaps = [late[0] - early[0] for early, late in pairwise(arrived)]
        return {
            "width": width,
            "height": height,
            "pictures_per_second": len(arrived) / (time.monotonic() - started),
            "longest_gap_seconds": max(gaps, default=float("nan")),
            "kb_per_picture": sum(len(data) for _, data in arrived) / max(1, len(arrived)) / 1000,
        }


def wait(is_so: Any, what: str) -> None:
    """Wait until something is there."""
    deadline = time.monotonic() + WAIT
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Expected {what} within {WAIT:g} s, but it did not come.")
        time.sleep(0.001)


if __name__ == "__main__":
    tyro.cli(LiveViewer, description=__doc__).main()
