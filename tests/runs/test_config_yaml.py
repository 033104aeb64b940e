"""A run of somebody else is read without running what its config.yml names."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import drift_family
import pytest
import yaml
from malicious_configs import CALL, MALICIOUS, METHODS, TRAINER
from tiny import train_config

from moegs_ns.experts.windows import joined_config
from moegs_ns.launch import nerfstudio_commands
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.launch.jobs import progress_of
from moegs_ns.mixture.pruning_schedule import PruneConfig
from moegs_ns.models.expert_sources import expert_source
from moegs_ns.runs import config_yaml
from moegs_ns.runs.checkpoint import read_config
from moegs_ns.runs.config_yaml import restrict
from moegs_ns.scripts.analyse import Analyse
from moegs_ns.scripts.export import Export
from moegs_ns.scripts.fuse import Fuse
from moegs_ns.scripts.render import Render
from moegs_ns.scripts.report import Report


@pytest.fixture(autouse=True, scope="module")
def collected_once() -> Iterator[None]:
    """Where shapes are checked, collecting what is installed takes half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config_yaml, "installed", cache(config_yaml.installed))
        yield


def write(folder: Path, text: str) -> Path:
    """A run's folder with a config that leaves a mark if it runs."""
    path = folder / "config.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("{mark}", str(folder / "MARK")))
    (path.parent / "nerfstudio_models").mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize("kind", MALICIOUS)
def test_nothing_that_a_config_names_runs(kind: str, tmp_path: Path):
    path = write(tmp_path, MALICIOUS[kind])
    with pytest.raises(ValueError, match=r"config\.yml names .* set MOEGS_TRUST=1") as error:
        read_config(path)
    assert str(error.value).startswith(f"{path} names ")
    assert not (tmp_path / "MARK").exists() and "antigravity" not in sys.modules


def training(**options: Any) -> Callable[[Path], object]:
    """A training of a router or an expert that names a run."""

    def start(path: Path) -> None:
        method = "moegs-stg" if "distillation" in options else "moegs-router"
        config: Any = deepcopy(METHODS[method])
        for name, make in options.items():
            if name == "load_dir":
                config.load_dir = make(path)
            elif name == "mixture_run":
                config.pipeline.model.mixture_run = make(path)
                config.pipeline.model.prune = PruneConfig(ratio=0.5)
            elif name == "distillation":
                config.pipeline.model.distillation.teacher = make(path)
            else:
                setattr(config.pipeline.model, name, make(path))
        train_config(config, path.parent, path.parent / "out", steps=2)

    return start


COMMANDS: dict[str, Callable[[Path], object]] = {
    "report": lambda path: Report((path,)).main(),
    "analyse": lambda path: Analyse(path, path.parent / "out").main(),
    "fuse": lambda path: Fuse(path, path.parent / "out.ply").main(),
    "render": lambda path: Render(path).main(),
    "export": lambda path: Export(path, path.parent / "out", compact=True).main(),
    "experts": training(experts=lambda path: (path,)),
    "windows": training(experts=lambda path: (Path(f"{path}+{path}"),)),
    "dry run": lambda path: expert_source(str(path)),
    "router": training(mixture_run=lambda path: path),
    "teacher": training(distillation=lambda path: path),
    "load-dir": training(load_dir=lambda path: path.parent / "nerfstudio_models"),
    "resume": lambda path: progress_of(path.parent),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["a field", "a function of nerfstudio"])
def test_no_command_runs_what_a_config_names(command: str, kind: str, tmp_path: Path):
    path = write(tmp_path, MALICIOUS[kind])
    with pytest.raises(ValueError, match=r"set MOEGS_TRUST=1 in the environment if you trust"):
        COMMANDS[command](path)
    assert not (tmp_path / "MARK").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", MALICIOUS)
def test_the_loader_of_nerfstudios_commands_refuses_as_well(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(yaml, "Loader", type("Loader", (yaml.Loader,), {}))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    text = write(tmp_path, MALICIOUS[kind]).read_text()
    with replaced_argv(["/usr/bin/ns-eval"]):
        nerfstudio_commands.prepare_nerfstudio_commands()
    with pytest.raises(ValueError, match=r"^The config\.yml names .* set MOEGS_TRUST=1"):
        yaml.load(text, Loader=yaml.Loader)
    assert not (tmp_path / "MARK").exists()
    assert sys.excepthook is nerfstudio_commands.end_in_a_sentence


def test_loaders_and_hooks_of_other_programs_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nerfstudio_commands, "restrict", pytest.fail)
    hook = sys.excepthook
    with replaced_argv(["/usr/bin/jupyter"]):
        nerfstudio_commands.prepare_nerfstudio_commands()
    assert sys.excepthook is hook


