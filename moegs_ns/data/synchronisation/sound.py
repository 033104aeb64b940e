"""Recordings synchronised by what their microphones heard."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from moegs_ns.data.dataparsers.recordings import Recording
from moegs_ns.data.frames.videos import opened_video
from moegs_ns.data.synchronisation.starts import Start, common_starts, require_videos
from moegs_ns.progress import track

RATE = 8000
"""Samples per second that are compared: voices and claps, exact to a hundredth of a frame."""
_LONGEST = 1200.0
"""Seconds of a recording that are compared."""
_NEAR = 0.05
"""Seconds around a match in which echoes and other ways to the microphone lie."""
CLEAR = 3.0
"""Smallest confidence of a match; a metronome reaches 2 at any of its beats."""
_SILENT = 1e-3
"""Loudest sample, of 1, of a track without sound."""


def starts_by_sound(recordings: Sequence[Recording]) -> list[Start]:
    """The frames that show the first instant that all have recorded. Sound needs 3 ms for a metre,
    so cameras are synchronised to that.

    Raises:
        ValueError: a recording is no video, has no sound, its sound is not clearly that of the
            first, or they share no instant.
    """
    require_videos(recordings, "--sync audio", "sound")
    sounds = [read_sound(recording) for recording in track(recordings, "Listening")]
    silent = [each.name for each, sound in zip(recordings, sounds, strict=True) if sound is None]
    if silent:
        raise ValueError(
            f"Expected sound in every recording, but {', '.join(silent)} "
            f"{'has' if len(silent) == 1 else 'have'} none; leave the camera out, or say which "
            "frames belong together with --start."
        )
    heard = [sound for sound in sounds if sound is not None]
    lags = [
        lag_between(heard[0], sound) for sound in track(heard[1:], "Comparing the sound of cameras")
    ]
    unclear = [
        f"{each.name} ({confidence:.2f})"
        for each, (_, confidence) in zip(recordings[1:], lags, strict=True)
        if confidence < CLEAR
    ]
    if unclear:
        raise ValueError(
            f"Expected sound that clearly matches that of {recordings[0].name}, with a confidence "
            f"of {CLEAR} or more, but that of {', '.join(unclear)} does not; leave the camera out, "
            "or say which frames belong together with --start, by a clap or flash that all show."
        )
    # What comes later in a recording, began earlier.
    began = [0.0, *(-lag for lag, _ in lags)]
    return common_starts(recordings, began, [None, *(confidence for _, confidence in lags)])


def lag_between(
    reference: Float[np.ndarray, "N"], other: Float[np.ndarray, "M"]
) -> tuple[float, float]:
    """Seconds by which everything comes later in `other` than in `reference`, and the confidence:
    the best match as a multiple of the best one elsewhere.

    Both are correlated with all frequencies weighted alike (GCC-PHAT; Knapp and Carter 1976), so
    that neither hum nor the colour of a microphone counts.
    """
    size = 1 << (len(reference) + len(other) - 1).bit_length()
    product = np.fft.rfft(other, size) * np.conj(np.fft.rfft(reference, size))
    strength = np.abs(product)
    product /= np.maximum(strength, 1e-6 * strength.max() + 1e-30)
    # A microphone may be wired with the other sign.
    matches = np.abs(np.fft.irfft(product, size))
    best = int(matches.argmax())
    places = (np.arange(size) - best + size // 2) % size - size // 2
    elsewhere = matches[np.abs(places) > _NEAR * RATE].max()
    lag = best if best < len(other) else best - size
    return lag / RATE, float(matches[best] / max(float(elsewhere), 1e-30))


def read_sound(recording: Recording) -> Float[np.ndarray, "N"] | None:
    """Samples of the first sound track, as one channel, from the first frame of the video on; None
    if there is none, or silence.

    Raises:
        ValueError: the file is broken.
    """
    assert recording.times is not None, recording.path
    with opened_video(recording.path) as (container, _):
        if not container.streams.audio:
            return None
        begins, samples = _decoded(container, container.streams.audio[0])
    # Begin both tracks at one time.
    early = round((float(recording.times[0]) - begins) * RATE)
    samples = samples[early:] if early > 0 else np.concatenate([np.zeros(-early), samples])
    if not len(samples) or np.abs(samples).max() < _SILENT:
        return None
    return samples


def _decoded(container: Any, stream: Any) -> tuple[float, Float[np.ndarray, "N"]]:
    """The time in seconds of the first sample, and samples in one channel at `RATE`."""
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    parts: list[np.ndarray] = []
    begins, count = None, 0
    for frame in container.decode(stream):
        if begins is None:
            begins = float((frame.pts or 0) * frame.time_base)
        for part in resampler.resample(frame):
            parts.append(part.to_ndarray().reshape(-1))
            count += len(parts[-1])
        if count > _LONGEST * RATE:
            break
    parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(None)]
    samples = np.concatenate(parts) if parts else np.empty(0)
    return begins or 0.0, samples.astype(np.float64)
