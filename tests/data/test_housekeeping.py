"""`moegs data`: decoded frames are listed and removed, never those that somebody uses."""

import fcntl
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data_helpers import image_scene, test_image, tiny_video_scene
from PIL import Image

from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.frames.housekeeping import DAY, find_stored, remove
from moegs_ns.data.frames.store import FrameStore
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command

SIZE = 3 * 4 * 24 * 16 * 3
"""Bytes of all images of `image_scene`."""


def store_of(
    scene: Path, size: tuple[int, int] = (24, 16), frames=range(4), root: Path | None = None
) -> FrameStore:
    paths = [scene / f"cam{c:02d}" / "images" / f"{f:04d}.png" for c in range(3) for f in frames]
    sources = tuple(FrameSource(path) for path in paths)
    store = FrameStore(sources, (size,) * len(sources), None, scene, root)
    store.build()
    return store


def run(*args: str) -> None:
    with replaced_argv(["moegs", "data", *args]):
        command.main()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return image_scene(tmp_path / "scene")


def test_each_choice_of_options_is_one_row(scene: Path, capsys):
    for size, frames in (((24, 16), range(4)), ((12, 8), range(4)), ((24, 16), range(2))):
        store_of(scene, size, frames)
    stored = find_stored([scene])
    assert sorted((s.frames, s.options) for s in stored) == [
        ("2 images", "24x16"), ("4 images", "12x8"), ("4 images", "24x16")
    ]  # fmt: skip
    whole = next(each for each in stored if (each.frames, each.options) == ("4 images", "24x16"))
    assert len(whole.folders) == 3 and SIZE < whole.num_bytes < SIZE + 5000
    assert whole.scene == scene and whole.state == "" and whole.unused_days < 0.1
    run("list", str(scene))
    text = capsys.readouterr().out
    assert whole.name in text and "12x8" in text and "in all" in text
    assert len({each.name for each in stored}) == 3
    assert find_stored([scene]) == stored, "names stay"


def test_frames_of_videos_are_told_by_number(tmp_path: Path):
    scene = tiny_video_scene(tmp_path / "videos")
    sources = tuple(FrameSource(scene / "cam00.mp4", frame) for frame in (1, 2))
    FrameStore(sources, ((48, 36),) * 2, (1.0, 1.0, 1.0), scene).build()
    (stored,) = find_stored([scene])
    assert (stored.frames, stored.options) == ("1 to 2", "48x36, over 1 1 1")


def use_ten_days_ago(scene: Path) -> None:
    then = time.time() - 10 * DAY
    for index in scene.rglob("index.json"):
        os.utime(index, (then, then))


def test_using_them_is_noted(scene: Path):
    store_of(scene)
    use_ten_days_ago(scene)
    assert 9.9 < find_stored([scene])[0].unused_days < 10.1
    run("clean", str(scene), "--unused-days", "11")
    assert len(find_stored([scene])) == 1
    store_of(scene)
    assert find_stored([scene])[0].unused_days < 0.1
    use_ten_days_ago(scene)
    gc.collect()
    run("clean", str(scene), "--unused-days", "9")
    assert not find_stored([scene])


def test_stale_ones_go_and_others_stay(scene: Path, capsys):
    store_of(scene, frames=range(2))
    store_of(scene)
    Image.fromarray(test_image(7, 7)).save(scene / "cam01" / "images" / "0003.png")
    gc.collect()
    states = {each.frames: each.state for each in find_stored([scene])}
    assert states == {"4 images": "stale", "2 images": ""}
    run("clean", str(scene), "--dry-run")
    assert "would be removed" in capsys.readouterr().out and len(find_stored([scene])) == 2
    run("clean", str(scene))
    assert [each.frames for each in find_stored([scene])] == ["2 images"]
    run("clean", str(scene))
    assert "Nothing to remove." in capsys.readouterr().out


def test_a_removed_image_or_an_older_index(scene: Path):
    store_of(scene)
    (scene / "cam02" / "images" / "0000.png").unlink()
    assert find_stored([scene])[0].state == "stale"
    for path in scene.rglob("index.json"):
        index = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in index.items() if k != "stamps"}))
    assert find_stored([scene])[0].state == ""


def test_what_a_process_reads_stays(scene: Path, capsys):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom test_housekeeping import store_of\n"
        f"store = store_of(Path({str(scene)!r}))\nprint('open', flush=True)\ntime.sleep(100)"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]
    reader = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert reader.stdout is not None
        assert "open\n" in reader.stdout, "it ended"
        (stored,) = find_stored([scene])
        run("clean", str(scene), "--names", stored.name)
        assert "left, as a process uses it" in capsys.readouterr().out
        assert find_stored([scene]) == [stored]
    finally:
        reader.kill()
        reader.wait()
    run("clean", str(scene), "--names", stored.name)
    assert not find_stored([scene])
    assert np.array_equal(store_of(scene)[0], test_image(0, 0)), "decoded again"


def test_a_build_that_still_writes_stays(scene: Path):
    store_of(scene)
    folder = next((scene / "moegs_frames").iterdir())
    (folder / "index.json").unlink()
    part = folder / "frames.npy-1.part"
    part.touch()
    gc.collect()
    states = sorted(each.state for each in find_stored([scene]))
    assert states == ["", "unfinished"]
    unfinished = next(each for each in find_stored([scene]) if each.state)
    with part.open("rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        assert not remove(unfinished) and part.exists()
    assert remove(unfinished) and not folder.exists()


def test_files_of_others_stay(scene: Path):
    store_of(scene)
    folder = next((scene / "moegs_frames").iterdir())
    (folder / "notes.txt").write_text("mine")
    (scene / "moegs_frames" / "pictures").mkdir()
    gc.collect()
    assert remove(find_stored([scene])[0])
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert (scene / "moegs_frames" / "pictures").is_dir()


def test_chosen_folders_and_the_cache(scene: Path, tmp_path: Path):
    store_of(scene, root=tmp_path / "disk")
    assert [each.scene for each in find_stored([tmp_path / "disk"])] == [scene]
    assert not find_stored([]) and not find_stored([scene])
    # A file where the folder should be stops even root.
    (scene / "moegs_frames").write_text("")
    store_of(scene)
    assert [each.scene for each in find_stored([])] == [scene]
    assert find_stored([scene]) == find_stored([])
    scene.rename(tmp_path / "moved")
    assert [each.state for each in find_stored([])] == ["scene gone"]
    run("clean")
    assert len(find_stored([])) == 1, "its disk may be back tomorrow"


def test_wrong_words(scene: Path):
    with pytest.raises(FileNotFoundError, match="Expected a scene folder or a folder of decoded"):
        run("list", str(scene / "no"))
    with pytest.raises(ValueError, match="names that `moegs data list` prints"):
        run("clean", str(scene), "--names", "12345678")
    with pytest.raises(ValueError, match="--unused-days expects at least 0 days, got -1"):
        run("clean", str(scene), "--unused-days", "-1")
