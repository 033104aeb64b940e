"""Controls of clicks: what is at a pixel, and how the Gaussians near it move."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moegs_ns.cameras import View
from moegs_ns.engine.viewer.outputs import Subject
from moegs_ns.engine.viewer.probe import Reading, describe, read_pixel
from moegs_ns.engine.viewer.trajectories import Trajectory, trajectories
from moegs_ns.mixture.live import LiveChoices
from moegs_ns.mixture.mixture import expert_colors

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

Seen = tuple[View, LiveChoices]
"""The camera that was drawn last for a client, and with which choices."""
MARKER = "/probe/point"
MARKER_SIZE, MARKER_COLOR = 0.012, (255, 0, 255)
"""Its diameter in units of its distance."""
LINE_NAME = "/probe/line_{index:03d}"
HOW_TO = "Switch it on and click on the picture."


class ClickControls:
    """A tab `Click`. Costs nothing until somebody clicks."""

    def __init__(
        self,
        viewer: "Viewer",
        subject: Subject,
        seen: Callable[[int], Seen | None],
        while_idle: Callable[[], Any],
    ) -> None:
        """Add the controls to the open container.

        Args:
            seen: what a client sees, by its number.
            while_idle: a context in which the model is ours.
        """
        self._subject, self._seen, self._while_idle = subject, seen, while_idle
        self._scene: Any = viewer.viser_server.scene
        self._drawn: list[Any] = []
        gui = viewer.viser_server.gui
        self.enabled = gui.add_checkbox("Read out clicks", False, hint="Tell what is at a pixel.")
        self.lines = gui.add_checkbox(
            "Trajectories", False, hint="Ways of the moving Gaussians nearest to the click."
        )
        self.count = gui.add_slider("Number of lines", 1, 100, 1, 20)
        self.clear = gui.add_button("Clear", hint="Take away the marker and the lines.")
        self.text = gui.add_markdown(HOW_TO)
        self.reading: Reading | None = None
        self.enabled.on_update(self._enable)
        self.clear.on_click(lambda _: self._clear())

    def _enable(self, event: Any) -> None:
        if event.target.value:
            self._scene.on_pointer_event("click")(self.clicked)
        else:
            self._scene.remove_pointer_callback()

    def clicked(self, event: Any) -> None:
        """Read out the pixel of viser's click."""
        seen = self._seen(event.client_id)
        if seen is None:
            return
        view, choices = seen
        across, down = event.screen_pos[0]
        x = min(max(int(across * view.width), 0), view.width - 1)
        y = min(max(int(down * view.height), 0), view.height - 1)
        with self._while_idle():
            reading = read_pixel(self._subject, view, choices, x, y)
            experts, found = self._subject.experts, []
            if self.lines.value and reading.depth > 0.0:
                found = trajectories(experts, choices, reading.point, view.time, self.count.value)
        self.reading = reading
        self.text.content = describe(reading, self._subject.names)
        self._draw(reading, found)

    def _clear(self) -> None:
        for handle in self._drawn:
            handle.remove()
        self._drawn = []
        self.text.content = HOW_TO

    def _draw(self, reading: Reading, found: list[Trajectory]) -> None:
        from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO

        for handle in self._drawn:
            handle.remove()
        self._drawn = []
        if reading.depth > 0.0:
            point = reading.point.cpu().numpy()[None] * VISER_NERFSTUDIO_SCALE_RATIO
            size = MARKER_SIZE * reading.depth * VISER_NERFSTUDIO_SCALE_RATIO
            marker = self._scene.add_point_cloud(
                MARKER, point, MARKER_COLOR, point_size=size, point_shape="circle"
            )
            self._drawn.append(marker)
        colors = expert_colors(len(self._subject.names))
        for index, one in enumerate(found):
            red, green, blue = (round(255 * value) for value in colors[one.expert])
            points = one.points.cpu().numpy().astype(float) * VISER_NERFSTUDIO_SCALE_RATIO
            name = LINE_NAME.format(index=index)
            line = self._scene.add_spline_catmull_rom(
                name, positions=points, line_width=4.0, color=(red, green, blue)
            )
            self._drawn.append(line)
