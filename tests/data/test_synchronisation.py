"""`moegs prepare rig --sync`: what timecode and sound say of where recordings begin."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from data_helpers import test_image

from moegs_ns.data.dataparsers.recordings import open_recording
from moegs_ns.data.rig_files import RIG, read_rig
from moegs_ns.data.synchronisation.sound import CLEAR, RATE, lag_between, read_sound
from moegs_ns.data.synchronisation.timecode import timecode_seconds
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command

FPS, SOUND_RATE = 25, 16_000


def prepare(*args: object) -> None:
    """What a user types."""
    with replaced_argv(["moegs", "prepare", "rig", *map(str, args)]):
        command.main()


def starts(folder: Path) -> list[int | None]:
    return [camera.start for camera in read_rig(folder / RIG).cameras]


def take(seconds: float = 6.0) -> np.ndarray:
    """What is to be heard in the room: bursts of noise at odd times."""
    random = np.random.default_rng(0)
    count = int(seconds * SOUND_RATE)
    loudness = np.interp(
        np.arange(count), np.sort(random.integers(0, count, 60)), random.random(60)
    )
    return 0.3 * loudness * random.standard_normal(count)


def record(
    path: Path,
    sound: np.ndarray | None,
    *,
    num_frames: int = 50,
    fps: int | Fraction = FPS,
    timecode: str = "",
    later: int = 0,
) -> Path:
    """A video, perhaps with a track of sound, whose first sample is `later` samples after the first
    frame, and with a timecode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), mode="w") as container:
        if timecode:
            container.metadata["timecode"] = timecode
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        microphone = None
        if sound is not None:
            microphone = container.add_stream("pcm_s16le", rate=SOUND_RATE, layout="mono")
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(test_image(0, number, 32, 24), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if sound is not None and microphone is not None:
            samples = (32767 * sound.clip(-1, 1)).astype(np.int16)[None]
            heard = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            heard.sample_rate, heard.pts = SOUND_RATE, later
            heard.time_base = Fraction(1, SOUND_RATE)
            container.mux(microphone.encode(heard))
            container.mux(microphone.encode())
    return path


def heard(began: float, seconds: float = 2.0, gain: float = 1.0, seed: int = 1) -> np.ndarray:
    """The room as a microphone hears it, with noise and an echo of its own."""
    sound, first = take(), round(began * SOUND_RATE)
    own = sound[first : first + round(seconds * SOUND_RATE)].copy()
    own[200:] += 0.4 * own[:-200]
    noise = np.random.default_rng(seed).standard_normal(len(own))
    return gain * own + 0.02 * noise


@pytest.mark.parametrize("delay", [0.0, 0.5, 0.816, -0.3])
def test_the_lag_between_two_sounds(delay: float):
    random = np.random.default_rng(3)
    room = random.standard_normal(6 * RATE)
    one = room[2 * RATE : 5 * RATE]
    first = round((2 - delay) * RATE)
    # Wired with the other sign, quieter, and with noise.
    other = -0.1 * room[first : first + 2 * RATE] + 0.05 * random.standard_normal(2 * RATE)
    lag, confidence = lag_between(one, other)
    assert lag == pytest.approx(delay, abs=1.0 / RATE)
    assert confidence > 2 * CLEAR


def test_unrelated_and_periodic_sounds_are_not_clear():
    random = np.random.default_rng(4)
    one, two = random.standard_normal((2, 20_000))
    assert lag_between(one, two)[1] < 0.5 * CLEAR
    # A metronome, recorded from two beats on.
    clicks = (np.arange(9 * RATE) % (RATE // 2) == 0).astype(float)
    one, two = clicks[: 4 * RATE], clicks[round(2.3 * RATE) : round(6.3 * RATE)]
    noise = 0.01 * random.standard_normal((2, 4 * RATE))
    assert lag_between(one + noise[0], two + noise[1])[1] < CLEAR


def test_sound_tells_where_cameras_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """In frames, b begins 3, and c 7.4 before a; only whole frames can be taken."""
    for name, early, gain in (("a", 0.0, 1.0), ("b", 3.0, -0.2), ("c", 7.4, 0.5)):
        sound = heard(1.0 - early / FPS, gain=gain, seed=ord(name))
        record(tmp_path / f"{name}.mov", sound)
    prepare(*sorted(tmp_path.glob("*.mov")), "--sync", "audio")
    assert starts(tmp_path) == [0, 3, 7]
    shown = " ".join(capsys.readouterr().out.split())
    assert "frame 7, +0.4" in shown.replace("│", "").replace("  ", " ")
    assert "at most 0.40 frames away" in shown
    assert "all show 1.72 s" in shown


def test_a_camera_that_begins_last_makes_the_others_wait(tmp_path: Path):
    record(tmp_path / "a.mov", heard(1.0))
    record(tmp_path / "b.mov", heard(1.0 + 10 / FPS, seed=2))
    prepare(tmp_path / "a.mov", tmp_path / "b.mov", "--sync", "audio")
    assert starts(tmp_path) == [10, 0]


def test_sound_that_begins_after_the_pictures(tmp_path: Path):
    """The track of sound begins 0.2 s after that of pictures."""
    path = record(tmp_path / "a.mov", heard(1.0), later=SOUND_RATE // 5)
    sound = read_sound(open_recording(path, "a"))
    assert sound is not None
    assert np.abs(sound[: RATE // 6]).max() == 0.0
    record(tmp_path / "b.mov", heard(0.8, seed=2))
    prepare(tmp_path / "a.mov", tmp_path / "b.mov", "--sync", "audio")
    assert starts(tmp_path) == [0, 0]


@pytest.mark.parametrize("sound", [None, np.zeros(SOUND_RATE)])
def test_a_silent_camera_is_named(tmp_path: Path, sound: np.ndarray | None):
    record(tmp_path / "a.mov", heard(1.0))
    record(tmp_path / "mute.mov", sound)
    with pytest.raises(ValueError, match="sound in every recording, but mute has none"):
        prepare(tmp_path / "a.mov", tmp_path / "mute.mov", "--sync", "audio")
    assert not (tmp_path / RIG).exists()


def test_a_camera_elsewhere_is_named(tmp_path: Path):
    record(tmp_path / "a.mov", heard(1.0))
    record(tmp_path / "b.mov", heard(0.8))
    noise = 0.2 * np.random.default_rng(9).standard_normal(2 * SOUND_RATE)
    record(tmp_path / "far.mov", noise)
    with pytest.raises(ValueError, match=r"matches that of a, .* that of far \(1\.\d+\) does not"):
        prepare(*sorted(tmp_path.glob("*.mov")), "--sync", "audio")


def test_timecodes_tell_where_cameras_begin(tmp_path: Path):
    record(tmp_path / "a.mov", None, timecode="10:59:59:20")
    record(tmp_path / "b.mov", None, timecode="11:00:00:03")
    record(tmp_path / "c.mov", None, timecode="11:00:00:00")
    prepare(*sorted(tmp_path.glob("*.mov")), "--sync", "timecode")
    assert starts(tmp_path) == [8, 0, 3]


def test_a_take_across_midnight(tmp_path: Path):
    record(tmp_path / "a.mov", None, timecode="23:59:59:20")
    record(tmp_path / "b.mov", None, timecode="00:00:00:02")
    prepare(*sorted(tmp_path.glob("*.mov")), "--sync", "timecode")
    assert starts(tmp_path) == [7, 0]


@pytest.mark.parametrize(
    ("text", "fps", "frames"),
    [
        ("00:00:01:00", 25.0, 25),
        ("01:00:00:00", 30000 / 1001, 108_000),
        ("00:01:00;02", 30000 / 1001, 1800),
        ("01:00:00;00", 30000 / 1001, 107_892),
        ("00:10:00;00", 60000 / 1001, 35_964),
    ],
)
def test_numbers_that_timecodes_leave_out(text: str, fps: float, frames: int):
    assert timecode_seconds(text, fps) * fps == pytest.approx(frames)


def test_what_has_no_timecode(tmp_path: Path):
    record(tmp_path / "a.mov", None, timecode="10:00:00:00")
    record(tmp_path / "b.mov", None)
    with pytest.raises(ValueError, match="timecode in every recording, but b has none"):
        prepare(*sorted(tmp_path.glob("*.mov")), "--sync", "timecode")
    for text in ("10:00:00:30", "noon", "10:60:00:00"):
        with pytest.raises(ValueError, match=r"HH:MM:SS:FF at 25 .*, got"):
            timecode_seconds(text, 25.0)
    record(tmp_path / "b.mov", None, timecode="12:00:00:00")
    with pytest.raises(ValueError, match=r"a ended 7198\.0 s before b began"):
        prepare(*sorted(tmp_path.glob("*.mov")), "--sync", "timecode")
    assert not (tmp_path / RIG).exists()


def test_what_cannot_be_synchronised(tmp_path: Path):
    from PIL import Image

    (tmp_path / "a").mkdir()
    Image.fromarray(test_image(0, 0)).save(tmp_path / "a" / "0.png")
    for sync, carries in (("audio", "sound"), ("timecode", "timecodes")):
        with pytest.raises(ValueError, match=rf"videos, which carry {carries}, but a is a folder"):
            prepare(tmp_path / "a", "--sync", sync)
    with pytest.raises(ValueError, match="--start or from --sync audio, got both"):
        prepare(tmp_path / "a", "--sync", "audio", "--start", "a=0")
