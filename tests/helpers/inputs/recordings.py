"""Recordings and clocks: videos and folders of photos that do not show the same instants."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from data_helpers import show_turned, test_image, write_video
from PIL import Image

from inputs.case import Case, Change
from inputs.changes import (
    DAMAGE,
    at,
    copied_to,
    folder_instead,
    json_with,
    remove,
    renamed,
    several,
)

VIDEOS = "ns-train moegs-stg --data videos n3v-data"
PHOTOS = "ns-train moegs-stg --data photos n3v-data"
DOME = "ns-train moegs-stg --data dome panoptic-data"
STARTS = "(training starts)"


def video(number: int, frames: Sequence[int] = range(4), **options) -> Change:
    """Record camera `number` anew."""

    def apply(folder: Path) -> None:
        images = [test_image(number, frame) for frame in range(len(frames))]
        path = folder / "videos" / f"cam{number:02d}.mp4"
        write_video(path, images, places=list(frames), **options)

    return apply


def sound(path: Path) -> None:
    """A file with sound alone."""
    import av

    with av.open(str(path), mode="w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def all_videos(**options) -> Change:
    return several(*(video(number, **options) for number in range(3)))


def photo(name: str, size: tuple[int, int] = (24, 16)) -> Change:
    return lambda folder: Image.new("RGB", size).save(folder / "photos" / name)


def for_each_photo(change: Callable[[Path], object], of: str = "cam01") -> Change:
    return at(f"photos/{of}/images/*.png", change)


VIDEO_FAULTS = {
    "a missing": (1, "3 rows for 2 cameras"),
    "an empty": (1, "cam01.mp4"),
    "a truncated": (1, "cam01.mp4"),
    "text as": (1, "cam01.mp4"),
    "a folder as": (1, "cam01.mp4"),
    "a pipe as": (1, "is a pipe, a socket or a device; remove it"),
    "a device as": (1, "is a pipe, a socket or a device; remove it"),
    "a dangling link as": (1, "3 rows for 2 cameras"),
    "a link in a circle as": (1, "3 rows for 2 cameras"),
}

CASES = [
    # ---- videos ----
    Case("three videos", VIDEOS, STARTS, 0, needs=("videos",)),
    *(
        Case(f"{kind} video", VIDEOS, says, status, at("videos/cam01.mp4", DAMAGE[kind]), ("videos",))
        for kind, (status, says) in VIDEO_FAULTS.items()
    ),
    Case("sound without pictures", VIDEOS, "cam01.mp4", 1, at("videos/cam01.mp4", sound), ("videos",)),
    Case("a video of one frame beside others", VIDEOS, "share 1 of 4", 1, video(1, [0]), ("videos",)),
    Case("videos of one frame", VIDEOS, STARTS, 0, all_videos(frames=[0]), ("videos",)),
    Case("a dropped frame", VIDEOS, "Expected the same frames from all 3 cameras", 1, video(1, [0, 1, 3]), ("videos",)),
    Case("a dropped frame, matched by time", f"{VIDEOS} --align time", STARTS, 0, video(1, [0, 1, 3]), ("videos",)),
    Case("a dropped first frame", VIDEOS, "share 3 of 4", 1, video(1, [1, 2, 3]), ("videos",)),
    Case("another frame dropped by each camera", VIDEOS, "share", 1,
         several(video(0, [0, 2, 3]), video(1, [0, 1, 3])), ("videos",)),
    Case("a camera that starts later", VIDEOS, "share", 1, video(2, [2, 3, 4, 5]), ("videos",)),
    Case("a camera that starts after the others end", VIDEOS, "share 0", 1, video(2, [50, 51, 52, 53]), ("videos",)),
    Case("no common instant, matched by time", f"{VIDEOS} --align time", "share none", 1, video(2, [50, 51, 52, 53]), ("videos",)),
    Case("wrong clocks, matched by position", f"{VIDEOS} --align position", STARTS, 0, video(2, [50, 51, 52, 53]), ("videos",)),
    Case("a camera of twice the rate", VIDEOS, "share", 1, video(1, range(8), fps=60), ("videos",)),
    Case("a camera of 24 frames per second", VIDEOS, "share", 1, video(1, range(4), fps=24), ("videos",)),
    Case("a rate that varies in one camera", VIDEOS, "share", 1, video(1, [0, 1, 4, 5]), ("videos",)),
    Case("a rate that varies alike", VIDEOS, STARTS, 0, all_videos(frames=[0, 1, 4, 5]), ("videos",)),
    Case("videos matched by number", f"{VIDEOS} --align number", "--align expects time or position for videos", 1, needs=("videos",)),
    Case("an unknown way to match", f"{VIDEOS} --align sound", "align", 2, needs=("videos",)),
    Case("a video upside down", VIDEOS, STARTS, 0, at("videos/cam01.mp4", lambda p: show_turned(p, (-1, 0, 0, -1))), ("videos",)),
    Case("a video turned by a quarter", VIDEOS, "cam01.mp4 is 16x24", 1, at("videos/cam01.mp4", lambda p: show_turned(p, (0, 1, -1, 0))), ("videos",)),
    Case("a video turned by 20 degrees", VIDEOS, "of the shape that was calibrated", 1, at("videos/cam*.mp4", lambda p: show_turned(p, (0.94, 0.34, -0.34, 0.94))), ("videos",)),
    Case("a video that is stretched", VIDEOS, "turned by quarters", 1, at("videos/cam*.mp4", lambda p: show_turned(p, (2, 0, 0, 2))), ("videos",)),
    Case("HDR video", VIDEOS, "standard dynamic range", 1, all_videos(pix_fmt="yuv420p10le", codec={"x264-params": "transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"}), ("videos",)),
    Case("HLG video", VIDEOS, "standard dynamic range", 1, all_videos(pix_fmt="yuv420p10le", codec={"x264-params": "transfer=arib-std-b67:colorprim=bt2020:colormatrix=bt2020nc"}), ("videos",)),
    Case("video of 10 bits", VIDEOS, STARTS, 0, all_videos(pix_fmt="yuv420p10le"), ("videos",)),
    Case("videos in capital letters", VIDEOS, STARTS, 0, at("videos/cam*.mp4", lambda p: p.rename(p.with_suffix(".MP4"))), ("videos",)),
    Case("AppleDouble files beside videos", VIDEOS, STARTS, 0, at("videos/cam*.mp4", lambda p: (p.parent / f"._{p.name}").write_bytes(bytes(99))), ("videos",)),
    Case("a copy of a video", VIDEOS, "3 rows for 4 cameras", 1, at("videos/cam01.mp4", copied_to("{} copy.mp4")), ("videos",)),
    Case("a video as a folder beside others", VIDEOS, "cam01.mp4 is missing", 1, at("videos/cam01.mp4", lambda p: (remove(p), (p.parent / "cam01" / "images").mkdir(parents=True))), ("videos",)),
    Case("numbers of cameras without leading zeros", VIDEOS, "leading zeros", 1, several(at("videos/cam00.mp4", renamed("cam2.mp4")), at("videos/cam01.mp4", renamed("cam10.mp4"))), ("videos",)),
    Case("blanks and umlauts in the scene's name", "ns-train moegs-stg --data 'Bär und Öl' n3v-data", STARTS, 0, at("videos", renamed("Bär und Öl")), ("videos",)),
    Case("brackets in the scene's name", "ns-train moegs-stg --data 'a [1]' n3v-data", STARTS, 0, at("videos", renamed("a [1]")), ("videos",)),
    Case("a camera's name that is not UTF-8", VIDEOS, "text in UTF-8", 1, at("videos/cam01.mp4", renamed("cam01\udcff.mp4")), ("videos",)),
    Case("a line break in a camera's name", VIDEOS, STARTS, 0, at("videos/cam01.mp4", renamed("cam01\nx.mp4")), ("videos",)),
    Case("one camera alone", VIDEOS, "", 1, several(at("videos/cam01.mp4", remove), at("videos/cam02.mp4", remove)), ("videos",)),
    # ---- folders of photos ----
    Case("three folders of photos", PHOTOS, STARTS, 0, needs=("photos",)),
    Case("a missing photo", PHOTOS, "share 3 of 4", 1, at("photos/cam01/images/0002.png", remove), ("photos",)),
    Case("a missing photo, matched by number", f"{PHOTOS} --align number", STARTS, 0, at("photos/cam01/images/0002.png", remove), ("photos",)),
    Case("a missing photo, matched by time", f"{PHOTOS} --align time", "--align expects number or position for images", 1, at("photos/cam01/images/0002.png", remove), ("photos",)),
    Case("a missing photo before which the clip ends", f"{PHOTOS} --frames 0 1", STARTS, 0, at("photos/cam01/images/0003.png", remove), ("photos",)),
    Case("photos numbered from another start", PHOTOS, "share 3 of 5", 1, several(*(at(f"photos/cam01/images/{n:04d}.png", renamed(f"{n + 1:04d}.png")) for n in (3, 2, 1, 0))), ("photos",)),
    Case("photos with other numbers throughout", PHOTOS, "share 0", 1, several(*(at(f"photos/cam01/images/{n:04d}.png", renamed(f"{n + 100:04d}.png")) for n in range(4))), ("photos",)),
    Case("photos without numbers", PHOTOS, "", 1, several(*(at(f"photos/cam01/images/{n:04d}.png", renamed(f"{'abcd'[n]}.png")) for n in range(4))), ("photos",)),
    Case("an empty folder of a camera", PHOTOS, "cam01", 1, at("photos/cam01/images", folder_instead), ("photos",)),
    Case("a camera without its folder of images", PHOTOS, "cam01", 1, at("photos/cam01/images", remove), ("photos",)),
    Case("a missing camera", PHOTOS, "3 rows for 2 cameras", 1, at("photos/cam01", remove), ("photos",)),
    Case("an empty scene", PHOTOS, "found no camera", 1, at("photos", folder_instead), ("photos",)),
    Case("a scene that is a file", PHOTOS, "scene folder", 1, at("photos", lambda p: (remove(p), p.write_text("x"))), ("photos",)),
    Case("a scene that is a pipe", PHOTOS, "", 1, at("photos", DAMAGE["a pipe as"]), ("photos",)),
    Case("a scene that is not there", PHOTOS, "but there is none; set --data", 1),
    Case("a scene that is a link in a circle", PHOTOS, "", 1, at("photos", DAMAGE["a link in a circle as"]), ("photos",)),
    Case("a folder that links to its parent", PHOTOS, STARTS, 0, lambda f: (f / "photos" / "loop").symlink_to(".."), ("photos",)),
    Case("folders of the viewer", PHOTOS, STARTS, 0, lambda f: (f / "photos" / "camera_paths").mkdir(), ("photos",)),
    Case("masks among photos", PHOTOS, "one series of images", 1, for_each_photo(copied_to("{}_mask.png")), ("photos",)),
    Case("masks in front of names", PHOTOS, "one series of images", 1, for_each_photo(copied_to("mask_{}.png")), ("photos",)),
    Case("copies among photos", PHOTOS, "one series of images", 1, for_each_photo(copied_to("{} copy.png")), ("photos",)),
    Case("copies with (1)", PHOTOS, "one series of images", 1, for_each_photo(copied_to("{} (1).png")), ("photos",)),
    Case("thumbnails among photos", PHOTOS, "one series of images", 1, for_each_photo(copied_to("{}_thumb.png")), ("photos",)),
    Case("copies with another ending", PHOTOS, "8 images have 4 numbers", 1, for_each_photo(lambda p: Image.open(p).save(p.with_suffix(".jpg"))), ("photos",)),
    Case("a copy without leading zeros", PHOTOS, "5 images have 4 numbers", 1, at("photos/cam01/images/0001.png", copied_to("1.png")), ("photos",)),
    Case("a picture of something else", PHOTOS, "like background.png", 1, photo("cam01/images/background.png"), ("photos",)),
    Case("AppleDouble files", PHOTOS, STARTS, 0, at("photos/cam*/images/*.png", lambda p: (p.parent / f"._{p.name}").write_bytes(bytes(99))), ("photos",)),
    Case("files of file managers", PHOTOS, STARTS, 0, at("photos/cam*/images", lambda p: [(p / name).write_text("x") for name in (".DS_Store", "Thumbs.db", "desktop.ini")]), ("photos",)),
    Case("sidecars of photos", PHOTOS, STARTS, 0, at("photos/cam*/images/*.png", lambda p: (p.parent / f"{p.name}.xmp").write_text("x")), ("photos",)),
    Case("a photo's name that is not UTF-8", PHOTOS, "text in UTF-8", 1, at("photos/cam01/images/0002.png", renamed("0002\udcff.png")), ("photos",)),
    # ---- domes ----
    Case("a dome", DOME, STARTS, 0, needs=("dome",)),
    Case("a missing photo of a dome", DOME, "000001.jpg", 1, at("dome/ims/4/000001.jpg", remove), ("dome",)),
    Case("lists that have slipped", DOME, "3 images have 2 numbers", 1, at("dome/train_meta.json", json_with(lambda m: m["fn"][1].__setitem__(0, "4/000002.jpg"))), ("dome",)),
    Case("a dome matched by time", f"{DOME} --align time", "--align expects number or position", 1, needs=("dome",)),
    Case("a camera listed twice at a time", DOME, "listed 2 times", 1, at("dome/train_meta.json", json_with(lambda m: m["cam_id"][1].__setitem__(1, 4))), ("dome",)),
    Case("a dome with lists of different lengths", DOME, "", 1, at("dome/train_meta.json", json_with(lambda m: m["k"].pop())), ("dome",)),
    Case("a dome without a time", DOME, "", 1, at("dome/train_meta.json", json_with(lambda m: [m[k].clear() for k in ("k", "w2c", "fn", "cam_id")])), ("dome",)),
    # ---- clocks of JSON ----
    *(
        Case(f"times of frames: {name}", "ns-train moegs-4dgaussians --data dnerf dnerf-data", says, status,
             at("dnerf/transforms_train.json", json_with(change)), ("dnerf",))
        for name, change, status, says in (
            ("NaN", lambda m: m["frames"][0].update(time=float("nan")), 1, "NaN or infinity"),
            ("infinite", lambda m: m["frames"][0].update(time=float("inf")), 1, ""),
            ("text", lambda m: m["frames"][0].update(time="now"), 1, ""),
            ("none", lambda m: m["frames"][0].update(time=None), 1, ""),
            ("missing in one frame", lambda m: m["frames"][0].pop("time"), 1, ""),
            ("negative", lambda m: m["frames"][0].update(time=-3.0), 0, STARTS),
            ("numbers of frames", lambda m: [f.update(time=n) for n, f in enumerate(m["frames"])] and None, 0, STARTS),
            ("all alike", lambda m: [f.update(time=0.5) for f in m["frames"]] and None, 0, STARTS),
        )
    ),
]  # fmt: skip
