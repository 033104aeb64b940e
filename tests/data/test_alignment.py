"""Images of one frame show one instant, whatever a camera dropped; else the scene is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from data_helpers import image_scene, panoptic_scene, poses_bounds, test_image, write_video
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.data.dataparsers import recordings
from moegs_ns.data.dataparsers.n3v import N3VDataParserConfig
from moegs_ns.data.dataparsers.panoptic import PanopticDataParserConfig
from moegs_ns.data.frames import videos as video_files
from moegs_ns.data.points.prepared import PreparedPoints
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command
from moegs_ns.scripts import prepare as prepare_command

FRAMES = 8


def parse(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return N3VDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def parse_dome(scene: Path, split: str = "train", **options) -> DataparserOutputs:
    return PanopticDataParserConfig(data=scene, **options).setup().get_dataparser_outputs(split)


def instants(scene: Path, **options) -> dict[int, list[int]]:
    """The instant that every stored image of each camera really shows."""
    parser = N3VDataParserConfig(data=scene, num_random_points=50, **options)
    manager = MoegsDataManagerConfig(dataparser=parser).setup(device="cpu", test_mode="val")
    shown: dict[int, list[int]] = {}
    for dataset in (manager.train_dataset, manager.eval_dataset):
        for row, camera in enumerate(dataset.frame_table.camera_ids.tolist()):
            shown.setdefault(camera, []).append(round(float(dataset.store[row][0, 0, 1]) / 20))
    return shown


def video_scene(
    folder: Path,
    kept: Callable[[int], Sequence[int]] = lambda camera: range(FRAMES),
    fps: Sequence[int] = (30, 30, 30),
    delay: Sequence[int] = (0, 0, 0),
    codec: dict[str, str] | None = None,
) -> Path:
    """Three cameras; frame n shows the instant n at 30 frames per second, and 2 n at 15."""
    folder.mkdir(parents=True, exist_ok=True)
    for camera in range(3):
        images = [test_image(camera, frame * 30 // fps[camera], 64, 48) for frame in kept(camera)]
        places = [frame + delay[camera] for frame in kept(camera)]
        name = f"cam{camera:02d}.mp4"
        write_video(folder / name, images, places=places, fps=fps[camera], codec=codec)
    np.save(folder / "poses_bounds.npy", poses_bounds(3, 64, 48))
    return folder


def without(*frames: int) -> list[int]:
    return [frame for frame in range(FRAMES) if frame not in frames]


def test_videos_that_agree_open_by_their_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No packet is read of a constant rate."""
    scene = video_scene(tmp_path)
    real = video_files.opened_video
    read: list[Path] = []

    class Watched:
        def __init__(self, container, path):
            self.container, self.path = container, path

        def demux(self, *streams):
            read.append(self.path)
            return self.container.demux(*streams)

    def opened(path: Path):
        context = real(path)

        class Context:
            def __enter__(self):
                container, stream = context.__enter__()
                return Watched(container, path), stream

            def __exit__(self, *error):
                return context.__exit__(*error)

        return Context()

    monkeypatch.setattr(video_files, "opened_video", opened)
    outputs = parse(scene)
    assert not read
    assert [source.frame for source in outputs.metadata["frame_sources"]] == [*range(FRAMES)] * 2
    assert outputs.metadata["frame_ids"] == [*range(FRAMES)] * 2
    assert outputs.metadata["fps"] == 30.0


# ---- videos ----


def test_every_video_dropped_another_frame(tmp_path: Path):
    """Equal counts, other instants."""
    scene = video_scene(tmp_path, lambda camera: without(camera + 2))
    said = r"3 cameras.* share 5 of 8: cam00\.mp4 has 7, 30 per second.* --align time"
    with pytest.raises(ValueError, match=said) as error:
        parse(scene)
    assert "--frames" not in str(error.value)
    assert set(map(tuple, instants(scene, align="time").values())) == {(0, 1, 5, 6, 7)}
    outputs = parse(scene, align="time")
    assert outputs.metadata["frame_ids"] == [0, 1, 5, 6, 7] * 2
    assert outputs.metadata["num_frames"] == 8
    times = outputs.cameras.times
    assert times is not None
    assert times[2, 0] == pytest.approx(5 / 7)
    assert "all 3 cameras have 5" in outputs.metadata["note"]


@pytest.mark.parametrize("dropped", [(3, 5), (6,), (1,)])
@pytest.mark.parametrize("bf", ["0", "2"])
def test_one_video_dropped_frames(tmp_path: Path, dropped: tuple[int, ...], bf: str):
    """Also just before the end, where B-frames hide it from the index of the file."""
    codec = {"bf": bf, "preset": "medium", "g": "4"}
    scene = video_scene(
        tmp_path, lambda camera: without(*dropped) if camera == 1 else range(FRAMES), codec=codec
    )
    with pytest.raises(ValueError, match=f"share {FRAMES - len(dropped)} of 8: cam01"):
        parse(scene)
    shared = without(*dropped)
    assert set(map(tuple, instants(scene, align="time").values())) == {tuple(shared)}


