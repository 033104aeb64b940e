"""Recordings synchronised by the timecode (SMPTE 12M) that cameras write into their files.

The time of creation is none: cameras write it in whole seconds, when they open the file.
"""

import re
from collections.abc import Sequence

from moegs_ns.data.dataparsers.recordings import Recording
from moegs_ns.data.frames.videos import opened_video
from moegs_ns.data.synchronisation.starts import Start, common_starts, require_videos

_FORM = re.compile(r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})([:;.])([0-9]{2,3})")
_DAY = 86_400.0


def starts_by_timecode(recordings: Sequence[Recording]) -> list[Start]:
    """The frames that show the first instant that all have recorded.

    Raises:
        ValueError: a recording is no video, has no timecode, or shares no instant with others.
    """
    require_videos(recordings, "--sync timecode", "timecodes")
    texts = [_timecode(recording) for recording in recordings]
    missing = [each.name for each, text in zip(recordings, texts, strict=True) if text is None]
    if missing:
        raise ValueError(
            f"Expected a timecode in every recording, but {', '.join(missing)} "
            f"{'has' if len(missing) == 1 else 'have'} none; use the files as the cameras wrote "
            "them, --sync audio, or --start."
        )
    began = [
        timecode_seconds(text or "", recording.fps)
        for recording, text in zip(recordings, texts, strict=True)
    ]
    # A take across midnight.
    if max(began) - min(began) > _DAY / 2:
        began = [time + _DAY if time < _DAY / 2 else time for time in began]
    return common_starts(recordings, began)


def timecode_seconds(text: str, fps: float) -> float:
    """Seconds since midnight of a timecode, as 10:23:04:12, of a camera with this rate.

    Timecodes count frames: at 29.97 frames per second, hours of them last 3.6 s longer than others,
    unless the first numbers of most minutes are left out (drop frame, written with a semicolon).

    Raises:
        ValueError: it is no timecode, or has more frames in a second than the camera.
    """
    match = _FORM.fullmatch(text.strip())
    nominal = round(fps)
    if match is None or int(match[5]) >= nominal or int(match[2]) > 59 or int(match[3]) > 59:
        raise ValueError(
            f"Expected a timecode HH:MM:SS:FF at {fps:.4g} frames per second, got {text}; use "
            "--sync audio or --start."
        )
    hours, minutes, seconds, frames = (int(match[group]) for group in (1, 2, 3, 5))
    minutes += 60 * hours
    count = (60 * minutes + seconds) * nominal + frames
    if match[4] in ";.":
        # Two numbers at 29.97, four at 59.94, but for every tenth minute.
        count -= nominal // 15 * (minutes - minutes // 10)
    return count / fps


def _timecode(recording: Recording) -> str | None:
    """What the file, or the track of pictures or timecodes in it, says."""
    with opened_video(recording.path) as (container, stream):
        # Several tracks repeat it.
        for source in (stream, *container.streams, container):
            if "timecode" in source.metadata:
                return source.metadata["timecode"]
    return None
