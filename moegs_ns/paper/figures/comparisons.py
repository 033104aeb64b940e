"""Figures 4, 5, 7, 8 and 9: images side by side, with crops where they differ most."""

from dataclasses import dataclass
from pathlib import Path

from moegs_ns.experts.names import readable
from moegs_ns.paper.figures.choices import boxes_of, most_different
from moegs_ns.paper.figures.figure import (
    MIXTURE,
    Figure,
    FigureRuns,
    SceneRuns,
    save_drawn,
    scenes_with,
)
from moegs_ns.paper.figures.sheet import Block, block_rows, comparison_sheet
from moegs_ns.paper.figures.shown import SceneImages, mixture_images, run_images
from moegs_ns.paper.routers import KINDS

CROPS = 2
"""Crops of an image."""
RULE = (
    "Image and crops: where the squared errors of {rivals} differ most on pixels that move in the "
    "clip.\nPSNR of each panel; white on black: the best of {rivals} in the crop."
)


@dataclass(frozen=True)
class ExpertComparison:
    """The truth, every expert and the mixture of each scene (Figures 4, 7 and 8).

    The paper has Neural 3D Video in Figures 4 and 7 and Technicolor in Figure 8. On scenes of any
    kind they differ in the image: the one in which the experts differ most, and the next ones.
    """

    number: int
    about: str
    rank: int = 0
    """Place of the image among those in which the experts differ most, from 0."""
    has_gates: bool = False
    """Whether each expert's gate is shown as well."""

    def draw(self, runs: FigureRuns, folder: Path) -> list[Path]:
        """See `Figure`."""
        blocks = [self._block(scene) for scene in scenes_with(self, runs, lambda scene: "")]
        return save_comparison(self, blocks, folder, "the experts")

    def _block(self, scene: SceneRuns) -> Block:
        images = mixture_images(scene)
        experts = slice(0, len(images.sources) - 1)
        if experts.stop < 2:
            raise ValueError(
                f"Figure {self.number} compares the experts of a mixture, but that of scene "
                f"{scene.name} has a single one; name a mixture of two or more."
            )
        shown = most_different(images, experts, self.rank)
        return Block(shown.title, shown, boxes_of(shown, experts, CROPS), experts, self.has_gates)


@dataclass(frozen=True)
class RouterComparison:
    """The three kinds of routers over the same experts (Figure 5)."""

    number: int = 5
    about: str = "kinds of routers"

    def draw(self, runs: FigureRuns, folder: Path) -> list[Path]:
        """See `Figure`."""
        blocks = [self._block(scene) for scene in scenes_with(self, runs, lacking_routers)]
        return save_comparison(self, blocks, folder, "the routers")

    def _block(self, scene: SceneRuns) -> Block:
        images = run_images(scene.name, {k.label: scene.routers[k.name] for k in KINDS})
        return _compared(images, slice(0, len(KINDS)), "")


@dataclass(frozen=True)
class StudentComparison:
    """Experts that were trained again on the images alone, and that the mixture taught (Figure
    9)."""

    number: int = 9
    about: str = "retrained and distilled experts"

    def draw(self, runs: FigureRuns, folder: Path) -> list[Path]:
        """See `Figure`."""
        scenes = scenes_with(self, runs, lacking_students)
        blocks = [self._block(scene, family) for scene in scenes for family in scene.students]
        return save_comparison(self, blocks, folder, "the two students")

    def _block(self, scene: SceneRuns, family: str) -> Block:
        retrained, distilled = scene.students[family]
        name = readable(family)
        runs = {
            f"{name}, retrained": retrained,
            f"{name}, distilled": distilled,
            f"{MIXTURE}, the teacher": scene.mixture,
        }
        return _compared(run_images(scene.name, runs), slice(0, 2), f"{name}: ")


def lacking_routers(scene: SceneRuns) -> str:
    """What Figure 5 misses of a scene; "" for nothing."""
    missing = [kind.name for kind in KINDS if kind.name not in scene.routers]
    if not missing:
        return ""
    return (
        f"has no run of the router {' and '.join(missing)}; train moegs-pixel-router, "
        "moegs-volume-router and moegs-router over the same experts"
    )


def lacking_students(scene: SceneRuns) -> str:
    """What Figure 9 misses of a scene; "" for nothing."""
    if scene.students:
        return ""
    return "has no students; train an expert once alone and once with --teacher"


def save_comparison(figure: Figure, blocks: list[Block], folder: Path, rivals: str) -> list[Path]:
    """Write the sheet of a comparison and its numbers."""
    title = f"Figure {figure.number}: {figure.about}"
    sheet = comparison_sheet(title, blocks, RULE.format(rivals=rivals))
    return save_drawn(figure, sheet, [row for each in blocks for row in block_rows(each)], folder)


def _compared(images: SceneImages, rivals: slice, prefix: str) -> Block:
    shown = most_different(images, rivals)
    return Block(prefix + shown.title, shown, boxes_of(shown, rivals, CROPS), rivals)
