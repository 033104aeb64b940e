"""What a figure of the paper is, and the finished runs that it is drawn from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from matplotlib import figure as pictures
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.evaluation.tables import Row
from moegs_ns.reports.pictures import save_picture
from moegs_ns.reports.scores import write_table

MIXTURE = "MoE-GS"
"""The mixture's name on figures."""


@dataclass(frozen=True)
class SceneRuns:
    """Finished runs on one scene, by folder or `config.yml`. All hold out the same images."""

    name: str
    """Of the scene, as it stands on figures."""
    mixture: Path
    experts: tuple[Path, ...] = ()
    """Each expert by itself, in the order of their colours."""
    routers: Mapping[str, Path] = field(default_factory=dict)
    """Mixtures of the same experts by the kind of their router: pixel, volume, volume-aware."""
    students: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    """Of each family the expert trained again on the images alone, and the one that the mixture
    taught."""


@dataclass(frozen=True)
class FigureRuns:
    """The runs of all scenes."""

    scenes: tuple[SceneRuns, ...]


@runtime_checkable
class Figure(Protocol):
    """One figure of the paper."""

    @property
    def number(self) -> int:
        """Its number in the paper."""
        ...

    @property
    def about(self) -> str:
        """What it shows, in a few words."""
        ...

    def draw(self, runs: FigureRuns, folder: Path) -> list[Path]:
        """Draw it into a folder: a picture, and the numbers that are drawn as JSON and Markdown.

        Scenes that lack the runs it needs are left out, which is said.

        Returns:
            The files that were written.

        Raises:
            FileNotFoundError: a run does not exist.
            ValueError: no scene has the runs that it needs, nothing is held out, or the runs of a
                scene do not belong together.
        """
        ...


def scenes_with(
    figure: Figure, runs: FigureRuns, lacks: Callable[[SceneRuns], str]
) -> list[SceneRuns]:
    """The scenes that have what a figure needs; says which others are left out.

    Args:
        lacks: what a scene lacks and what to do, in words that follow its name; "" for nothing.

    Raises:
        ValueError: there is no such scene.
    """
    found = {scene.name: lacks(scene) for scene in runs.scenes}
    reasons = "; ".join(f"scene {name} {reason}" for name, reason in found.items() if reason)
    if all(found.values()):
        reasons = reasons or "there are runs of no scene; name those of one"
        raise ValueError(f"Figure {figure.number} ({figure.about}) cannot be drawn: {reasons}.")
    if reasons:
        CONSOLE.print(f"Figure {figure.number} leaves out: {reasons}.", soft_wrap=True)
    return [scene for scene in runs.scenes if not found[scene.name]]


def save_drawn(
    figure: Figure, drawn: pictures.Figure, rows: Sequence[Row], folder: Path
) -> list[Path]:
    """Write the picture and the numbers in it."""
    picture = folder / f"figure_{figure.number}.png"
    table = picture.with_suffix(".json")
    save_picture(drawn, picture)
    write_table(table, rows)
    return [picture, table, table.with_suffix(".md")]
