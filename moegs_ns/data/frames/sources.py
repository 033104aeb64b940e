"""Where an image comes from, and how it is read: a frame of a video or an image file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class FrameSource:
    """One image: frame `frame` of the video at `path`, or the image file at `path`."""

    path: Path
    frame: int | None = None
    """Position in the video, from 0; None for an image file."""

    @property
    def group(self) -> Path:
        """Images of one group are decoded together: the video, or the folder of the image."""
        return self.path.parent if self.frame is None else self.path


@dataclass(frozen=True)
class VideoHeader:
    """What a video says about itself, read without decoding it."""

    width: int
    height: int
    num_frames: int
    fps: float


def read_video_header(path: Path) -> VideoHeader:
    """Size, number of frames and rate of a video.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no readable video.
    """
    import cv2

    if not path.is_file():
        raise FileNotFoundError(f"Expected a video at {path}, but there is none; check the folder.")
    capture = cv2.VideoCapture(str(path))
    try:
        fields = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_COUNT)
        width, height, frames = (int(capture.get(name)) for name in fields)
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        readable = capture.isOpened() and min(width, height, frames) > 0
    finally:
        capture.release()
    if not readable:
        raise ValueError(
            f"Expected a video at {path}, but its header cannot be read (truncated or no video); "
            "copy or convert the file again."
        )
    return VideoHeader(width, height, frames, fps)


def read_image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, without decoding it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no readable image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError:
        raise FileNotFoundError(_missing_image(path)) from None
    except (OSError, SyntaxError) as error:
        raise ValueError(_broken_image(path, error)) from error


def has_alpha(path: Path) -> bool:
    """Whether an image file carries transparency; a missing file counts as transparent.

    A run is rendered without its images too, and must then use the same background.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    except OSError:
        return True


def decode_image(
    path: Path, background: tuple[float, float, float] | None
) -> UInt8[np.ndarray, "H W 3"]:
    """An image file as RGB; transparency is laid over `background`, or dropped where that is None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            if background is None or not transparent:
                return np.array(image.convert("RGB"))
            rgba = np.array(image.convert("RGBA"))
    except FileNotFoundError:
        raise FileNotFoundError(_missing_image(path)) from None
    except (OSError, SyntaxError) as error:
        raise ValueError(_broken_image(path, error)) from error
    alpha = rgba[:, :, 3:].astype(np.float32) / 255.0
    under = 255.0 * np.asarray(background, dtype=np.float32)
    return (rgba[:, :, :3] * alpha + under * (1.0 - alpha) + 0.5).astype(np.uint8)


def decode_video(path: Path, frames: list[int]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The given frames (ascending) of a video as RGB, decoded from its beginning.

    Seeking is avoided because it is inexact in many containers.

    Raises:
        ImportError: the package av is not installed.
        ValueError: the video is corrupt or ends early.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise ImportError(
            f"Decoding {path} needs the package av; run `pip install av` or extract the frames to "
            f"{path.with_suffix('')}/images/."
        ) from error
    wanted, position = iter(frames), -1
    target = next(wanted, None)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                position += 1
                if frame.is_corrupt:
                    raise ValueError(_broken_video(path, f"frame {position} is corrupt"))
                if position != target:
                    continue
                yield frame.to_ndarray(format="rgb24")
                target = next(wanted, None)
                if target is None:
                    return
    except (FFmpegError, IndexError) as error:
        raise ValueError(_broken_video(path, str(error))) from error
    if target is not None:
        raise ValueError(
            _broken_video(path, f"it ends after {position + 1} frames, frame {target} is missing")
        )


def _missing_image(path: Path) -> str:
    return f"Expected an image at {path}, but there is none; complete the data folder."


def _broken_image(path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"Expected an image at {path}, but it cannot be read ({reason}); copy the file again."


def _broken_video(path: Path, reason: str) -> str:
    return (
        f"Expected a complete video at {path}, but {reason}; copy the file again or choose fewer "
        "frames with --frames."
    )
