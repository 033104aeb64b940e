"""Videos that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moegs_ns.atomic_files import replace_synced, temporary_folder

REMEDY = "make room, or name another --output"


@contextmanager
def whole_video(path: Path, num_frames: int) -> Iterator[Path]:
    """A temporary name for a video that another program writes; it becomes `path` at the end if it
    is whole: encoders may end well on a full disk.

    Raises:
        OSError: it could not be written; nothing is left of it, and an earlier one is untouched.
    """
    try:
        with temporary_folder(path.parent) as temporary:
            yield temporary / path.name
            found = count_frames(temporary / path.name)
            if found != num_frames:
                raise OSError(f"it has {found} of {num_frames} frames")
            replace_synced(temporary / path.name, path)
    except (OSError, RuntimeError) as error:
        if not is_of_writing(error):
            raise
        reason = (getattr(error, "strerror", None) or str(error)).strip().splitlines()[0]
        raise OSError(f"The video {path} cannot be written ({reason}); {REMEDY}.") from error


def is_of_writing(error: Exception) -> bool:
    """Whether an error is one of the disk or the encoder, and not of what is rendered."""
    return isinstance(error, OSError) or str(error).startswith("Error writing '")


def count_frames(path: Path) -> int:
    """Frames that a video holds; 0 if it is none. Nothing is decoded."""
    # Only rendering needs it.
    import av

    try:
        with av.open(str(path)) as container:
            return sum(1 for packet in container.demux(video=0) if packet.size)
    except (OSError, ValueError, IndexError):
        return 0
