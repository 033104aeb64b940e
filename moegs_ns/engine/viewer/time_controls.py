"""Controls of time: play, speed, frames; they drive nerfstudio's own time slider."""

import threading
from typing import TYPE_CHECKING, Any

from moegs_ns.engine.viewer.playback import Player

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

SLOWEST, FASTEST = 0.1, 120.0
"""Speeds that can be set, in frames a second."""
BACK, FORWARD = "Back", "Forward"


class TimeControls:
    """A folder `Clip`. Time has one owner, the player; both sliders follow it.

    nerfstudio draws at its own slider's value, so a picture is always of the newest time, however
    long the last one took.
    """

    def __init__(self, viewer: "Viewer", num_frames: int, fps: float, order: float) -> None:
        panel: Any = viewer.control_panel
        self._slider: Any = panel._time
        self._last = max(1, num_frames - 1)
        self._writing = threading.Lock()
        self._written = float(self._slider.value)
        self.player = Player(num_frames, self._show, self._ended)
        self.player.speed = fps or 30.0
        gui = viewer.viser_server.gui
        with gui.add_folder("Clip", order=order):
            self.play = gui.add_button("Play clip", hint="Play the clip from this frame on.")
            self.pause = gui.add_button("Pause clip", visible=False, hint="Stand still.")
            self.frame = gui.add_slider(
                "Frame", 0, self._last, 1, 0, hint=f"Frame of the clip, 0 to {self._last}."
            )
            self.step = gui.add_button_group("Step", (BACK, FORWARD))
            self.speed = gui.add_number(
                "Frames per second", self.player.speed, min=SLOWEST, max=FASTEST, step=0.1,
                hint="Speed; frames are left out where drawing is slower.",
            )  # fmt: skip
            self.loop = gui.add_checkbox(
                "Loop clip", True, hint="Begin again after the last frame."
            )
        self.play.on_click(lambda _: self._set_playing(True))
        self.pause.on_click(lambda _: self._set_playing(False))
        self.step.on_click(lambda event: self._step(1 if event.target.value == FORWARD else -1))
        self.frame.on_update(self._moved)
        self.speed.on_update(self._set_speed)
        self.loop.on_update(self._set_loop)
        # Its hook and no second callback: viser 0.2.7 would call that one alone.
        self._before = self._slider.cb_hook
        self._slider.cb_hook = self._nerfstudio_moved

    def _set_playing(self, plays: bool) -> None:
        self.play.visible, self.pause.visible = not plays, plays
        if plays:
            self.player.play()
        else:
            self.player.pause()

    def _set_speed(self, event: Any) -> None:
        self.player.speed = min(max(float(event.target.value), SLOWEST), FASTEST)

    def _set_loop(self, event: Any) -> None:
        self.player.loops = bool(event.target.value)

    def _ended(self) -> None:
        self._set_playing(False)

    def _step(self, by: int) -> None:
        self._set_playing(False)
        self._show(self.player.step(by))

    def _moved(self, event: Any) -> None:
        """A person has moved our slider; values that we have set come without a client."""
        if event.client is not None:
            self.player.seek(int(event.target.value))
            self._show(self.player.frame)

    def _nerfstudio_moved(self, slider: Any) -> None:
        """nerfstudio's slider has changed, by us or by a person."""
        with self._writing:
            time, is_ours = float(slider.value), float(slider.value) == self._written
        if not is_ours:
            self._written = time
            self.player.seek(round(time * self._last))
            self.frame.value = self.player.frame
        self._before(slider)

    def _show(self, frame: int) -> None:
        """Draw a frame and let both sliders tell it."""
        self.frame.value = frame
        with self._writing:
            self._written = frame / self._last
            self._slider.value = self._written
