"""Calibrations: poses, lenses and sizes that no camera has, and files that hold none."""

from collections.abc import Callable
from typing import Any

import numpy as np

from inputs.case import Case, Change
from inputs.changes import DAMAGE, array_with, at, content, json_with, put, remove, saved

PHOTOS = "ns-train moegs-stg --data photos n3v-data"
DOME = "ns-train moegs-stg --data dome panoptic-data"
DNERF = "ns-train moegs-4dgaussians --data dnerf dnerf-data"
STILLS = "ns-train moegs-4dgaussians --data stills nerfstudio-data"
IPHONE = "ns-train moegs-4dgaussians --data iphone dycheck-data"
RIG = "ns-train moegs-stg --data videos rig-data"
STARTS = "(training starts)"
ROWS = "photos/poses_bounds.npy"
NAN, INF = float("nan"), float("inf")


def rows(change: Callable[[np.ndarray], Any]) -> Change:
    return at(ROWS, array_with(change))


def axes(matrix: Any) -> Change:
    """Multiply the axes of camera 1."""

    def apply(array: np.ndarray) -> None:
        poses = array[:, :15].reshape(-1, 3, 5)
        poses[1, :, :3] = poses[1, :, :3] @ np.asarray(matrix, float)
        array[:, :15] = poses.reshape(-1, 15)

    return rows(apply)


def moved(distance: float, scale: float = 1.0) -> Change:
    """All cameras of the photos elsewhere, or in another unit."""

    def apply(array: np.ndarray) -> None:
        array[:, [3, 8, 13]] = scale * array[:, [3, 8, 13]] + distance
        array[:, 15:] *= scale

    return rows(apply)


def no_points(change: Change) -> Change:
    """Without the file of points, which belong to the old world."""
    return lambda folder: (remove(folder / "photos" / "points3D.npz"), change(folder))


