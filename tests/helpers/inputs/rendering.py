"""Camera paths, outputs, names of files that are written, full disks and places."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inputs.case import Case, Change
from inputs.changes import DAMAGE, at

RENDER = "ns-render camera-path --load-config expert/config.yml --camera-path-filename path.json --output-path out.mp4"
EXPERT = ("expert",)
ROUTER = ("router", "expert", "other")


def path(change: Callable[[Any], Any] = lambda content: None, frames: int = 3) -> Change:
    """A camera path that is right but for a change."""

    def apply(folder: Path) -> None:
        pose = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
        content: Any = {
            "camera_type": "perspective", "render_width": 24, "render_height": 18, "fps": 10,
            "seconds": 0.3, "keyframes": [],
            "camera_path": [
                {"camera_to_world": list(pose), "fov": 50.0, "aspect": 1.3, "render_time": n / max(1, frames - 1)}
                for n in range(frames)
            ],
        }  # fmt: skip
        other = change(content)
        (folder / "path.json").write_text(json.dumps(content if other is None else other))

    return apply


def one(**values: Any) -> Callable[[Any], None]:
    """Change the second frame."""
    return lambda content: content["camera_path"][1].update(values)


def without(name: str) -> Callable[[Any], None]:
    return lambda content: content["camera_path"][1].pop(name) and None


NAN = float("nan")
PATHS: list[tuple[str, Change, int, str]] = [
    ("that is right", path(), 0, ""),
    ("of one frame", path(frames=1), 0, ""),
    ("without frames", path(lambda c: c.update(camera_path=[])), 1, "Expected a camera path"),
    ("that is a list", path(lambda c: []), 1, "Expected a camera path"),
    ("whose frames are a number", path(lambda c: c.update(camera_path=3)), 1, ""),
    ("whose frames are numbers", path(lambda c: c.update(camera_path=[1, 2])), 1, ""),
    *(
        (
            f"for {kind} cameras",
            path(lambda c, k=kind: c.update(camera_type=k)),
            1,
            "choose the type Perspective",
        )
        for kind in ("fisheye", "equirectangular", "omnidirectional", "vr180")
    ),
    (
        "for unknown cameras",
        path(lambda c: c.update(camera_type="magic")),
        1,
        "choose the type Perspective",
    ),
    ("with a missing time", path(without("render_time")), 1, "render_time"),
    ("with a time of null", path(one(render_time=None)), 1, "render_time"),
    ("with a time of 2", path(one(render_time=2.0)), 0, "a clip lasts from 0 to 1"),
    ("with a negative time", path(one(render_time=-0.5)), 0, "a clip lasts from 0 to 1"),
    ("with a time of NaN", path(one(render_time=NAN)), 1, ""),
    ("with a time of text", path(one(render_time="now")), 1, ""),
    ("without a pose", path(without("camera_to_world")), 1, ""),
    ("with a pose of 12 numbers", path(one(camera_to_world=[1.0] * 12)), 1, ""),
    ("with a pose of zeros", path(one(camera_to_world=[0.0] * 16)), 1, ""),
    ("with a pose of NaN", path(one(camera_to_world=[NAN] * 16)), 1, ""),
    ("with a pose of text", path(one(camera_to_world="x")), 1, ""),
    ("without a field of view", path(without("fov")), 1, ""),
    ("with a field of view of 0", path(one(fov=0)), 1, ""),
    ("with a field of view of 200", path(one(fov=200)), 1, ""),
    ("with a field of view of NaN", path(one(fov=NAN)), 1, ""),
    ("of no width", path(lambda c: c.update(render_width=0)), 1, ""),
    ("of a negative height", path(lambda c: c.update(render_height=-3)), 1, ""),
    ("of text as a width", path(lambda c: c.update(render_width="wide")), 1, ""),
    ("without a width", path(lambda c: c.pop("render_width") and None), 1, ""),
    (
        "of a million million pixels",
        path(lambda c: c.update(render_width=10**6, render_height=10**6)),
        1,
        "",
    ),
    ("of no length", path(lambda c: c.update(seconds=0)), 1, ""),
    ("of NaN seconds", path(lambda c: c.update(seconds=NAN)), 1, ""),
    ("without seconds", path(lambda c: c.pop("seconds") and None), 1, ""),
]


def occupied(name: str) -> Change:
    """A folder where a file would be written, or a file where a folder would be."""
    return lambda folder: (folder / name).mkdir(parents=True)


def blocked(name: str) -> Change:
    return lambda folder: (folder / name).write_text("mine")


def video(words: str) -> str:
    return f"moegs render --load-config expert/config.yml --seconds 0.1 {words}"


CASES = [
    *(Case(f"a path {name}", RENDER, says, status, change, EXPERT) for name, change, status, says in PATHS),
    *(Case(f"{kind} path.json", RENDER, "path.json", 1, lambda f, k=kind: (path()(f), DAMAGE[k](f / "path.json")), EXPERT) for kind in DAMAGE),
    *(
        Case(name, words, says, status, change, needs)
        for name, words, says, status, change, needs in (
            ("an unknown output", video("--rendered-output-names magic"), "magic", 1, occupied("x"), EXPERT),
            ("an output of mixtures", video("--rendered-output-names argmax_gate"), "argmax_gate", 1, occupied("x"), EXPERT),
            ("no outputs", video("--rendered-output-names"), "", 1, occupied("x"), EXPERT),
            ("a video called .txt", video("--output v.txt"), ".txt", 1, occupied("x"), EXPERT),
            ("a video called .gif", video("--output v.gif"), "", 1, occupied("x"), EXPERT),
            ("a video without an ending", video("--output v"), "", 0, occupied("x"), EXPERT),
            ("a video with blanks", video("--output 'my video.mp4'"), "", 0, occupied("x"), EXPERT),
            ("a video in place of a folder", video("--output v.mp4"), "v.mp4", 1, occupied("v.mp4"), EXPERT),
            ("a video in a file", video("--output file/v.mp4"), "file", 1, blocked("file"), EXPERT),
            ("a video where nothing can be written", video("--output /proc/v.mp4"), "/proc", 1, occupied("x"), EXPERT),
            ("a table in a file", "moegs report expert --output file/t.json", "file", 1, blocked("file"), EXPERT),
            ("a table in place of a folder", "moegs report expert --output t.json", "t.json", 1, occupied("t.json"), EXPERT),
            ("a table where nothing can be written", "moegs report expert --output /proc/t.json", "/proc", 1, occupied("x"), EXPERT),
            ("an analysis in a file", "moegs analyse expert --output file", "file", 1, blocked("file"), EXPERT),
            ("an analysis where nothing can be written", "moegs analyse expert --output /proc/x", "/proc", 1, occupied("x"), EXPERT),
            ("a benchmark in a file", "moegs benchmark expert --times 1 --steps 0 --output file", "file", 1, blocked("file"), EXPERT),
            ("a compact copy in a file", "moegs export expert --compact --output file", "file", 1, blocked("file"), EXPERT),
            ("a compact copy in a folder with files", "moegs export expert --compact --output photos", "holds something", 1, occupied("x"), EXPERT),
            ("a compact copy where nothing can be written", "moegs export expert --compact --output /proc/x", "/proc", 1, occupied("x"), EXPERT),
            ("a copy that is not compact", "moegs export expert --output x1", "one kind of file to write", 1, occupied("x"), EXPERT),
            ("a compact copy of nothing", "moegs export gone --compact --output x1", "gone", 1, occupied("x"), ()),
            ("Gaussians in a file", "moegs fuse expert --output file/g.ply", "file", 1, blocked("file"), EXPERT),
            ("Gaussians in place of a folder", "moegs fuse expert --output g.ply", "g.ply", 1, occupied("g.ply"), EXPERT),
            ("Gaussians where nothing can be written", "moegs fuse expert --output /proc/g.ply", "/proc", 1, occupied("x"), EXPERT),
            ("a fused mixture", "moegs fuse router --output g.ply", "", 0, occupied("x"), ROUTER),
            ("scores in a file", "ns-eval --load-config expert/config.yml --output-path file/s.json", "file", 1, blocked("file"), EXPERT),
            ("scores in place of a folder", "ns-eval --load-config expert/config.yml --output-path s.json", "s.json", 1, occupied("s.json"), EXPERT),
            ("scores that are no JSON", "ns-eval --load-config expert/config.yml --output-path /dev/full", "", 1, occupied("x"), EXPERT),
            ("scores where nothing can be written", "ns-eval --load-config expert/config.yml --output-path /proc/s.json", "", 1, occupied("x"), EXPERT),
            *((f"ns-export {kind}", f"ns-export {kind} --load-config expert/config.yml --output-dir out", f"{kind} expects", 1, occupied("x"), EXPERT)
              for kind in ("gaussian-splat", "pointcloud", "tsdf", "poisson", "marching-cubes")),
            ("ns-export of cameras", "ns-export cameras --load-config expert/config.yml --output-dir out", "", 0, occupied("x"), EXPERT),
            ("ns-render spiral", "ns-render spiral --load-config expert/config.yml", "spiral expects", 1, occupied("x"), EXPERT),
            ("an unknown output of ns-render", RENDER + " --rendered-output-names magic", "magic", 1, path(), EXPERT),
            ("a video of ns-render in a file", RENDER.replace("out.mp4", "path.json/out.mp4"), "path.json", 1, path(), EXPERT),
            ("photos on a full disk", "ns-train moegs-stg --data photos --pipeline.datamanager.frame-store-dir /dev/full n3v-data", "/dev/full", 1, occupied("x"), ("photos",)),
            ("runs in a file", "ns-train moegs-stg --data photos --output-dir file n3v-data", "file", 1, blocked("file"), ("photos",)),
            ("runs where nothing can be written", "ns-train moegs-stg --data photos --output-dir /proc/x n3v-data", "/proc", 1, occupied("x"), ("photos",)),
            ("runs in a link in a circle", "ns-train moegs-stg --data photos --output-dir loop n3v-data", "loop", 1, at("loop", DAMAGE["a link in a circle as"]), ("photos",)),
        )
    ),
]  # fmt: skip
