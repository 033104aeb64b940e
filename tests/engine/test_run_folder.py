"""Whose the folder of a run is, what may be trained in it, and what an early end leaves."""

import errno
import json
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from tiny import TinyRuns, train_tiny

from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.engine import run_files
from moegs_ns.engine.trainer import MoegsTrainer
from moegs_ns.launch.jobs import progress_of
from moegs_ns.launch.locks import TRAINING_LOCK, claim, give_up
from moegs_ns.runs.checkpoint import open_run

FOLDER = "nerfstudio_models"
SHORT = ("--budget", "0.0004")
"""12 steps of moegs-stg."""


@pytest.fixture(scope="module")
def short(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of outputs with a finished run of 12 steps, `first`; the fixture is not changed."""
    output = tmp_path_factory.mktemp("short")
    train_tiny("moegs-stg", tiny_runs.scene, output, *SHORT)
    return output


@pytest.fixture
def run(short: Path, tmp_path: Path) -> Path:
    """The folder of a copy of that run, below `tmp_path`."""
    shutil.copytree(short, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs" / "moegs-stg" / "first"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "lock" not in path.name
    }


def load(folder: Path) -> tuple[str, str]:
    return ("--load-dir", str(folder / FOLDER))


# ---- one training in a folder ----


def test_a_second_training_in_a_folder_ends_at_once(tiny_runs: TinyRuns, tmp_path: Path):
    folder = tmp_path / "runs" / "moegs-stg" / "first"
    folder.mkdir(parents=True)
    with (
        FileLock(folder / TRAINING_LOCK),
        pytest.raises(RuntimeError, match=f"Another training is under way in {folder}; wait for"),
    ):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *SHORT)
    assert not contents(folder)


def test_a_training_holds_its_folder_until_its_end(tiny_runs, tmp_path: Path, monkeypatch):
    folder, seen = tmp_path / "runs" / "moegs-stg" / "first", []
    iterate = MoegsTrainer.train_iteration

    def look(self, step):
        seen.append(claim(folder) or not is_free(folder))
        return iterate(self, step)

    monkeypatch.setattr(MoegsTrainer, "train_iteration", look)
    train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *SHORT)
    assert seen == [True] * 12
    assert is_free(folder)


def is_free(folder: Path) -> bool:
    try:
        with FileLock(folder / TRAINING_LOCK, timeout=0, is_singleton=False):
            return True
    except TimeoutError:
        return False


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written \(Not a directory\); name another"):
        claim(tmp_path / "file" / "run")
    give_up(tmp_path / "file" / "run")


# ---- what a folder holds ----


def test_a_finished_run_is_not_replaced(tiny_runs: TinyRuns, run: Path, tmp_path: Path):
    before = contents(run)
    with pytest.raises(ValueError, match="holds a run, which it would replace; go on with that"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *SHORT)
    assert contents(run) == before


def test_another_run_does_not_go_on_in_it(tiny_runs: TinyRuns, run: Path, tmp_path: Path):
    before, other = contents(run), shutil.copytree(run, tmp_path / "other")
    with pytest.raises(ValueError, match="holds a run, which it would replace"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *SHORT, *load(other))
    assert contents(run) == before


def test_a_run_goes_on_in_its_folder(tiny_runs: TinyRuns, run: Path, tmp_path: Path):
    train_tiny("moegs-stg", tiny_runs.scene, tmp_path, "--budget", "0.0005", *load(run))
    assert progress_of(run).steps == 15 and progress_of(run).is_finished


def test_it_goes_on_with_its_own_options_only(tiny_runs: TinyRuns, run: Path, tmp_path: Path):
    before = contents(run)
    options = ("--pipeline.model.expert.near", "0.25", "--budget", "0.0005")
    said = r"--pipeline\.model\.expert\.near is 0\.25, not .*; give the same options, or go on in"
    with pytest.raises(ValueError, match=said):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *options, *load(run))
    with pytest.raises(ValueError, match=r"--pipeline\.datamanager\.val-cameras is \(2,\), not"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *load(run), "--val-cameras", "2")
    assert contents(run) == before


def test_what_was_stopped_before_its_first_save_begins_anew(tiny_runs, run: Path, tmp_path: Path):
    shutil.rmtree(run / FOLDER)
    (run / "training.json").unlink()
    train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *SHORT)
    assert progress_of(run).is_finished


def test_load_config_goes_on(tiny_runs: TinyRuns, run: Path, monkeypatch):
    """Its command takes no other options; a training from the start would replace the run."""
    config = open_run(run).config
    monkeypatch.setattr(sys, "argv", ["ns-train", "--load-config", str(run / "config.yml")])
    config.set_timestamp()
    assert config.load_dir == run / FOLDER and config.get_base_dir() == run


# ---- another scene or clip ----


def test_another_scene_is_refused(tiny_runs: TinyRuns, run: Path, tmp_path: Path):
    scene, output = tmp_path / "scene", tmp_path / "out"
    write_demo_scene(scene, num_cameras=5, num_frames=6, width=48, height=36, num_points=500)
    alone = shutil.copy(next((run / FOLDER).iterdir()), tmp_path)
    for name, loaded in {"folder": load(run), "file": ("--load-checkpoint", str(alone))}.items():
        with pytest.raises(ValueError, match="Expected a run to go on with of this scene"):
            train_tiny("moegs-stg", scene, output, "--budget", "0.0005", *loaded, name=name)
    assert not list(output.rglob("*.ckpt"))


def test_another_clip_is_refused(tiny_runs: TinyRuns, tmp_path: Path):
    scene, frames = tiny_runs.scene, ("--frames", "0", "3")
    config = train_tiny("moegs-stg", scene, tmp_path, *SHORT, parser_options=frames)
    options = ("--budget", "0.0005", *load(config.parent))
    for name, other, said in (("more", ("0", "4"), "of 5 frames"), ("later", ("1", "4"), "1 to 4")):
        with pytest.raises(ValueError, match=f"Expected a run to go on with of this clip.*{said}"):
            train_tiny(
                "moegs-stg", scene, tmp_path, *options, name=name,
                parser_options=("--frames", *other),
            )  # fmt: skip
        assert not list(config.parents[1].glob(f"{name}/{FOLDER}/*.ckpt"))


# ---- seconds ----


class Killed(BaseException):
    """Stands for kill -9: nothing of ours looks at it."""


def test_seconds_count_all_sessions(tiny_runs: TinyRuns, tmp_path: Path, monkeypatch):
    """Those of a killed one up to the checkpoint that the next one goes on from."""
    iterate, stop_at = MoegsTrainer.train_iteration, [7]

    def slow(self, step):
        if step == stop_at[0]:
            raise Killed
        time.sleep(0.1)
        return iterate(self, step)

    monkeypatch.setattr(MoegsTrainer, "train_iteration", slow)
    folder = tmp_path / "runs" / "moegs-stg" / "first"
    options = (*SHORT, "--steps-per-save", "3")
    with pytest.raises(Killed):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *options)
    assert not (folder / "training.json").exists()
    (saved,) = (folder / FOLDER).iterdir()
    earlier = torch.load(saved, weights_only=True)["seconds"]
    assert saved.name == "step-000000006.ckpt" and earlier > 0.7
    stop_at[0] = 10
    with pytest.raises(Killed):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *options, *load(folder))
    stop_at[0] = -1
    (saved,) = (folder / FOLDER).iterdir()
    alone = shutil.copytree(folder, tmp_path / "copy") / FOLDER / saved.name
    train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *options, *load(folder))
    seconds = json.loads((folder / "training.json").read_text())["seconds"]
    last = torch.load(folder / FOLDER / "step-000000011.ckpt", weights_only=True)["seconds"]
    assert seconds == pytest.approx(last, abs=0.5)
    assert seconds >= torch.load(alone, weights_only=True)["seconds"] + 0.2 > earlier + 0.5
    loaded = ("--load-checkpoint", str(alone))
    train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *options, *loaded, name="second")
    record = json.loads((folder.with_name("second") / "training.json").read_text())
    assert record["seconds"] > earlier + 0.5
    assert record["initial_points"].startswith("Initial points: 2000 from ")


def test_the_entries_of_a_checkpoint_are_those_of_nerfstudio(run: Path, monkeypatch):
    (saved,) = (run / FOLDER).iterdir()
    entries = set(torch.load(saved, weights_only=True))
    written: list[dict] = []
    monkeypatch.setattr(torch, "save", lambda content, path: written.append(content))

    class Everything:
        """Whatever a trainer is asked for."""

        checkpoint_dir, base_dir = run / FOLDER, run
        config = type("Config", (), {"save_only_latest_checkpoint": False})
        optimizers = type("Optimizers", (), {"optimizers": {}, "schedulers": {}})
        pipeline = grad_scaler = torch.nn.Identity()

    super(MoegsTrainer, MoegsTrainer).save_checkpoint(Everything(), 3)  # type: ignore[arg-type]
    assert entries - set(written[0]) == {run_files.SECONDS} and set(written[0]) < entries


# ---- the last save ----


def test_a_last_save_that_fails_claims_nothing(tiny_runs: TinyRuns, tmp_path: Path, monkeypatch):
    def full(content, path, *args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="could not be written"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *SHORT)
    assert not list(tmp_path.rglob("training.json"))


def test_old_checkpoints_go_when_the_new_one_is_on_the_disk(tiny_runs, run: Path, monkeypatch):
    """The order of what reaches the disk: new file, its name, only then the old one goes."""
    seen: list[tuple[str, list[str]]] = []
    real = run_files.replace_synced

    def note(source, target):
        real(source, target)
        seen.append((target.name, sorted(path.name for path in (run / FOLDER).glob("*.ckpt"))))

    monkeypatch.setattr(run_files, "replace_synced", note)
    output = run.parents[2]
    train_tiny("moegs-stg", tiny_runs.scene, output, "--budget", "0.0005", *load(run))
    both = ["step-000000011.ckpt", "step-000000014.ckpt"]
    assert seen[-1] == (both[1], both)
    assert [path.name for path in (run / FOLDER).iterdir()] == both[1:]