def test_dropped_frames_of_equally_long_videos_with_b_frames(tmp_path: Path):
    codec = {"bf": "2", "preset": "medium"}
    scene = video_scene(
        tmp_path, lambda camera: without(6) if camera == 1 else range(FRAMES - 1), codec=codec
    )
    with pytest.raises(ValueError, match=r"share 6 of 7: cam"):
        parse(scene)


def test_videos_of_different_rates(tmp_path: Path):
    scene = video_scene(tmp_path, lambda camera: range(8 if camera == 1 else 4), fps=(15, 30, 15))
    with pytest.raises(ValueError, match=r"cam00\.mp4 has 4, 15 per second.*cam01\.mp4 has 8, 30"):
        parse(scene)
    assert set(map(tuple, instants(scene, align="time").values())) == {(0, 2, 4, 6)}
    assert parse(scene, align="time").metadata["fps"] == pytest.approx(15.0)


def test_equally_many_frames_at_different_rates(tmp_path: Path):
    scene = video_scene(tmp_path, lambda camera: range(4), fps=(15, 30, 15))
    with pytest.raises(ValueError, match=r"share 2 of 4: cam01\.mp4 has 4, 30 per second"):
        parse(scene)


def test_videos_that_start_later(tmp_path: Path):
    """The frames that a camera begins with are those of its timestamps."""
    scene = video_scene(tmp_path, lambda camera: range(3 if camera == 2 else 0, FRAMES))
    for path in scene.glob("cam*.mp4"):
        assert video_files.read_frame_times(path)[-1] == pytest.approx(7 / 30)
    with pytest.raises(ValueError, match=r"share 5 of 8: cam02\.mp4 has 5, .* from 0\.100 s"):
        parse(scene)
    assert set(map(tuple, instants(scene, align="time").values())) == {(3, 4, 5, 6, 7)}


def test_rates_that_vary_alike(tmp_path: Path):
    """Cameras that agree are taken as they are, and keep their true times on demand."""
    scene = video_scene(tmp_path, lambda camera: without(3, 4))
    assert parse(scene).metadata["frame_ids"] == [*range(6)] * 2
    outputs = parse(scene, align="time")
    assert outputs.metadata["frame_ids"] == without(3, 4) * 2
    assert [s.frame for s in outputs.metadata["frame_sources"][:6]] == [*range(6)]


def test_videos_without_a_common_frame(tmp_path: Path):
    scene = video_scene(tmp_path, delay=(0, 0, 20))
    with pytest.raises(ValueError, match=r"share 0 of 8: .*; record or synchronise them again"):
        parse(scene)
    with pytest.raises(ValueError, match=r"--align time\), but .* share none"):
        parse(scene, align="time")


def test_frames_by_position_on_demand(tmp_path: Path):
    """For timestamps that are wrong."""
    scene = video_scene(tmp_path, delay=(0, 0, 20))
    assert parse(scene, align="position").metadata["frame_ids"] == [*range(FRAMES)] * 2


def test_an_alignment_that_the_files_do_not_have(tmp_path: Path):
    with pytest.raises(ValueError, match="--align expects time or position for videos, got number"):
        parse(video_scene(tmp_path / "videos"), align="number")
    with pytest.raises(ValueError, match="--align expects number or position for images, got time"):
        parse(image_scene(tmp_path / "images"), align="time")
    with pytest.raises(ValueError, match="--align expects number or position for images, got time"):
        parse_dome(panoptic_scene(tmp_path / "dome"), align="time")


# ---- folders of images ----


def test_folders_that_miss_an_image(tmp_path: Path):
    scene = image_scene(tmp_path, num_frames=FRAMES)
    (scene / "cam02" / "images" / "0003.png").unlink()
    with pytest.raises(ValueError, match=r"share 7 of 8: cam02 has 7 .*--align number") as error:
        parse(scene)
    assert "--frames" not in str(error.value)
    # The frames up to the missing one are the same.
    assert set(map(tuple, instants(scene, frames=(0, 2)).values())) == {(0, 1, 2)}
    with pytest.raises(ValueError, match=r"share 4 of 5: cam02"):
        parse(scene, frames=(0, 4))
    shown = instants(scene, align="number", frames=(1, 6))
    assert set(map(tuple, shown.values())) == {(1, 2, 4, 5, 6)}


