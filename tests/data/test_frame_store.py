"""The frame store: exact round trips, interruption, resume, and clear errors."""

import os
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import TINY, image_scene, test_image, tiny_video_scene
from PIL import Image

from moegs_ns.atomic_files import opened_and_held
from moegs_ns.data.frames import decoding
from moegs_ns.data.frames import store as frame_store
from moegs_ns.data.frames.decoding import FrameSource
from moegs_ns.data.frames.images import decode_image, has_alpha
from moegs_ns.data.frames.store import FrameStore
from moegs_ns.data.frames.videos import decode_video
from moegs_ns.demo.scene import demo_rig, render_clip


def sources_of(scene: Path, num_frames: int = 4) -> tuple[FrameSource, ...]:
    return tuple(
        FrameSource(path)
        for camera in sorted(scene.glob("cam*"))
        for path in sorted((camera / "images").iterdir())[:num_frames]
    )


def store_of(
    scene: Path,
    sources: tuple[FrameSource, ...] | None = None,
    size: tuple[int, int] = (24, 16),
    background: tuple[float, float, float] | None = None,
    root: Path | None = None,
) -> FrameStore:
    sources = sources_of(scene) if sources is None else sources
    return FrameStore(sources, (size,) * len(sources), background, scene, root)


def test_images_come_back_exactly(tmp_path: Path):
    store = store_of(image_scene(tmp_path))
    assert len(store) == 12
    for camera in range(3):
        for frame in range(4):
            assert np.array_equal(store[4 * camera + frame], test_image(camera, frame))
    batch = store.gather(torch.tensor([11, 0]))
    assert batch.dtype == torch.uint8
    assert np.array_equal(batch.numpy(), np.stack([test_image(2, 3), test_image(0, 0)]))
    assert np.array_equal(store[-1], store[11])
    with pytest.raises(IndexError):
        store[12]


def test_images_are_views_of_the_file_and_cannot_be_written(tmp_path: Path):
    image = store_of(image_scene(tmp_path))[0]
    assert isinstance(image, np.memmap)
    assert not image.flags.writeable


def test_order_of_the_sources_is_kept_even_if_cameras_are_mixed(tmp_path: Path):
    scene = image_scene(tmp_path)
    sources = sources_of(scene)
    mixed = tuple(sources[i] for i in (5, 0, 10, 1))
    store = store_of(scene, mixed)
    reds_and_greens = [tuple(store[i][0, 0, :2]) for i in range(4)]
    assert reds_and_greens == [(10, 20), (0, 0), (20, 40), (0, 20)]


def test_video_frames_are_those_that_were_asked_for(tmp_path: Path):
    scene = tiny_video_scene(tmp_path)
    clip = render_clip(demo_rig(TINY["num_cameras"], 48, 36), 2, TINY["num_frames"])
    sources = tuple(FrameSource(scene / "cam02.mp4", frame) for frame in (1, 2, 4))
    store = store_of(scene, sources, size=(48, 36))
    for row, frame in enumerate((1, 2, 4)):
        errors = [np.abs(store[row].astype(int) - clip[f].astype(int)).mean() for f in range(5)]
        assert int(np.argmin(errors)) == frame
        assert errors[frame] < 1.5


def test_downscaling_averages(tmp_path: Path):
    store = store_of(image_scene(tmp_path), size=(12, 8))
    expected = test_image(1, 2).reshape(8, 2, 12, 2, 3).mean((1, 3))
    assert np.abs(store[6] - expected).max() <= 0.5


def test_transparency_is_laid_over_the_background(tmp_path: Path):
    image = np.zeros((16, 24, 4), dtype=np.uint8)
    image[:, :12] = (200, 100, 0, 255)
    image[:, 12:] = (200, 100, 0, 128)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    assert has_alpha(path)
    over_white = decode_image(path, (1.0, 1.0, 1.0), (24, 16))
    assert over_white[0, 0].tolist() == [200, 100, 0]
    np.testing.assert_allclose(over_white[0, 20], [227, 177, 127], atol=1)
    with pytest.raises(ValueError, match=r"opaque images, but .*a\.png has transparent pixels"):
        decode_image(path, None, (24, 16))
    Image.fromarray(image[:, :12]).save(path.with_name("opaque.png"))
    opaque = decode_image(path.with_name("opaque.png"), None, (12, 16))
    assert opaque[0, 0].tolist() == [200, 100, 0]
    white = store_of(tmp_path, (FrameSource(path),), background=(1.0, 1.0, 1.0))
    black = store_of(tmp_path, (FrameSource(path),), background=(0.0, 0.0, 0.0))
    assert white[0][0, 20, 2] == 127
    assert black[0][0, 20, 2] == 0


