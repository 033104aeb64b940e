"""Which frame of a clip is to be seen at which moment."""

import threading

import pytest

from moegs_ns.engine.viewer.playback import Player, frame_at


@pytest.mark.parametrize(
    ("seconds", "speed", "loops", "frame"),
    [
        (0.0, 10.0, True, 3),
        (0.09, 10.0, True, 3),
        (0.1, 10.0, True, 4),
        (0.35, 10.0, True, 0),  # 3 + 3 is the first frame again
        (0.35, 10.0, False, 5),
        (2.0, 0.5, True, 4),
    ],
)
def test_the_clock_decides_which_frame_is_seen(seconds, speed, loops, frame):
    assert frame_at(3, seconds, speed, 6, loops=loops) == frame


class Clock:
    """Stands where it is put."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Watcher:
    """A player with a clock of its own, and what it has shown."""

    def __init__(self, num_frames: int = 6) -> None:
        self.clock, self.shown = Clock(), []
        self.has_shown, self.has_ended = threading.Event(), threading.Event()
        self.player = Player(num_frames, self._show, self.has_ended.set, self.clock)

    def _show(self, frame: int) -> None:
        self.shown.append(frame)
        self.has_shown.set()

    def next(self, now: float) -> int:
        """The frame that it shows after the clock has gone on."""
        self.has_shown.clear()
        self.clock.now = now
        assert self.has_shown.wait(10.0)
        return self.shown[-1]


@pytest.fixture
def watcher():
    made = Watcher()
    made.player.speed = 10.0
    yield made
    made.player.pause()


def test_frames_are_left_out_where_drawing_takes_long(watcher: Watcher):
    watcher.player.play()
    assert watcher.next(0.11) == 1
    assert watcher.next(0.41) == 4, "time keeps its pace"
    assert watcher.next(0.71) == 1, "and begins again"


def test_a_clip_that_does_not_loop_ends_with_its_last_frame_and_plays_again(watcher: Watcher):
    watcher.player.loops = False
    watcher.player.play()
    assert watcher.next(9.0) == 5
    assert watcher.has_ended.wait(10.0)
    assert not watcher.player.is_playing
    watcher.player.play()
    assert watcher.player.frame == 0


def test_stepping_stands_still_and_goes_round(watcher: Watcher):
    watcher.player.play()
    assert watcher.player.step(-1) == 5
    assert not watcher.player.is_playing
    assert watcher.player.step(1) == 0


def test_another_speed_goes_on_from_the_present_frame(watcher: Watcher):
    watcher.player.play()
    watcher.next(0.21)
    watcher.player.speed = 1.0
    assert watcher.player.frame == 2
    assert watcher.next(1.22) == 3


def test_seeking_while_it_plays_goes_on_from_there(watcher: Watcher):
    watcher.player.play()
    watcher.player.seek(4)
    assert watcher.next(0.11) == 5
    assert watcher.player.is_playing


def test_a_pause_shows_nothing_more(watcher: Watcher):
    watcher.player.play()
    watcher.next(0.11)
    watcher.player.pause()
    watcher.has_shown.clear()
    watcher.clock.now = 5.0
    assert not watcher.has_shown.wait(0.5)