def test_every_folder_misses_another_image(tmp_path: Path):
    scene = image_scene(tmp_path, num_frames=FRAMES)
    for camera in range(3):
        (scene / f"cam{camera:02d}" / "images" / f"{camera + 2:04d}.png").unlink()
    with pytest.raises(ValueError, match=r"share 5 of 8: cam00 has 7"):
        parse(scene)
    assert set(map(tuple, instants(scene, align="number").values())) == {(0, 1, 5, 6, 7)}


def test_numbers_that_are_not_consecutive_but_shared(tmp_path: Path):
    """Every tenth frame of a recording, with the camera's own number in the names."""
    scene = image_scene(tmp_path)
    for path in list(scene.glob("cam*/images/*.png")):
        camera, frame = path.parent.parent.name[3:], int(path.stem)
        path.rename(path.with_name(f"{camera}_{10 * frame + 5}.png"))
    outputs = parse(scene)
    assert outputs.metadata["frame_ids"] == [0, 1, 2, 3] * 2
    assert [path.name for path in outputs.image_filenames[:2]] == ["01_5.png", "01_15.png"]


def test_frame_numbers_ignore_what_all_names_share():
    def numbers(*names: str) -> tuple[tuple[int, ...], ...]:
        return recordings.frame_numbers([Path(name) for name in names], Path("cam00"))

    assert numbers("take2_0010.png", "take2_0011.png") == ((10,), (11,))
    assert numbers("s_00151_03.png", "s_00152_03.png") == ((151,), (152,))
    assert numbers("1-59.png", "2-00.png") == ((1, 59), (2, 0))
    assert numbers("0007.png") == ((7,),)
    assert numbers("s_00151_03.png") == ((),)
    assert numbers("frame.png") == ((),)


@pytest.mark.colmap
def test_points_are_prepared_from_matched_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command refuses as a training does, and takes the same option."""
    scene = image_scene(tmp_path, num_frames=FRAMES)
    (scene / "cam02" / "images" / "0000.png").unlink()
    seen: list[list[int]] = []

    def prepare(outputs: DataparserOutputs, *options, **named) -> PreparedPoints:
        seen.append(outputs.metadata["frame_ids"])
        return PreparedPoints(1000, "stand-in", {})

    monkeypatch.setattr(prepare_command, "prepare_points", prepare)
    words = ["moegs", "prepare", "points", "--data", str(scene), "n3v-data"]
    with replaced_argv(words), pytest.raises(ValueError, match=r"share 7 of 8: cam02"):
        command.main()
    with replaced_argv([*words, "--align", "number"]):
        command.main()
    assert seen == [[*range(7)] * 2]


# ---- PanopticSports ----


def test_a_dome_whose_lists_have_slipped(tmp_path: Path):
    """Camera 4 lacks frame 1, so its list is one short of the others', and ends with the last."""
    scene = panoptic_scene(tmp_path, num_frames=4)
    path = scene / "train_meta.json"
    meta = json.loads(path.read_text())
    for time in range(1, 3):
        meta["fn"][time][0] = f"4/{time + 1:06d}.jpg"
    for key in ("k", "w2c", "fn", "cam_id"):
        del meta[key][3][0]
    path.write_text(json.dumps(meta))
    said = r"4 times of .* at 3 of them .*/000001\.jpg and 4/000002\.jpg\).*--align number"
    with pytest.raises(ValueError, match=said):
        parse_dome(scene)
    with pytest.raises(ValueError, match="at 3 of them"):
        parse_dome(scene, "test")
    for split, cameras in (("train", [1, 4, 7]), ("test", [2])):
        outputs = parse_dome(scene, split, align="number")
        names = [path.name for path in outputs.image_filenames]
        assert names == ["000000.jpg", "000002.jpg", "000003.jpg"] * len(cameras)
        assert outputs.metadata["frame_ids"] == [0, 2, 3] * len(cameras)
        assert outputs.metadata["num_frames"] == 4
    assert parse_dome(scene, align="number", frames=(1, 3)).metadata["first_frame"] == 2
    with pytest.raises(ValueError, match=r"frames 1 to 1 in .* all cameras have"):
        parse_dome(scene, align="number", frames=(1, 1))
    slipped = parse_dome(scene, align="position").metadata["frame_ids"]
    assert slipped == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3]


def test_a_dome_may_lack_images_that_its_lists_do_not_name(tmp_path: Path):
    scene = panoptic_scene(tmp_path)
    path = scene / "train_meta.json"
    meta = json.loads(path.read_text())
    for key in ("k", "w2c", "fn", "cam_id"):
        del meta[key][1][0]
    path.write_text(json.dumps(meta))
    assert parse_dome(scene).metadata["frame_ids"] == [0, 1, 2, 0, 2, 0, 1, 2]
    (scene / "test_meta.json").unlink()
    assert len(parse_dome(scene).image_filenames) == 8