def test_a_complete_store_is_reused_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scene = image_scene(tmp_path)
    store_of(scene).build()
    monkeypatch.setattr(frame_store, "_decode_all", lambda missing: pytest.fail("decoded again"))
    assert np.array_equal(store_of(scene)[5], test_image(1, 1))
    # Fewer cameras (as with --val-cameras) need nothing new either.
    assert np.array_equal(store_of(scene, sources_of(scene)[4:8])[1], test_image(1, 1))


def test_changed_sources_sizes_and_backgrounds_are_decoded_anew(tmp_path: Path):
    scene = image_scene(tmp_path)
    store_of(scene).build()
    path = scene / "cam01" / "images" / "0001.png"
    Image.fromarray(test_image(9, 9)).save(path)
    os.utime(path, ns=(1, 1))
    assert np.array_equal(store_of(scene)[5], test_image(9, 9))
    keys = {
        group.key(scene)
        for store in (
            store_of(scene),
            store_of(scene, size=(12, 8)),
            store_of(scene, background=(1.0, 1.0, 1.0)),
            store_of(scene, sources_of(scene, 3)),
        )
        for group in store.groups
    }
    assert len(keys) == 12


def test_an_interrupted_build_goes_on_with_the_next_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scene = image_scene(tmp_path)
    decoded: list[str] = []
    real = frame_store.decode_group

    def interrupted(group, threads):
        for number, frame in enumerate(real(group, threads)):
            if group.path.parent.name == "cam02" and number == 2 and "cam02" not in decoded:
                decoded.append("cam02")
                raise KeyboardInterrupt
            yield frame
        decoded.append(group.path.parent.name)

    monkeypatch.setattr(frame_store, "decode_group", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store_of(scene).build()
    left = [path.name for path in (scene / "moegs_frames").rglob("*") if path.is_file()]
    assert not [name for name in left if name.endswith(".part")]
    assert left.count("index.json") == left.count("frames.npy") == 2
    decoded.clear()
    decoded.append("cam02")
    store = store_of(scene)
    assert np.array_equal(store[11], test_image(2, 3))
    assert decoded == ["cam02", "cam02"]


def test_half_files_are_never_trusted(tmp_path: Path):
    """A file without index, or shorter than its index says, is decoded again."""
    scene = image_scene(tmp_path)
    store_of(scene).build()
    files = sorted((scene / "moegs_frames").rglob("frames.npy"))
    files[0].with_name("index.json").unlink()
    files[1].write_bytes(files[1].read_bytes()[:-10])
    files[2].with_name("index.json").write_text("{ half")
    store = store_of(scene)
    for camera in range(3):
        assert np.array_equal(store[4 * camera + 3], test_image(camera, 3))


def test_abandoned_parts_are_removed_but_held_ones_stay(tmp_path: Path):
    scene = image_scene(tmp_path)
    folder = scene / "moegs_frames" / store_of(scene).groups[0].key(scene)
    folder.mkdir(parents=True)
    left, written = folder / "frames.npy-1.part", folder / "frames.npy-2.part"
    left.touch()
    with opened_and_held(written):
        store_of(scene).build()
        assert not left.exists() and written.exists()


def test_a_part_that_another_build_finishes_meanwhile_is_no_error(tmp_path: Path):
    """Between finding it and looking at it; here a link to nothing stands for it."""
    scene = image_scene(tmp_path)
    folder = scene / "moegs_frames" / store_of(scene).groups[0].key(scene)
    folder.mkdir(parents=True)
    (folder / "index.json-1.part").symlink_to(folder / "gone")
    assert np.array_equal(store_of(scene)[3], test_image(0, 3))


def test_unwritable_data_goes_to_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scene = image_scene(tmp_path / "scene")
    # A file where the folder should be stops even root, unlike permissions.
    (scene / "moegs_frames").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert np.array_equal(store_of(scene)[5], test_image(1, 1))
    assert len(list((tmp_path / "cache" / "moegs_ns" / "frames").rglob("frames.npy"))) == 3
    other = store_of(scene, root=tmp_path / "chosen")
    other.build()
    assert len(list((tmp_path / "chosen").rglob("frames.npy"))) == 3


def test_moving_the_scene_keeps_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scene = image_scene(tmp_path / "scene")
    store_of(scene).build()
    scene.rename(tmp_path / "moved")
    monkeypatch.setattr(frame_store, "_decode_all", lambda missing: pytest.fail("decoded again"))
    assert np.array_equal(store_of(tmp_path / "moved")[5], test_image(1, 1))


def test_long_folders_are_decoded_in_short_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Decoding never runs far ahead of writing, so memory stays bounded."""
    scene = image_scene(tmp_path, num_cameras=1, num_frames=30)
    ahead: list[int] = []
    decoded = 0
    real = decoding.decode_image

    def counting(path, background, size, **options):
        nonlocal decoded
        decoded += 1
        return real(path, background, size, **options)

    monkeypatch.setattr(decoding, "decode_image", counting)
    group = store_of(scene, sources_of(scene, 30)).groups[0]
    for written, _ in enumerate(decoding.decode_group(group, 1)):
        ahead.append(decoded - written)
    assert decoded == 30
    assert max(ahead) <= 8


# ---- mistakes ----


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(frame_store.shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(
        ValueError, match=r"needs 0\.0 GB.*only 0\.0 GB are free.*--frame-store-dir"
    ):
        store_of(image_scene(tmp_path)).build()
    assert not list(tmp_path.rglob("frames.npy"))


def test_disk_that_fills_up_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(group, threads):
        yield test_image(0, 0)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame_store, "decode_group", full)
    with pytest.raises(ValueError, match=r"cannot be written \(No space left"):
        store_of(image_scene(tmp_path)).build()
    assert not list(tmp_path.rglob("*.part"))


def test_truncated_and_missing_images_are_named(tmp_path: Path):
    scene = image_scene(tmp_path)
    sources = sources_of(scene)
    path = scene / "cam01" / "images" / "0002.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"cam01/images/0002\.png, but it cannot be read"):
        store_of(scene, sources).build()
    path.write_text("no image")
    with pytest.raises(ValueError, match=r"0002\.png, but it cannot be read"):
        store_of(scene, sources).build()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"0002\.png, but there is none"):
        store_of(scene, sources).build()


def test_unequal_images_in_a_folder_are_both_named(tmp_path: Path):
    scene = image_scene(tmp_path)
    Image.new("RGB", (48, 32)).save(scene / "cam00" / "images" / "0001.png")
    with pytest.raises(ValueError, match=r"0000\.png is 24x16 and 0001\.png is 48x32"):
        store_of(scene).build()


def test_images_out_of_proportion(tmp_path: Path):
    with pytest.raises(ValueError, match=r"proportions of the cameras \(24x24\).* 24x16"):
        store_of(image_scene(tmp_path), size=(24, 24)).build()


def test_corrupt_and_short_videos_are_named(tmp_path: Path):
    scene = tiny_video_scene(tmp_path)
    with pytest.raises(ValueError, match=r"cam01\.mp4.*ends after 5 frames, frame 7 is missing"):
        list(decode_video(scene / "cam01.mp4", [0, 7]))
    path = scene / "cam02.mp4"
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : start + 4000] = bytes(4000)
    path.write_bytes(data)
    sources = tuple(FrameSource(path, frame) for frame in range(5))
    with pytest.raises(ValueError, match=r"complete video at .*cam02\.mp4, but"):
        store_of(scene, sources, size=(48, 36)).build()


def test_a_missing_decoder_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match="pip install av"):
        list(decode_video(tmp_path / "cam00.mp4", [0]))
