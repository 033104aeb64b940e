"""Which cameras and frames of a data set are used."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Camera = TypeVar("Camera", int, str)
"""What a parser's options name cameras by."""


@dataclass(frozen=True)
class CameraSplit(Generic[Camera]):
    """Cameras, ascending; each is trained on, held out, or left out."""

    train: list[Camera]
    held_out: list[Camera]

    @property
    def used(self) -> list[Camera]:
        """All cameras but those that are left out."""
        return sorted(self.train + self.held_out)

    def of(self, split: str) -> list[Camera]:
        """The cameras of one of nerfstudio's splits; `val` and `test` are the held-out ones."""
        return self.train if split == "train" else self.held_out


def divide_cameras(
    cameras: Collection[Camera],
    held_out: Sequence[Camera],
    excluded: Sequence[Camera] = (),
    *,
    may_hold_none: bool = False,
) -> CameraSplit[Camera]:
    """Divide the cameras of a rig as the options of its parser say.

    Raises:
        ValueError: an option names a camera that does not exist or is named before, or no camera
            is left to train on or, unless that may be, to hold out.
    """
    known = ", ".join(map(str, sorted(cameras)))
    for option, numbers in (("--held-out-cameras", held_out), ("--exclude-cameras", excluded)):
        given = " ".join(map(str, numbers))
        if len(set(numbers)) != len(numbers):
            raise ValueError(
                f"{option} expects each camera once, got {given}; correct the one that is named "
                "twice."
            )
        if not set(numbers) <= set(cameras):
            raise ValueError(
                f"{option} expects some, but not all, of the {len(cameras)} cameras ({known}), got "
                f"{given}; name cameras that exist."
            )
    both = sorted(set(held_out) & set(excluded))
    if both:
        raise ValueError(
            f"--exclude-cameras expects other cameras than --held-out-cameras, but both name "
            f"{' '.join(map(str, both))}; hold out another camera."
        )
    train = sorted(set(cameras) - set(held_out) - set(excluded))
    if not train or not (held_out or may_hold_none):
        raise ValueError(
            f"--held-out-cameras expects some, but not all, of the {len(cameras)} cameras "
            f"({known}), got {' '.join(map(str, held_out)) or 'none'}; hold some out, and leave "
            "some to train on."
        )
    return CameraSplit(train, sorted(held_out))


def choose_numbers(frames: tuple[int, int] | None, known: Collection[int]) -> range:
    """The frames of the clip, by the numbers that file names give them; by default all.

    Raises:
        ValueError: the range is empty or reaches beyond the recording.
    """
    lowest, highest = min(known), max(known)
    first, last = (lowest, highest) if frames is None else frames
    if not lowest <= first <= last <= highest or not set(known) & set(range(first, last + 1)):
        raise ValueError(
            f"--frames expects FIRST LAST with {lowest} <= FIRST <= LAST <= {highest} (the numbers "
            f"that the files bear; there are {len(set(known))} frames), got {first} {last}; choose "
            "a range inside it."
        )
    return range(first, last + 1)


def check_max_frames(max_frames: int | None) -> None:
    """Raise a ValueError unless --max-frames keeps a frame."""
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"--max-frames expects a number above 0 or None, got {max_frames}.")


def check_complete(
    images: Collection[tuple[int, int]], names: Mapping[int, str], frames: Sequence[int], data: Path
) -> None:
    """Raise unless each of these cameras has all frames; `images` are pairs of both numbers.

    Raises:
        ValueError: names the first camera that lacks some.
    """
    for camera, name in names.items():
        missing = [frame for frame in frames if (camera, frame) not in images]
        if missing:
            raise ValueError(
                f"Expected the same frames from all cameras in {data}, but {name} lacks "
                f"{len(missing)} of {len(frames)}, the first of them {missing[0]}; complete the "
                "images, or choose other --frames after the parser's name."
            )