N3V: list[tuple[str, Change, str]] = [
    ("an array of 16 columns", rows(lambda a: a[:, :16]), "an array [cameras, 17]"),
    ("an array of three dimensions", rows(lambda a: a[None]), "an array [cameras, 17]"),
    ("one number", rows(lambda a: np.float64(3)), "an array [cameras, 17]"),
    ("no rows", rows(lambda a: a[:0]), "0 rows for 3 cameras"),
    ("a row less", rows(lambda a: a[:2]), "2 rows for 3 cameras"),
    ("a row more", rows(lambda a: np.concatenate([a, a[:1]])), "4 rows for 3 cameras"),
    ("text in the array", rows(lambda a: a.astype(str)), "real numbers"),
    ("complex numbers", rows(lambda a: a.astype(complex)), "real numbers"),
    ("pickled objects", rows(lambda a: a.astype(object)), "it cannot be read"),
    ("truth values", rows(lambda a: a > 0), "real numbers"),
    ("half floats", rows(lambda a: a.astype(np.float16)), ""),
    (
        "an .npz called .npy",
        at(
            ROWS,
            lambda p: (
                np.savez(p.with_suffix(".npz"), np.load(p)),
                p.with_suffix(".npz").rename(p),
            ),
        ),
        "an archive",
    ),
    ("NaN in a pose", rows(put((1, 4), NAN)), "row 1 holds NaN or infinity"),
    ("an infinite position", rows(put((2, 8), INF)), "row 2 holds NaN or infinity"),
    ("NaN as bounds", rows(put((1, 15), NAN)), "row 1 holds NaN or infinity"),
    ("everything 0", rows(put(..., 0.0)), ""),
    ("a focal length of 0", rows(put((1, 14), 0.0)), "focal length above 0"),
    ("a negative focal length", rows(put((1, 14), -20.0)), "focal length above 0"),
    ("a focal length of 1e300", rows(put((1, 14), 1e300)), ""),
    ("a width of 0", rows(put((2, 9), 0.0)), "size and focal length above 0"),
    ("a negative height", rows(put((2, 4), -16.0)), "size and focal length above 0"),
    ("another shape", rows(put((2, 4), 24.0)), "says 24x24"),
    ("a scaled axis", axes(np.diag([1, 1, 1.1])), "skewed or scaled"),
    (
        "axes that are not at right angles",
        axes([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]]),
        "skewed or scaled",
    ),
    ("a rotation of zeros", axes(np.zeros((3, 3))), "skewed or scaled"),
    ("a mirrored camera", axes(np.diag([1, -1, 1])), "a mirrored one"),
    (
        "all cameras at one place",
        rows(lambda a: a.__setitem__((slice(None), [3, 8, 13]), 0.5)),
        "different places, but all",
    ),
    ("swapped bounds", rows(put((0, 15), 5.0)), "0 <= near < far"),
    ("a negative bound", rows(put((1, 15), -1.0)), "0 <= near < far"),
    ("equal bounds", rows(put((1, 16), 1.0)), "0 <= near < far"),
    ("a world hundreds of kilometres away", no_points(moved(500_000.0)), "single precision"),
]
DOMES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("a list", lambda m: [], ""),
    ("null", lambda m: {}, ""),
    *(
        (f"nothing under '{key}'", lambda m, k=key: m.pop(k) and None, "")
        for key in ("w", "h", "k", "w2c", "fn", "cam_id")
    ),
    *(
        (f"text under '{key}'", lambda m, k=key: m.update({k: "x"}), "")
        for key in ("w", "h", "k", "w2c", "fn", "cam_id")
    ),
    ("a width of 0", lambda m: m.update(w=0), "width w and height h above 0"),
    ("a height of NaN", lambda m: m.update(h=NAN), ""),
    ("another shape", lambda m: m.update(h=24), "proportions of the cameras"),
    ("a focal length of 0", lambda m: m["k"][1][1][0].__setitem__(0, 0.0), "focal length above 0"),
    (
        "a negative focal length",
        lambda m: m["k"][1][1][1].__setitem__(1, -21.0),
        "focal length above 0",
    ),
    (
        "an infinite principal point",
        lambda m: m["k"][1][1][0].__setitem__(2, INF),
        "NaN or infinity",
    ),
    (
        "a scaled rotation",
        lambda m: [t[1].__setitem__(0, [2, 0, 0, 0]) for t in m["w2c"]] and None,
        "skewed or scaled",
    ),
    (
        "a mirrored camera",
        lambda m: [t[1].__setitem__(0, [-1, 0, 0, 0]) for t in m["w2c"]] and None,
        "mirrored",
    ),
    (
        "a last row of something else",
        lambda m: [t[1].__setitem__(3, [0, 0, 3, 1]) for t in m["w2c"]] and None,
        "last row 0 0 0 1",
    ),
    ("matrices of 3 x 3", lambda m: m.update(w2c=[[np.eye(3).tolist()] * 3] * 3), ""),
    (
        "all cameras at one place",
        lambda m: m.update(w2c=[[np.eye(4).tolist()] * 3] * 3),
        "different places, but all 3",
    ),
    (
        "photos of another scene",
        lambda m: m["fn"][1].__setitem__(1, "../../../x/1/000001.jpg"),
        "inside of the scene folder",
    ),
    (
        "absolute names of photos",
        lambda m: m["fn"][1].__setitem__(1, "/etc/000001.jpg"),
        "inside of the folder ims",
    ),
    ("a number as the name of a photo", lambda m: m["fn"][1].__setitem__(1, 7), ""),
    ("an empty name of a photo", lambda m: m["fn"][1].__setitem__(1, ""), ""),
    ("text as the number of a camera", lambda m: m["cam_id"][1].__setitem__(1, "one"), ""),
    ("half a camera", lambda m: m["cam_id"][1].__setitem__(1, 1.5), ""),
]
TRANSFORMS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("a list", lambda m: [], ""),
    ("no frames", lambda m: m.update(frames=[]), ""),
    ("nothing under 'frames'", lambda m: m.pop("frames") and None, ""),
    ("frames that are a number", lambda m: m.update(frames=3), ""),
    ("a frame without a matrix", lambda m: m["frames"][0].pop("transform_matrix") and None, ""),
    ("a frame without a name", lambda m: m["frames"][0].pop("file_path") and None, ""),
    ("a matrix of text", lambda m: m["frames"][0].update(transform_matrix="x"), ""),
    ("a matrix of 3 x 3", lambda m: m["frames"][0].update(transform_matrix=np.eye(3).tolist()), ""),
    (
        "a matrix of 2 rows",
        lambda m: m["frames"][0].update(transform_matrix=np.eye(4)[:2].tolist()),
        "",
    ),
    (
        "a skewed matrix",
        lambda m: m["frames"][0]["transform_matrix"][0].__setitem__(0, 9.0),
        "skewed or scaled",
    ),
    (
        "NaN in a matrix",
        lambda m: m["frames"][0]["transform_matrix"][1].__setitem__(3, NAN),
        "NaN or infinity",
    ),
    (
        "a mirrored camera",
        lambda m: (
            [r.__setitem__(0, -r[0]) for r in m["frames"][0]["transform_matrix"][:3]] and None
        ),
        "a mirrored one",
    ),
    (
        "all cameras at one place",
        lambda m: (
            [f.update(transform_matrix=m["frames"][0]["transform_matrix"]) for f in m["frames"]]
            and None
        ),
        "different places, but all",
    ),
    ("a photo that is not there", lambda m: m["frames"][0].update(file_path="gone"), "gone"),
    ("a photo outside", lambda m: m["frames"][0].update(file_path="../../other"), ""),
]
RIGS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("a list", lambda m: [], "rig.json"),
    ("another format", lambda m: m.update(format="moegs rig 99"), "moegs rig 99"),
    ("no cameras", lambda m: m.update(cameras=[]), "lists no camera"),
    (
        "cameras of one name",
        lambda m: m["cameras"][1].update(name="cam00"),
        "2 cameras are called cam00",
    ),
    ("a camera without a file", lambda m: m["cameras"][1].pop("file") and None, "rig.json"),
    ("a file that is not there", lambda m: m["cameras"][1].update(file="gone.mp4"), "gone.mp4"),
    ("a file outside", lambda m: m["cameras"][1].update(file="../../x.mp4"), "x.mp4"),
    (
        "no calibration",
        lambda m: [c.update(K=None, world_to_camera=None) for c in m["cameras"]] and None,
        "",
    ),
    ("a width of 0", lambda m: m["cameras"][1].update(width=0), ""),
    ("text as a width", lambda m: m["cameras"][1].update(width="wide"), ""),
    ("a focal length of 0", lambda m: m["cameras"][1]["K"][0].__setitem__(0, 0), ""),
    ("a K of 2 x 2", lambda m: m["cameras"][1].update(K=[[1, 0], [0, 1]]), ""),
    ("an unknown lens", lambda m: m["cameras"][1].update(model="magic"), ""),
    ("distortion of NaN", lambda m: m["cameras"][1].update(distortion=[NAN, 0, 0, 0]), ""),
    ("too many numbers of distortion", lambda m: m["cameras"][1].update(distortion=[0.0] * 99), ""),
    (
        "a pose of zeros",
        lambda m: m["cameras"][1].update(world_to_camera=np.zeros((3, 4)).tolist()),
        "",
    ),
    (
        "a mirrored pose",
        lambda m: m["cameras"][1]["world_to_camera"].__setitem__(
            0, [-v for v in m["cameras"][1]["world_to_camera"][0]]
        ),
        "",
    ),
    ("a negative start", lambda m: m["cameras"][1].update(start=-1), "start"),
    ("a start behind the end", lambda m: m["cameras"][1].update(start=99), "start"),
    ("a start of text", lambda m: m["cameras"][1].update(start="now"), ""),
    ("a rate of 0", lambda m: m["cameras"][1].update(fps=0), ""),
]


