"""Controls of what is to be seen, in which colours, and what lies over or beside it."""

from collections.abc import Callable, Sequence
from typing import Any

from moegs_ns.engine.viewer.picture import COLOR_MAPS, NO_OVERLAY, OVERLAYS, Look
from moegs_ns.mixture.mixture import expert_colors


class LookControls:
    """A tab `Show`."""

    def __init__(
        self,
        gui: Any,
        outputs: Sequence[str],
        names: Sequence[str],
        changed: Callable[[Any], None],
        *,
        has_gates: bool,
    ) -> None:
        """Add the controls to the open container of viser's interface."""
        self.left = gui.add_dropdown("Show", outputs, outputs[0], hint="What the picture shows.")
        self.colors = gui.add_dropdown(
            "Map colours", COLOR_MAPS, COLOR_MAPS[0],
            hint="Of gates and accumulation (0 to 1), errors (0 to 0.2) and depth (own range).",
        )  # fmt: skip
        self.overlay = gui.add_dropdown(
            "Overlay", OVERLAYS, NO_OVERLAY, visible=has_gates,
            hint="The experts' colours, by their gates or of the strongest one, over the picture.",
        )  # fmt: skip
        self.strength = gui.add_slider("Overlay strength", 0.0, 1.0, 0.01, 0.5, visible=has_gates)
        self.legend = gui.add_markdown(legend(names), visible=has_gates)
        self.split = gui.add_checkbox("Split", False, hint="Show a second output beside it.")
        self.right = gui.add_dropdown("Right of the line", outputs, outputs[-1])
        self.position = gui.add_slider("Line", 0.0, 1.0, 0.01, 0.5, hint="Where the line is.")
        for control in (self.left, self.colors, self.overlay, self.strength, self.split):
            control.on_update(changed)
        for control in (self.right, self.position):
            control.on_update(changed)

    def look(self) -> Look:
        """What the controls say."""
        return Look(
            left=self.left.value,
            right=self.right.value if self.split.value else None,
            position=self.position.value,
            colors=self.colors.value,
            overlay=self.overlay.value,
            strength=self.strength.value,
        )


def legend(names: Sequence[str]) -> str:
    """The experts' names beside their colours, for viser's markdown."""
    lines = []
    for name, color in zip(names, expert_colors(len(names)), strict=True):
        red, green, blue = (round(255 * value) for value in color)
        lines.append(f"<span style={{{{color: 'rgb({red},{green},{blue})'}}}}>■</span> {name}")
    return " &nbsp; ".join(lines)
