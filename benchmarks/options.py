"""Where experiments run, and what differs from their settings."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.quality.pruning import Pruning
from benchmarks.quality.router_variants import RouterVariants
from benchmarks.tables import RESULTS
from benchmarks.trainings import Scene

STG, FOURD, EX4D, ED3D = "moegs-stg", "moegs-4dgaussians", "moegs-ex4dgs", "moegs-ed3dgs"
FREE, TRACKED = "moegs-freetime", "moegs-tracked"
COLORS = "--pipeline.model.color-correction True"
VAL_CAMERAS = (4, 12, 20, 26)
"""Of the PanopticSports scene."""


@dataclass(frozen=True)
class Options:
    """Which experiments, where, and what differs from their settings."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Experiments; those joined by + run at once."""
    data: Path = Path(os.environ.get("MOEGS_DATA", "data"))
    """Folder of the scenes."""
    dnerf: str = "dnerf_mutant"
    """The D-NeRF scene in it."""
    out: Path = RESULTS
    """Folder of tables and logs."""
    runs: Path = Path("outputs/benchmark")
    """Folder of runs."""
    frames: tuple[int, int] | None = None
    """First and last frame of the PanopticSports scene."""
    budget: float | None = None
    router_budget: float | None = None
    seeds: tuple[int, ...] | None = None
    methods: tuple[str, ...] | None = None
    """Experts or students; mixtures are then of all of them, unless --mixtures names others."""
    mixtures: tuple[str, ...] | None = None
    expert_options: tuple[str, ...] | None = None
    router_options: str | None = None
    train_options: str | None = None
    max_views: int | None = None
    at_once: int | None = None
    steps: int | None = None

    def basketball(self, last_frame: int, more: str = "") -> dict[str, Any]:
        """The PanopticSports scene up to a frame, and its folders."""
        first, last = self.frames or (0, last_frame)
        frames = f"--frames {first} {last} {more}".strip()
        scene = Scene(self.data / "panoptic_basketball", "panoptic-data", frames)
        return {"scene": scene} | self.folders("basketball")

    def monocular(self, name: str) -> dict[str, Any]:
        """A D-NeRF scene and its folders."""
        return {"scene": Scene(self.data / name, "dnerf-data")} | self.folders(name)

    def room(self) -> dict[str, Any]:
        """The synthetic room of several cameras and its folders."""
        return {"scene": Scene(self.data / "room", "panoptic-data")} | self.folders("room")

    def demo(self) -> dict[str, Any]:
        """The generated scene of `moegs demo` and its folders."""
        return {"scene": Scene(self.data / "demo", "n3v-data")} | self.folders("demo")

    def folders(self, scene: str) -> dict[str, Any]:
        """Where tables, images and runs of a scene are."""
        out = self.out / scene
        return {"results_dir": out, "images_dir": out, "output_dir": self.runs / scene}

    def applied(self, benchmark: Any) -> Any:
        """The benchmark with those of its settings that are given here."""
        names = ("budget", "router_budget", "seeds", "methods", "mixtures", "expert_options")
        names += ("router_options", "train_options", "max_views", "at_once", "steps")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if "methods" in given:
            given.setdefault("mixtures", None)
        if isinstance(benchmark, RouterVariants | Pruning):
            given.pop("budget", None)  # Theirs is that of routers.
        own = {each.name for each in fields(benchmark)}
        return replace(benchmark, **{k: v for k, v in given.items() if k in own})
