"""Image files as RGB arrays of 8 bits, turned as they were calibrated."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import ExifTags, Image, ImageOps

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_HOLD_ORIENTATION = {"exif", "xmp", "XML:com.adobe.xmp"}
_PLAIN_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"}
_GREY_16 = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow's names for grey images of 16 bits, which it clips at 255 when it converts them."""


def read_image_size(path: Path) -> tuple[int, int, bool]:
    """Width and height of an image file as it is stored, and whether its EXIF orientation swaps
    them; nothing is decoded. See `_opened` for errors."""
    with _opened(path) as image:
        return *image.size, _orientation(image) >= 5


def has_alpha(path: Path) -> bool:
    """Whether an image file carries transparency; a missing file counts as transparent.

    A run is rendered without its images too, and must then use the same background.
    """
    try:
        with _opened(path) as image:
            return image.has_transparency_data
    except (OSError, ValueError):
        return True


def decode_image(
    path: Path,
    background: tuple[float, float, float] | None,
    size: tuple[int, int],
    *,
    is_opaque: bool = False,
) -> UInt8[np.ndarray, "H W 3"]:
    """An image file as RGB; transparency is laid over `background`, or ignored if `is_opaque`.

    `size`, width and height of the camera, tells whether the calibration saw the image as it is
    stored or as its EXIF orientation shows it. See `_opened` for further errors.

    Raises:
        ValueError: the calibration does not tell, the colours are of an unknown kind, or the image
            is transparent and there is no background.
    """
    with _opened(path) as stored:
        stored.load()
        image = _eight_bits(path, _as_calibrated(path, stored, size))
        if not image.has_transparency_data:
            return np.array(image.convert("RGB"))
        rgba = np.array(image.convert("RGBA"))
    if is_opaque:
        return np.ascontiguousarray(rgba[:, :, :3])
    if background is None:
        if rgba[:, :, 3].min() < 255:
            raise ValueError(
                f"Expected opaque images, but {path} has transparent pixels and the parser knows "
                "no background for them; save the images over one, without transparency."
            )
        return rgba[:, :, :3]
    alpha = rgba[:, :, 3:].astype(np.float32) / 255.0
    under = 255.0 * np.asarray(background, dtype=np.float32)
    return (rgba[:, :, :3] * alpha + under * (1.0 - alpha) + 0.5).astype(np.uint8)


def decode_mask(path: Path, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Where an image file is above 0, in any of its colours; see `read_values`."""
    return read_values(path, size, "a mask") > 0


def read_values(path: Path, size: tuple[int, int], kind: str) -> Shaped[np.ndarray, "H W"]:
    """The numbers of an image file, the largest of its colours; `size` is the width and height that
    it must have, `kind` what it is, with an article. See `_opened` for further errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another size.
    """
    if not path.exists():
        raise missing_file(path, kind)
    with _opened(path) as stored:
        values = np.asarray(stored)
    if values.shape[:2] != size[::-1]:
        raise ValueError(
            f"Expected {kind} of the image's size ({size[0]}x{size[1]}) at {path}, but it has "
            f"{values.shape[1]}x{values.shape[0]}; save it in that size."
        )
    if values.ndim == 3:
        # A last channel of transparency says nothing.
        values = values[:, :, : 3 if values.shape[2] > 2 else 1].max(2)
    return values


def is_truncated_png(path: Path) -> bool:
    """Whether a PNG file ends before its last chunk; nothing is decoded. A missing one does not."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 1024, 0))
        return b"IEND" not in file.read()


def has_shape(width: int, height: int, of: tuple[float, float]) -> bool:
    """Whether an image has the proportions of a camera."""
    # Rounding to whole pixels may shift either side by half a pixel.
    return abs(width * of[1] / (height * of[0]) - 1.0) <= 0.01 + 1.0 / min(of)


def missing_file(path: Path, kind: str) -> FileNotFoundError:
    """The error for a file that is not there; `kind` has an article."""
    return FileNotFoundError(
        f"Expected {kind} at {path}, but there is none; complete the data folder."
    )


def _orientation(image: Image.Image) -> int:
    """1 for an image that is stored as it is shown; 5 to 8 where rows are shown as columns."""
    # Without these entries, Pillow would decode a PNG to look for others behind its pixels.
    if not _HOLD_ORIENTATION & image.info.keys():
        return 1
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _as_calibrated(path: Path, image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if not 2 <= _orientation(image) <= 8:
        return image
    # Some tools calibrate what is stored (COLMAP), others what is shown (OpenCV); only the
    # proportions of the camera tell which.
    shown = ImageOps.exif_transpose(image)
    if has_shape(*image.size, of=size) and has_shape(*shown.size, of=size):
        raise ValueError(
            f"Expected images that are stored as they are shown, but {path} has the EXIF "
            f"orientation {_orientation(image)}, and its size does not tell which of the two was "
            "calibrated; save the images as they were calibrated, without that entry."
        )
    return shown if has_shape(*shown.size, of=size) else image


def _eight_bits(path: Path, image: Image.Image) -> Image.Image:
    if image.mode in _GREY_16:
        values = np.asarray(image).astype(np.int64)
        if values.min() >= 0 and values.max() <= 65535:
            return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode in _PLAIN_MODES:
        return image
    raise ValueError(
        f"Expected grey, palette or RGB images of 8 or 16 bits, but {path} has the colours "
        f"{image.mode}; convert the images to RGB of 8 bits."
    )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file, also while it is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or no image.
    """
    # A pipe would be waited for.
    if path.exists() and not path.is_file():
        raise ValueError(f"Expected an image at {path}, but it is no ordinary file; remove it.")
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise missing_file(path, "an image") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"Expected an image at {path}, but it cannot be read ({reason}); copy the file again."
        ) from error
