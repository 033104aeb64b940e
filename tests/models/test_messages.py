"""Mistakes end in one sentence: what was expected, what came, what to do."""

import errno
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny import TinyRuns, train_tiny

from moegs_ns.engine.trainer import MoegsTrainer
from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.runs.checkpoint import open_run


def router(runs: TinyRuns, output: Path, *experts: str, scene: Path | None = None) -> Path:
    return train_tiny("moegs-router", scene or runs.scene, output, "--experts", *experts)


def test_a_router_without_experts(tiny_runs: TinyRuns, tmp_path: Path):
    with pytest.raises(ValueError, match=r"add --experts A/config\.yml B/config\.yml"):
        train_tiny("moegs-router", tiny_runs.scene, tmp_path)


def test_an_expert_that_is_not_there(tiny_runs: TinyRuns, tmp_path: Path):
    missing = str(tmp_path / "nowhere" / "config.yml")
    with pytest.raises(FileNotFoundError, match=re.escape(missing)):
        router(tiny_runs, tmp_path, missing)
    assert not list(tmp_path.rglob("config.yml"))


def test_the_name_of_the_parser_among_the_experts(tiny_runs: TinyRuns):
    """What tyro before 1.0 makes of `--experts A B n3v-data`."""
    experts = tuple(Path(name) for name in (*tiny_runs.experts, "n3v-data"))
    with pytest.raises(ValueError, match="name of the dataparser was read as an expert"):
        MixtureModelConfig(experts=experts).sources()


def test_a_router_is_no_expert(tiny_runs: TinyRuns, tmp_path: Path):
    with pytest.raises(ValueError, match=r"runs of single experts.*'moegs-router'"):
        router(tiny_runs, tmp_path, str(tiny_runs.router))


def test_a_file_that_is_no_run(tiny_runs: TinyRuns, tmp_path: Path):
    other = tmp_path / "other.yml"
    other.write_text("a: 1\n")
    with pytest.raises(ValueError, match="holds something else"):
        router(tiny_runs, tmp_path, str(other))


def test_an_expert_of_another_version_of_the_code(tmp_path: Path):
    path = tmp_path / "config.yml"
    path.write_text("!!python/object:moegs_ns.gone.Config {}\n")
    with pytest.raises(ValueError, match="this version of moegs_ns"):
        open_run(path)
    (tmp_path / "training.json").write_text('{"version": "9.1"}')
    with pytest.raises(ValueError, match=r"with moegs_ns 9\.1.* this is 0\..*open it with 9\.1"):
        open_run(tmp_path)


def test_an_expert_of_version_0_1(tmp_path: Path):
    """It recorded no version, but all its configs name modules that have moved."""
    tag = "!!python/object:moegs_ns.models.trainer.MoegsTrainerConfig"
    target = "_target: !!python/name:moegs_ns.models.trainer.MoegsTrainer ''"
    (tmp_path / "config.yml").write_text(f"{tag}\n{target}\n")
    (tmp_path / "training.json").write_text('{"seconds": 1.0, "steps": 3}')
    with pytest.raises(ValueError, match=r"was trained with moegs_ns 0\.1, whose.*open it with 0"):
        open_run(tmp_path)


def test_an_expert_without_checkpoint(tiny_runs: TinyRuns, tmp_path: Path):
    shutil.copy(tiny_runs.config("moegs-stg"), tmp_path / "config.yml")
    with pytest.raises(FileNotFoundError, match="Expected checkpoints in"):
        router(tiny_runs, tmp_path, str(tmp_path))


def test_experts_of_another_scene(tiny_runs: TinyRuns, tmp_path: Path):
    scene = tmp_path / "scene"
    shutil.copytree(tiny_runs.scene, scene)
    poses = np.load(scene / "poses_bounds.npy")
    poses[:, [3, 8, 13]] *= 2.0
    np.save(scene / "poses_bounds.npy", poses)
    with pytest.raises(ValueError, match=r"of this scene \(its cameras.*was trained on another"):
        router(tiny_runs, tmp_path, *tiny_runs.experts, scene=scene)


