"""Playing a clip: which frame is to be seen at which moment."""

import threading
import time
from collections.abc import Callable

LONGEST_WAIT = 1.0
"""Seconds after which the player looks again, whatever the speed."""


def frame_at(start: int, seconds: float, speed: float, num_frames: int, *, loops: bool) -> int:
    """The frame to be seen some seconds after `start` at a speed in frames a second; the last one
    once a clip that does not loop is over."""
    frame = start + int(seconds * speed)
    return frame % num_frames if loops else min(frame, num_frames - 1)


class Player:
    """Says at every moment which frame of a clip is to be seen.

    The clock decides, not the number of pictures: where drawing is slower than the wanted speed,
    frames are left out and time keeps its pace. Calls may come from any thread.
    """

    def __init__(
        self,
        num_frames: int,
        show: Callable[[int], None],
        ended: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A player that stands at frame 0.

        Args:
            num_frames: of the clip; at least one.
            show: called with every frame that the player comes to by itself.
            ended: called when it stops by itself.
        """
        self.num_frames = num_frames
        self.frame = 0
        self.loops = True
        self._show, self._ended, self._clock = show, ended, clock
        self._speed = 1.0
        self._start, self._started = 0, 0.0
        self._lock = threading.Lock()
        self._stop: threading.Event | None = None

    @property
    def is_playing(self) -> bool:
        """Whether frames advance."""
        return self._stop is not None

    @property
    def speed(self) -> float:
        """Frames a second, above 0."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        with self._lock:
            self._begin_at(self.frame)
            self._speed = speed

    def play(self) -> None:
        """Go on from the present frame; from the first one if the clip is over."""
        with self._lock:
            if self._stop is not None:
                return
            is_over = not self.loops and self.frame == self.num_frames - 1
            self._begin_at(0 if is_over else self.frame)
            self._stop = threading.Event()
            threading.Thread(target=self._run, args=(self._stop,), daemon=True).start()

    def pause(self) -> None:
        """Stand still."""
        with self._lock:
            if self._stop is not None:
                self._stop.set()
                self._stop = None

    def seek(self, frame: int) -> None:
        """Go to a frame, and on from there if the clip plays."""
        with self._lock:
            self._begin_at(max(0, min(frame, self.num_frames - 1)))

    def step(self, by: int) -> int:
        """Stand still some frames further, beyond an end at the other; returns the frame."""
        self.pause()
        self.seek((self.frame + by) % self.num_frames)
        return self.frame

    def _begin_at(self, frame: int) -> None:
        self.frame = self._start = frame
        self._started = self._clock()

    def _run(self, stop: threading.Event) -> None:
        shown = -1
        while not stop.is_set():
            with self._lock:
                if stop.is_set():
                    return
                seconds = self._clock() - self._started
                self.frame = frame_at(
                    self._start, seconds, self._speed, self.num_frames, loops=self.loops
                )
                frame, is_over = self.frame, not self.loops and self.frame == self.num_frames - 1
                if is_over:
                    self._stop = None
                    stop.set()
                until_next = (int(seconds * self._speed) + 1) / self._speed - seconds
            if frame != shown:
                self._show(frame)
                shown = frame
            if is_over:
                self._ended()
            stop.wait(min(until_next, LONGEST_WAIT))
