"""All figures of the paper that show results."""

from moegs_ns.paper.figures.comparisons import (
    ExpertComparison,
    RouterComparison,
    StudentComparison,
)
from moegs_ns.paper.figures.depth import DepthFigure
from moegs_ns.paper.figures.figure import Figure
from moegs_ns.paper.figures.limits import LimitsFigure
from moegs_ns.paper.figures.motion import MotionFigure

ALL: tuple[Figure, ...] = (
    LimitsFigure(),
    ExpertComparison(4, "experts, their gates and the mixture", has_gates=True),
    RouterComparison(),
    ExpertComparison(7, "experts and the mixture, a further image", rank=1),
    ExpertComparison(8, "experts and the mixture, another image", rank=2),
    StudentComparison(),
    DepthFigure(),
    MotionFigure(),
)
FIGURES = {figure.number: figure for figure in ALL}
"""By their numbers. Figures 2, 3 and 6 of the paper are diagrams of the method."""