def test_experts_of_other_frames(tiny_runs: TinyRuns, tmp_path: Path):
    options = ["--experts", *tiny_runs.experts]
    with pytest.raises(ValueError, match=r"clip of 3 frames.*trained on 6"):
        train_tiny(
            "moegs-router", tiny_runs.scene, tmp_path, *options,
            parser_options=["--frames", "0", "2"],
        )  # fmt: skip


def test_a_budget_of_nothing(tiny_runs: TinyRuns, tmp_path: Path):
    with pytest.raises(ValueError, match="fraction of the full recipe above 0, got 0"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, "--budget", "0")


def test_a_checkpoint_of_another_method(tiny_runs: TinyRuns, tmp_path: Path):
    source = tiny_runs.config("moegs-4dgaussians").parent / "nerfstudio_models"
    with pytest.raises(ValueError, match="does not fit the method"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, "--load-dir", str(source))


def test_no_memory_left_on_the_gpu(tiny_runs: TinyRuns, tmp_path: Path, monkeypatch):
    def explode(self, view):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("moegs_ns.models.expert_model.ExpertModel.training_outputs", explode)
    with pytest.raises(RuntimeError, match=r"with [\d,]+ Gaussians \(cap 360,000\); lower"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path)


def test_a_loss_that_is_no_number(tiny_runs: TinyRuns, tmp_path: Path, monkeypatch):
    def poison(self, outputs, batch, metrics_dict=None):
        image = outputs["parts"][0][2]
        return {"photometric": image.sum() * float("nan")}

    monkeypatch.setattr("moegs_ns.models.expert_model.ExpertModel.get_loss_dict", poison)
    with pytest.raises(FloatingPointError, match="stopped being a number"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_gaussians_out_of_sight_that_are_no_numbers(
    tiny_runs: TinyRuns, tmp_path: Path, monkeypatch
):
    """The loss knows nothing of them; what is saved could not be opened."""
    after = MoegsTrainer.train_iteration

    def lose_one(self, step):
        found = after(self, step)
        gaussians = self.pipeline.model.expert.gauss_params
        with torch.no_grad():
            gaussians["means"][0] = 1e6
            gaussians["quats"][0] = float("nan")
        return found

    monkeypatch.setattr(MoegsTrainer, "train_iteration", lose_one)
    with pytest.raises(FloatingPointError, match=r"gauss_params\.\w+ are not finite; nothing was"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_full_disk_keeps_the_last_checkpoint(tiny_runs: TinyRuns, tmp_path: Path, monkeypatch):
    writes = []
    save = torch.save

    def fill(content, path, *args, **kwargs):
        writes.append(path)
        if len(writes) == 2:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(content, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(OSError, match="earlier ones are untouched"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, "--steps-per-save", "30")
    kept = list(tmp_path.rglob("*.ckpt"))
    assert [path.name for path in kept] == ["step-000000030.ckpt"]
    torch.load(kept[0], weights_only=True)
    assert not [path for path in tmp_path.rglob("*") if "writing" in path.name]


def test_several_devices(tiny_runs: TinyRuns, tmp_path: Path):
    options = ("--machine.num-devices", "2")
    with pytest.raises(ValueError, match="One device trains a run here, but 2 are named"):
        train_tiny("moegs-stg", tiny_runs.scene, tmp_path, *options)
    assert not list(tmp_path.rglob("config.yml"))


def test_another_datamanager(tiny_runs: TinyRuns):
    model = open_run(tiny_runs.config("moegs-stg")).config.pipeline.model
    with pytest.raises(ValueError, match="description of the scene from MoegsDataManager"):
        model.setup(scene_box=None, num_train_data=1, metadata={}, device="cpu")


def test_configs_are_written_whole_or_not_at_all(tiny_runs: TinyRuns, tmp_path: Path, monkeypatch):
    """An error while writing leaves no half a config.yml."""
    config = open_run(tiny_runs.config("moegs-stg")).config
    config.output_dir = tmp_path
    monkeypatch.setattr(yaml, "dump", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        config.save_config()
    assert not list(tmp_path.rglob("config.yml"))
    assert issubclass(config._target, MoegsTrainer)
