"""Times in frame numbers or seconds: one map to [0, 1] for all splits, or a refusal."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from data_helpers import dnerf_scene
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig

from moegs_ns.data import datamanager
from moegs_ns.data.datamanager import MoegsDataManager, MoegsDataManagerConfig


def timed(folder: Path, **times: Sequence[float]) -> Path:
    """A D-NeRF scene with these times of each split; images are repeated where there are more."""
    scene = dnerf_scene(folder)
    for split, values in times.items():
        path = scene / f"transforms_{split}.json"
        meta = json.loads(path.read_text())
        frames = []
        for number, value in enumerate(values):
            frame = dict(meta["frames"][number % len(meta["frames"])])
            frames.append(frame | {"time": value})
        path.write_text(json.dumps(meta | {"frames": frames}))
    return scene


def opened(scene: Path, mode: str = "test", **options) -> MoegsDataManager:
    parser = DNeRFDataParserConfig(data=scene)
    config = MoegsDataManagerConfig(dataparser=parser, num_random_points=20, **options)
    return config.setup(device="cpu", test_mode=mode)


def all_times(manager: MoegsDataManager) -> tuple[list[float], list[float]]:
    found = []
    for dataset in (manager.train_dataset, manager.eval_dataset):
        assert dataset.cameras.times is not None
        assert torch.equal(dataset.cameras.times.reshape(-1), dataset.frame_table.times)
        found.append([round(value, 6) for value in dataset.frame_table.times.tolist()])
    return found[0], found[1]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(datamanager.CONSOLE, "log", lines.append)
    return lines


@pytest.mark.parametrize("unit", [1.0, 1 / 30, 1000.0, -2.0])
def test_frame_numbers_and_seconds_have_one_map_in_training_and_evaluation(
    tmp_path: Path, logged: list[str], unit: float
):
    """The last frame is in the test split alone; the first one of `val` lies between two frames."""
    scene = timed(
        tmp_path,
        train=[unit * value for value in (50, 60, 70, 80, 90)],
        val=[unit * 65], test=[unit * 70, unit * 100],
    )  # fmt: skip
    train = [0.0, 0.2, 0.4, 0.6, 0.8]
    held_out = {"val": [0.3], "test": [0.4, 1.0]}
    if unit < 0:
        train = [round(1 - value, 6) for value in train]
        held_out = {k: [round(1 - value, 6) for value in v] for k, v in held_out.items()}
    for mode in ("val", "test"):
        found = all_times(opened(scene, mode))
        assert found == (pytest.approx(train, abs=1e-5), pytest.approx(held_out[mode], abs=1e-5))
    ends = sorted((unit * 50, unit * 100))
    note = (
        f"Times of the data go from {torch.tensor(ends[0]).item():g} to "
        f"{torch.tensor(ends[1]).item():g} in all splits together; they are mapped to [0, 1]."
    )
    assert logged.count(note) == 1, "a training says it"


def test_frames_are_counted_as_before(tmp_path: Path):
    plain = opened(timed(tmp_path / "plain", test=[0.25, 0.5]))
    frames = opened(timed(tmp_path / "frames", train=range(5), val=[2], test=[1, 2, 4]))
    table = frames.frame_table
    assert table.frame_ids.tolist() == plain.frame_table.frame_ids.tolist()
    assert table.times.tolist() == plain.frame_table.times.tolist()
    assert frames.eval_dataset.frame_table.frame_ids.tolist() == [1, 2, 4]


def test_times_in_the_unit_interval_stay(tmp_path: Path, logged: list[str]):
    """A clip need not fill it; rounding at its ends is taken off."""
    train = [0.1, 0.3, 0.5, 0.7, 1.00001]
    manager = opened(timed(tmp_path, train=train, val=[0.0], test=[0.05]))
    assert all_times(manager) == ([0.1, 0.3, 0.5, 0.7, 1.0], [0.05])
    assert not any("mapped" in line for line in logged)


def test_a_split_that_is_missing_does_not_count(tmp_path: Path):
    scene = timed(tmp_path, train=range(5), val=[8], test=[1])
    (scene / "transforms_val.json").unlink()
    assert all_times(opened(scene)) == ([0.0, 0.25, 0.5, 0.75, 1.0], [0.25])


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"test": [30.0, 60.0]}, "from 0 to 1 and those of the evaluation images from 30 to 60"),
        ({"test": [0.5, -0.5]}, "evaluation images from -0.5 to 0.5"),
        ({"train": range(5), "test": [0.0, 0.5, 1.0]}, "0 to 4 and those of the split test from 0"),
        ({"train": range(10, 15), "val": [0.0, 1.0]}, "10 to 14 and those of the split val"),
        (
            {"train": [1.6e9 + value for value in range(5)], "val": [1.6e9], "test": [1.6e9]},
            "single precision tells apart",
        ),
        ({"train": [16777216.0 + value for value in range(5)]}, "subtract the first time"),
    ],
)
def test_times_that_no_map_fits_are_refused(tmp_path: Path, times: dict, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        opened(timed(tmp_path, **times))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_times_that_are_no_numbers_are_refused_as_before(tmp_path: Path, value: float):
    with pytest.raises(ValueError, match="finite numbers"):
        opened(timed(tmp_path, train=[0.0, 30.0, value, 60.0, 90.0]))


def test_a_single_frame_number(tmp_path: Path):
    scene = timed(tmp_path, train=[7.0] * 5, val=[7.0], test=[7.0])
    assert all_times(opened(scene)) == ([0.0] * 5, [0.0])