def rig(change: Callable[[Any], Any] = lambda meta: None) -> Change:
    """Write rig.json for the videos, then change it."""

    def apply(folder) -> None:
        import json

        array = np.load(folder / "videos" / "poses_bounds.npy")
        cameras = []
        for number in range(3):
            pose = np.concatenate([np.diag([1.0, -1.0, -1.0]), [[-0.2 * number], [0], [0]]], 1)
            cameras.append({
                "name": f"cam{number:02d}", "file": f"cam{number:02d}.mp4", "width": 24, "height": 16,
                "K": [[float(array[0, 14]), 0, 12], [0, float(array[0, 14]), 8], [0, 0, 1]],
                "model": "opencv", "distortion": [], "world_to_camera": pose.tolist(),
                "start": None, "fps": 30.0,
            })  # fmt: skip
        path = folder / "videos" / "rig.json"
        path.write_text(json.dumps({"format": "moegs rig 1", "unit": "m", "cameras": cameras}))
        json_with(change)(path)

    return apply


CASES = [
    *(Case(f"{kind} poses_bounds.npy", PHOTOS, "", 1, at(ROWS, DAMAGE[kind]), ("photos",)) for kind in DAMAGE),
    *(Case(f"poses_bounds.npy: {name}", PHOTOS, says, 1 if name != "half floats" else 0, change, ("photos",)) for name, change, says in N3V),
    Case("a world in millionths of a unit", PHOTOS, STARTS, 0, no_points(moved(0.0, 1e-6)), ("photos",)),
    Case("a world in millions of units", PHOTOS, STARTS, 0, no_points(moved(0.0, 1e6)), ("photos",)),
    *(Case(f"{kind} train_meta.json", DOME, "", 1, at("dome/train_meta.json", DAMAGE[kind]), ("dome",)) for kind in DAMAGE),
    *(Case(f"train_meta.json: {name}", DOME, says, 1, at("dome/train_meta.json", json_with(change)), ("dome",)) for name, change, says in DOMES),
    Case("a held-out camera that is trained on", DOME, "but 7 are", 1, at("dome/test_meta.json", json_with(lambda m: m.update(cam_id=[[7]] * 3))), ("dome",)),
    *(Case(f"{kind} transforms_train.json", DNERF, "", 1, at("dnerf/transforms_train.json", DAMAGE[kind]), ("dnerf",)) for kind in DAMAGE),
    *(Case(f"transforms_train.json: {name}", DNERF, says, 1, at("dnerf/transforms_train.json", json_with(change)), ("dnerf",)) for name, change, says in TRANSFORMS),
    *(
        Case(f"transforms_train.json: {name}", DNERF, says, 1, at("dnerf/transforms_train.json", json_with(change)), ("dnerf",))
        for name, change, says in (
            ("an angle of 0", lambda m: m.update(camera_angle_x=0.0), ""),
            ("a negative angle", lambda m: m.update(camera_angle_x=-0.7), "a focal length above 0"),
            ("an angle of text", lambda m: m.update(camera_angle_x="wide"), ""),
            ("no angle", lambda m: m.pop("camera_angle_x") and None, ""),
        )
    ),
    *(Case(f"{kind} transforms_val.json", DNERF, "", 1, at("dnerf/transforms_val.json", DAMAGE[kind]), ("dnerf",)) for kind in ("a missing", "an empty", "text as")),
    *(Case(f"{kind} transforms.json", STILLS, "", 1, at("stills/transforms.json", DAMAGE[kind]), ("stills",)) for kind in DAMAGE),
    *(Case(f"transforms.json: {name}", STILLS, "", 1, at("stills/transforms.json", json_with(change)), ("stills",)) for name, change, _ in TRANSFORMS),
    *(
        Case(f"transforms.json: {name}", STILLS, says, 1, at("stills/transforms.json", json_with(change)), ("stills",))
        for name, change, says in (
            ("a focal length of 0", lambda m: m.update(fl_x=0.0), ""),
            ("a focal length of NaN", lambda m: m.update(fl_x=NAN), ""),
            ("a width of 0", lambda m: m.update(w=0), ""),
            ("another width", lambda m: m.update(w=48), ""),
            ("an unknown lens", lambda m: m.update(camera_model="MAGIC"), ""),
            ("a fisheye lens", lambda m: m.update(camera_model="OPENCV_FISHEYE", k1=0.1, k2=0.0, k3=0.0, k4=0.0), ""),
            ("distortion of text", lambda m: m.update(k1="x"), ""),
        )
    ),
    Case("a phone's scene", IPHONE, STARTS, 0, needs=("iphone",)),
    *(
        Case(f"{kind} {name} of a phone's scene", IPHONE, "", 1, at(f"iphone/{name}", DAMAGE[kind]), ("iphone",))
        for name in ("dataset.json", "scene.json", "extra.json", "camera/0_00001.json", "splits/train.json", "metadata.json", "rgb/1x/0_00001.png")
        for kind in ("a missing", "an empty", "text as", "a folder as")
    ),
    Case("a rig", RIG, STARTS, 0, rig(), ("videos",)),
    Case("a scene without rig.json", RIG, "moegs prepare rig", 1, needs=("videos",)),
    *(Case(f"{kind} rig.json", RIG, "", 1, lambda f, k=kind: (rig()(f), DAMAGE[k](f / "videos" / "rig.json")), ("videos",)) for kind in ("an empty", "a truncated", "text as", "a folder as", "a pipe as", "a link in a circle as")),
    *(Case(f"rig.json: {name}", RIG, says, 1, rig(change), ("videos",)) for name, change, says in RIGS),
    Case("poses_bounds.npy: a bracket of its header is lost", PHOTOS, "it is damaged", 1, at(ROWS, content(saved(np.zeros((3, 17))).replace(b")", b" "))), ("photos",)),
    Case("poses_bounds.npy: malicious pickle", PHOTOS, "it cannot be read", 1, at(ROWS, content(saved(np.array([{"a": 1}], dtype=object)))), ("photos",)),
]  # fmt: skip
