"""Controls of the mixture: which experts are on, the temperature of the gates, pruning."""

from collections.abc import Callable, Sequence
from typing import Any

COLDEST, HOTTEST = 0.05, 5.0


class ExpertControls:
    """A tab `Experts`."""

    def __init__(
        self,
        gui: Any,
        names: Sequence[str],
        temperature: float | None,
        changed: Callable[[Any], None],
    ) -> None:
        """Add the controls to the open container; `temperature` is None where nothing is mixed."""
        self._changed, self._trained = changed, temperature
        self.switches = [
            gui.add_checkbox(name, True, hint="Mix this expert; gates are those of the others.")
            for name in names
            if temperature is not None
        ]
        for switch in self.switches:
            switch.on_update(self._switched)
        self.temperature: Any = None
        if temperature is not None:
            self.temperature = gui.add_slider(
                "Gate temperature",
                min(COLDEST, temperature), max(HOTTEST, temperature), 0.01, temperature,
                hint="Divides the logits of the gates; below 1 they are sharper.",
            )  # fmt: skip
            self.temperature.on_update(changed)
            self.as_trained = gui.add_button("As trained", hint="All experts, own temperature.")
            self.as_trained.on_click(self._reset)
        self.prune = gui.add_slider(
            "Prune", 0.0, 0.99, 0.01, 0.0,
            hint="Leave out this part of all Gaussians, the least important ones, in the picture "
            "only. The first time they are measured on 8 training views.",
        )  # fmt: skip
        self.prune.on_update(changed)
        self.count = gui.add_markdown("")

    def is_on(self) -> tuple[bool, ...]:
        """Which experts take part; all, if for a moment none is on."""
        values = tuple(bool(switch.value) for switch in self.switches)
        return values if any(values) else (True,) * len(values)

    def gate_temperature(self) -> float | None:
        """What the slider says; None if it is that of the training."""
        if self.temperature is None or self.temperature.value == self._trained:
            return None
        return float(self.temperature.value)

    def _switched(self, event: Any) -> None:
        """Draw anew; the last expert that is on cannot be switched off, as nothing would be left.
        viser 0.2.7 tells a page nothing of values that a callback gives to its own control."""
        num_on = sum(bool(switch.value) for switch in self.switches)
        for switch in self.switches:
            switch.disabled = num_on == 1 and bool(switch.value)
        self._changed(event)

    def _reset(self, event: Any) -> None:
        for switch in self.switches:
            switch.value = True
        self.temperature.value = self._trained
