"""What the readers share: files, and the sentence about one that is broken."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

OPENCV_SHIFT = 0.5
"""Added to principal points of tools that count pixels from the centre of the first one."""


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a sentence that says `what` was expected.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not what was expected.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Expected {what} in {path}, but there is no such file; set --from to a calibration."
        ) from None
    except (OSError, EOFError, LookupError, TypeError, ValueError, SyntaxError, cv2.error) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, KeyError):
            reason = f"it lacks {reason}"
        raise ValueError(
            f"Expected {what} in {path}, but it cannot be read ({reason.rstrip('.;')}); export the "
            "calibration again."
        ) from error


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def rotation_from_vector(vector: Any) -> Float[np.ndarray, "3 3"]:
    """The matrix of a rotation vector (axis times angle in radians)."""
    return cv2.Rodrigues(np.asarray(vector, dtype=np.float64).reshape(3, 1))[0]


def padded(coefficients: Any, count: int) -> list[float]:
    """Distortion coefficients, filled up with zeros."""
    values = [float(value) for value in np.asarray(coefficients, dtype=np.float64).reshape(-1)]
    return values + [0.0] * (count - len(values))