def test_a_trusted_config_may_name_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOEGS_TRUST", "1")
    path = write(tmp_path, f"{TRAINER}\npipeline: {CALL}")
    assert read_config(path).pipeline == 0
    assert (tmp_path / "MARK").exists()


class NerfstudiosLoader(yaml.Loader):
    """As nerfstudio's commands have it."""


restrict(NerfstudiosLoader)


@pytest.mark.parametrize("name", [*METHODS, "drift"])
def test_configs_of_all_methods_are_read_as_they_were_written(name: str, tmp_path: Path):
    """Also those of nerfstudio, which its commands read with the same constructors."""
    config: Any = drift_family.method.config if name == "drift" else METHODS[name]
    text = yaml.dump(config)
    again = read_config(write(tmp_path, text))
    assert again == yaml.load(text, Loader=yaml.UnsafeLoader) == config
    assert yaml.load(text, Loader=NerfstudiosLoader) == config
    assert yaml.dump(again) == text


def test_what_only_runs_have_is_read_as_well(tmp_path: Path):
    """Experts of windows, other optimisers, fields of older versions, other Pythons' names."""
    config = deepcopy(METHODS["moegs-router"])
    expert = METHODS["moegs-stg"].pipeline.model
    windows = joined_config([expert.expert, expert.expert], [(0, 4), (5, 9)])
    config.pipeline.model.expert_models = (deepcopy(expert), expert)
    config.pipeline.model.expert_models[0].expert = windows
    text = yaml.dump(config).replace(
        "moegs_ns.training.optimizers.FusedRAdam", "torch.optim.sgd.SGD"
    )
    assert "torch.optim.sgd.SGD" in text
    text = text.replace("pathlib.PosixPath", "pathlib._local.PosixPath", 1)
    event = "!!python/object/apply:nerfstudio.utils.writer.EventName"
    text = text.replace(
        f"{event}\n      - ETA (time)",
        "!!python/object/apply:builtins.getattr\n"
        "      - !!python/name:nerfstudio.utils.writer.EventName ''\n      - ETA",
    )
    again = read_config(write(tmp_path, text + "gone: 3\n"))
    assert again.pipeline == config.pipeline and again.logging == config.logging
    assert again.optimizers["router_phi"]["optimizer"]._target.__name__ == "SGD"
    assert again.output_dir == config.output_dir and again.gone == 3


NO_CONFIGS = {
    "empty": "",
    "cut": "a: [",
    "deep": "[" * 5000,
    "binary": "\x00",
    "no date": "x: 2020-13-45\n",
    "no key": "? [1, {}]\n: 2\n",
    "no anchor": "- *a",
    "large": "a: " + "b" * 5_000_000,
}


@pytest.mark.parametrize("text", NO_CONFIGS.values(), ids=NO_CONFIGS)
def test_a_file_that_is_no_config(text: str, tmp_path: Path):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=r"^Expected (a run of|the config of).*config\.yml"):
        read_config(path)
    path.write_bytes(b"\xff\xfe\x81")
    with pytest.raises(ValueError, match=r"^Expected a run of.*config\.yml cannot be read"):
        read_config(path)


def test_a_run_of_a_method_that_is_not_installed(tmp_path: Path):
    path = write(tmp_path, "!!python/object:elsewhere.trainer.TheirConfig {}")
    with pytest.raises(ValueError, match=r"elsewhere\.trainer\.TheirConfig.*install the method"):
        read_config(path)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["eval", "render", "viewer.run_viewer", "train"])
def test_nerfstudios_commands_end_in_one_sentence(script: str, tmp_path: Path):
    path = write(tmp_path, MALICIOUS["nested in lists"])
    words = {
        "eval": ["--load-config", str(path)],
        "render": ["interpolate", "--load-config", str(path)],
        "viewer.run_viewer": ["--load-config", str(path)],
        "train": ["moegs-stg", "--load-config", str(path), "--data", str(tmp_path), "n3v-data"],
    }[script]
    environment = {name: value for name, value in os.environ.items() if name != "MOEGS_TRACEBACK"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"nerfstudio.scripts.{script}", *words],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("Error: The config.yml names os.system")
    assert not (tmp_path / "MARK").exists()
