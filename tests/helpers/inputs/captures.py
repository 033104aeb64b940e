"""Scenes with masks: ZJU-MoCap, whose cameras are a pickle, and EndoNeRF."""

import os
from collections.abc import Callable
from typing import Any

from zju_scenes import annotations, write_annotations, zju_cameras

from inputs.case import Case, Change
from inputs.changes import DAMAGE, at, copied_to, remove

ZJU = "ns-train moegs-stg --data zju zju-data"
ENDO = "ns-train moegs-4dgaussians --data endo llff-video-data"
STARTS = "(training starts)"


class Call:
    """Pickles as a call of a shell."""

    def __reduce__(self):
        return os.system, ("touch MARK",)


def annots(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Change what annots.npy holds."""

    def apply(folder) -> None:
        content = annotations(zju_cameras(), 2)
        change(content)
        write_annotations(folder / "zju" / "annots.npy", content)

    return apply


ANNOTATIONS = [
    ("a call of a shell", lambda c: c.update(cams=Call()), "system, which is no part of an array"),
    ("no cams", lambda c: c.pop("cams"), "it lacks 'cams'"),
    ("a pose too few", lambda c: c["cams"]["T"].pop(), "of [18, 19] cameras"),
    ("a name too few", lambda c: c["ims"][1]["ims"].pop(), "18 images of 19 cameras"),
    ("no frames", lambda c: c["ims"].clear(), "it lists no frames"),
    ("a rotation of zeros", lambda c: c["cams"]["R"].__setitem__(6, c["cams"]["R"][6] * 0.0), "a rotation"),
    ("a focal length of 0", lambda c: c["cams"]["K"].__setitem__(6, c["cams"]["K"][6] * 0.0), ""),
    ("an image elsewhere", lambda c: c["ims"][0]["ims"].__setitem__(0, "../a.jpg"), "outside of the capture"),
]  # fmt: skip
CASES = [
    Case("a capture", ZJU, STARTS, 0, needs=("zju",)),
    Case("a capture with its background", f"{ZJU} --background kept", STARTS, 0, needs=("zju",)),
    Case("a capture whose background counts not", f"{ZJU} --background masked", STARTS, 0, needs=("zju",)),
    *(Case(f"{kind} annots.npy", ZJU, "", 1, at("zju/annots.npy", DAMAGE[kind]), ("zju",)) for kind in DAMAGE),
    *(Case(f"annots.npy: {name}", ZJU, says, 1, annots(change), ("zju",)) for name, change, says in ANNOTATIONS),
    Case("no masks of the person", ZJU, "--background kept", 1, at("zju/mask_cihp", remove), ("zju",)),
    *(Case(f"{kind} mask of the person", ZJU, "", 1, at("zju/mask_cihp/Camera_B1/000000.png", DAMAGE[kind]), ("zju",)) for kind in ("a missing", "an empty", "text as", "a folder as")),
    Case("no frame", f"{ZJU} --max-frames 0", "--max-frames expects", needs=("zju",)),
    Case("a background of another kind", f"{ZJU} --background green", "background", 2, needs=("zju",)),
    Case("a video of a still camera", ENDO, STARTS, 0, needs=("endo",)),
    Case("all images are trained on", f"{ENDO} --held-out-every None", STARTS, 0, needs=("endo",)),
    *(Case(f"{kind} {name}", ENDO, "", 1, at(f"endo/{name}", DAMAGE[kind]), ("endo",)) for name in ("poses_bounds.npy", "masks/frame-000002.mask.png", "depth/frame-000000.depth.png") for kind in ("a missing", "an empty", "text as", "a pipe as")),
    Case("an image too many", ENDO, "", 1, at("endo/images/frame-000010.color.png", copied_to("{}_2.png")), ("endo",)),
    *(Case(f"llff-video-data --{option}", f"{ENDO} --{option}", says, 1, needs=("endo",)) for option, says in (
        ("held-out-every 1", "--held-out-every expects"), ("depth-scale nan", "depth-scale expects"),
        ("max-depth-points 0", "--max-depth-points expects"), ("masks-folder gone", "no such folder"), ("frames 1 1", "all are held out"))),
]  # fmt: skip
