"""Photos and masks: files that are none, sizes, colours, transparency and orientation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from data_helpers import masked_scene
from PIL import Image

from inputs.case import Case, Change
from inputs.changes import DAMAGE, at, content, json_with, remove

PHOTOS = "ns-train moegs-stg --data photos n3v-data"
MASKED = "ns-train moegs-4dgaussians --data masked nerfstudio-data"
STARTS = "(training starts)"
ORIENTATION = 0x0112


def stored(make: Callable[[Image.Image], Image.Image], **save) -> Change:
    """All photos of the scene in another form."""

    def apply(path: Path) -> None:
        make(Image.open(path).copy()).save(path, **save)

    return at("photos/cam*/images/*.png", apply)


def transparent(image: Image.Image) -> Image.Image:
    image.putalpha(Image.fromarray(np.arange(24 * 16, dtype=np.uint8).reshape(16, 24)))
    return image


def turned(orientation: int) -> dict:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return {"exif": exif}


def masked(change: Callable[[Path], object]) -> Change:
    return lambda folder: change(masked_scene(folder / "masked"))


def grey(path: Path, value: int = 0, size: tuple[int, int] = (24, 16)) -> None:
    Image.new("L", size, value).save(path)


FAULTS = {
    "an empty": "0002.png",
    "a truncated": "0002.png",
    "text as": "0002.png",
    "a folder as": "share 3 of 4",
    "a pipe as": "is a pipe, a socket or a device; remove it",
    "a device as": "is a pipe, a socket or a device; remove it",
    "a dangling link as": "0002.png",
    "a link in a circle as": "0002.png",
}
MASK_FAULTS = {
    "a missing": "0002.png",
    "an empty": "0002.png",
    "a truncated": "0002.png",
    "text as": "0002.png",
    "a folder as": "0002.png",
    "a pipe as": "is a pipe, a socket or a device; remove it",
    "a device as": "is a pipe, a socket or a device; remove it",
    "a dangling link as": "0002.png",
    "a link in a circle as": "0002.png",
}
BOMB = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\x02\x00\x00\x00"
    b"Q\x99\x0c\x18"
)
"""The beginning of a PNG of 100,000 x 100,000 pixels."""

CASES = [
    *(
        Case(f"{kind} photo", PHOTOS, says, 1, at("photos/cam01/images/0002.png", DAMAGE[kind]), ("photos",))
        for kind, says in FAULTS.items()
    ),
    *(
        Case(f"{kind} photo of {scene}", f"ns-train moegs-4dgaussians --data {scene} {parser}", "", 1, at(name, DAMAGE[kind]), (scene,))
        for scene, parser, name in (
            ("dnerf", "dnerf-data", "dnerf/train/r_001.png"),
            ("stills", "nerfstudio-data", "stills/images/0001.png"),
            ("dome", "panoptic-data", "dome/ims/4/000001.jpg"),
        )
        for kind in ("a missing", "an empty", "a truncated", "text as", "a folder as", "a pipe as", "a dangling link as")
    ),
    Case("a held-out photo that is damaged", PHOTOS, "0002.png", 1, at("photos/cam00/images/0002.png", DAMAGE["a truncated"]), ("photos",)),
    Case("a held-out photo of D-NeRF that is missing", "ns-train moegs-4dgaussians --data dnerf dnerf-data", "r_000.png", 1, at("dnerf/val/r_000.png", remove), ("dnerf",)),
    Case("photos of another shape", PHOTOS, "24x24 as it is shown", 1, stored(lambda i: i.resize((24, 24))), ("photos",)),
    Case("photos of twice the size", PHOTOS, STARTS, 0, stored(lambda i: i.resize((48, 32))), ("photos",)),
    Case("one photo of another size", PHOTOS, "0002.png", 1, at("photos/cam01/images/0002.png", lambda p: Image.new("RGB", (48, 32)).save(p)), ("photos",)),
    Case("one camera of another size", PHOTOS, "images of one size", 1, at("photos/cam01/images/*.png", lambda p: Image.new("RGB", (48, 32)).save(p)), ("photos",)),
    Case("photos of one pixel", PHOTOS, "", 1, stored(lambda i: i.resize((1, 1))), ("photos",)),
    Case("a photo of ten thousand million pixels", PHOTOS, "0002.png", 1, at("photos/cam01/images/0002.png", content(BOMB)), ("photos",)),
    Case("all photos of ten thousand million pixels", PHOTOS, "", 1, at("photos/cam*/images/*.png", content(BOMB)), ("photos",)),
    Case("transparent photos", PHOTOS, "has transparent pixels", 1, stored(transparent), ("photos",)),
    Case("opaque photos with alpha", PHOTOS, STARTS, 0, stored(lambda i: i.convert("RGBA")), ("photos",)),
    Case("grey photos", PHOTOS, STARTS, 0, stored(lambda i: i.convert("L")), ("photos",)),
    Case("photos of two colours", PHOTOS, STARTS, 0, stored(lambda i: i.convert("1")), ("photos",)),
    Case("photos with a palette", PHOTOS, STARTS, 0, stored(lambda i: i.quantize(8)), ("photos",)),
    Case("grey photos of 16 bits", PHOTOS, STARTS, 0, stored(lambda i: Image.fromarray(np.array(i.convert("L")).astype(np.uint16) * 257)), ("photos",)),
    *(
        Case(f"photos with the EXIF orientation {number}", PHOTOS, says, status, stored(lambda i: i, **turned(number)), ("photos",))
        for number, status, says in ((1, 0, STARTS), (2, 1, "EXIF orientation 2"), (3, 1, "EXIF orientation 3"), (4, 1, "EXIF orientation 4"), (6, 0, STARTS), (8, 0, STARTS), (99, 0, STARTS))
    ),
    Case("photos of four colours for print", PHOTOS, "CMYK", 1,
         at("photos/cam*/images/*.png", lambda p: (Image.open(p).convert("CMYK").save(p.with_suffix(".jpg")), p.unlink())), ("photos",)),
    Case("a JPEG that is called PNG", PHOTOS, STARTS, 0, at("photos/cam*/images/*.png", lambda p: Image.open(p).copy().save(p, format="JPEG")), ("photos",)),
    Case("a video that is called PNG", PHOTOS, "0002.png", 1, at("photos/cam01/images/0002.png", content(b"\0\0\0\x18ftypmp42" + bytes(64))), ("photos",)),
    Case("transparent pictures of D-NeRF", "ns-train moegs-4dgaussians --data dnerf dnerf-data", STARTS, 0, needs=("dnerf",)),
    # ---- masks ----
    Case("masks", MASKED, STARTS, 0, masked(lambda p: None)),
    *(
        Case(f"{kind} mask", MASKED, says, 1, masked(lambda p, k=kind: DAMAGE[k](p / "masks" / "0002.png")))
        for kind, says in MASK_FAULTS.items()
    ),
    Case("a mask of another size", MASKED, "0002.png", 1, masked(lambda p: grey(p / "masks" / "0002.png", 255, (12, 8)))),
    Case("a mask of another shape", MASKED, "0002.png", 1, masked(lambda p: grey(p / "masks" / "0002.png", 255, (16, 24)))),
    Case("a mask in which nothing counts", MASKED, STARTS, 0, masked(lambda p: grey(p / "masks" / "0002.png"))),
    Case("masks in which nothing counts", MASKED, "", 1, masked(lambda p: [grey(m) for m in (p / "masks").iterdir()])),
    Case("a mask of ten thousand million pixels", MASKED, "0002.png", 1, masked(lambda p: (p / "masks" / "0002.png").write_bytes(BOMB))),
    Case("a mask in colour", MASKED, "a mask of one channel", 1, masked(lambda p: Image.new("RGB", (24, 16), (255, 255, 255)).save(p / "masks" / "0002.png"))),
    Case("a mask for some frames only", MASKED, "", 1, masked(lambda p: json_with(lambda m: m["frames"][0].pop("mask_path"))(p / "transforms.json"))),
    Case("masks outside of the scene", MASKED, "inside of the scene folder", 1,
         masked(lambda p: (grey(p.parent / "m.png", 255), json_with(lambda m: m["frames"][0].update(mask_path="../m.png"))(p / "transforms.json")))),
    Case("a mask's path that is a number", MASKED, "", 1, masked(lambda p: json_with(lambda m: m["frames"][0].update(mask_path=7))(p / "transforms.json"))),
]  # fmt: skip
