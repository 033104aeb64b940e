"""Tables 1 to 13 of the paper as objects, and what it tells without a table."""

from collections.abc import Sequence

from moegs_ns.paper.tables.base import PaperTable
from moegs_ns.paper.tables.budgets import TimeBudgets
from moegs_ns.paper.tables.comparison import Comparison
from moegs_ns.paper.tables.efficiency import Optimizations, Pruned
from moegs_ns.paper.tables.joint import Joint
from moegs_ns.paper.tables.routers import RouterTable
from moegs_ns.paper.tables.stability import Stability
from moegs_ns.paper.tables.students import PLAIN, TAUGHT, Students

IMAGES = ("psnr", "ssim", "lpips")
DISTILLED = Students(
    7, "Students of a mixture, with routing weights, beside plain ones",
    {PLAIN: "{}", TAUGHT: "{} (Distilled)"},
)  # fmt: skip
"""Table 7."""
JOINT = Joint()
TABLES: tuple[PaperTable, ...] = (
    Comparison(1, "Experts and mixtures of two, three and four of them", "N3V", ("n2", "n3", "n4")),
    Comparison(
        2, "Experts and a mixture of three of them", "Technicolor", ("n3",),
        others=("4dgaussians",),
    ),
    Pruned(),
    RouterTable(),
    Optimizations(),
    TimeBudgets(),
    DISTILLED,
    Comparison(8, "Experts and a mixture of four, by three metrics", "N3V", ("n4",), IMAGES),
    Comparison(
        9, "Experts and a mixture of three, by three metrics", "Technicolor", ("n3",), IMAGES,
        others=("4dgaussians",),
    ),
    Comparison(10, "One moving camera: two experts and their mixture", "HyperNeRF", ("monocular",)),
    Students(
        11, "Students by scene: plain, without and with routing weights",
        {
            PLAIN: "{}, Retrained (GT Loss)", "unweighted": "{}, Distilled (w/o Weight)",
            TAUGHT: "{}, Distilled (Ours)",
        },
    ),
    Stability(),
    Students(
        13, "Students without and with routing weights",
        {
            PLAIN: "{} (Baseline)", "unweighted": "{} (w/o Weight)",
            TAUGHT: "{} (Routing Weight)",
        },
        families=("ed3dgs",),
    ),
    JOINT,
)  # fmt: skip
"""In the order of the paper, what it has no table of at the end."""
ALL = "all"


def tables_named(names: Sequence[str]) -> list[PaperTable]:
    """The tables of these numbers or names, or all of them, in the order of the paper.

    Raises:
        ValueError: one is no table.
    """
    known = {str(table.number): table for table in TABLES}
    unknown = [name for name in names if name not in known and name != ALL]
    if unknown or not names:
        raise ValueError(
            f"moegs paper expects numbers of tables from 1 to {len(TABLES) - 1}, {JOINT.number}, "
            f"or {ALL}, beside figures, got {', '.join(unknown) or 'none'}; write moegs paper 1 "
            "figure4 --data SCENE n3v-data."
        )
    return list(TABLES) if ALL in names else [t for name, t in known.items() if name in names]
