"""Checkpoints as they come back from disks, mails and other people."""

import os
import pickle
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.utils.eval_utils import eval_setup
from tiny import train_config

from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.launch.jobs import progress_of
from moegs_ns.models.resume import check_resumed_checkpoint
from moegs_ns.runs.checkpoint import load_checkpoint, model_state, open_run, training_record
from moegs_ns.runs.checkpoint_files import saved_steps
from moegs_ns.runs.compact import decode_state, encode_state

MEANS = "_model.expert.gauss_params.means"
FOLDER = "nerfstudio_models"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "scene"
    write_demo_scene(folder, num_cameras=4, num_frames=3, width=32, height=24, num_points=1200)
    return folder


@pytest.fixture(scope="module")
def trained(scene: Path) -> Path:
    """A run of four steps with the checkpoints of two of them."""
    config = deepcopy(all_methods["moegs-stg"])
    config.steps_per_save, config.save_only_latest_checkpoint = 2, False
    return train_config(config, scene, scene.parent / "outputs", steps=4).parent


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def newest(run: Path) -> Path:
    return run / FOLDER / "step-000000003.ckpt"


def resume(run: Path, scene: Path, method: str = "moegs-stg", *, steps: int = 6, **options) -> Path:
    config = deepcopy(all_methods[method])
    config.load_dir = run / FOLDER
    for name, value in options.items():
        setattr(config, name, value)
    return train_config(config, scene, run.parent / "resumed", steps=steps)


def look(run: Path, **options) -> None:
    """What a resumed training looks at, without the training."""
    config = deepcopy(all_methods["moegs-stg"])
    config.load_dir = run / FOLDER
    for name, value in options.items():
        setattr(config, name, value)
    check_resumed_checkpoint(config)


def evaluate(run: Path) -> int:
    """The step that nerfstudio's tools read."""
    path = run / "config.yml"
    with replaced_argv(["ns-eval", "--load-config", str(path)]):
        return eval_setup(path)[3]


# ---- damage ----


def flip(path: Path) -> None:
    """Change one bit of the largest entry, where Gaussians or moments lie."""
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda each: each.file_size)
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 200 + entry.file_size // 2] ^= 64
    path.write_bytes(content)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def compress(path: Path) -> None:
    """An archive of a few kilobytes with an entry of a gigabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        with archive.open("a/data/0", "w", force_zip64=True) as entry:
            for _ in range(64):
                entry.write(bytes(2**20))


class Payload:
    def __reduce__(self):
        return os.system, ("touch MARK",)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (flip, "the sum of its entry .* is wrong"),
    "truncated": (lambda path: os.truncate(path, 5000), "5000 bytes, not a torch file"),
    "text": (lambda path: path.write_text("no"), "2 bytes, not a torch file"),
    "empty": (lambda path: path.write_bytes(b""), "0 bytes, not a torch file"),
    "a pipe": (replace_by_pipe, "not an ordinary file"),
    "a device": (replace_by_device, "not an ordinary file"),
    "compressed": (compress, "its entries are larger than the file"),
    "code": (
        lambda path: torch.save({"pipeline": Payload()}, path),
        "it holds more than tensors and numbers",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint(kind: str, run: Path, monkeypatch: pytest.MonkeyPatch):
    damage, reason = DAMAGE[kind]
    monkeypatch.chdir(run)
    damage(newest(run))
    words = f"{newest(run)} is damaged \\({reason}.*earlier step-000000002.ckpt beside it is whole"
    with pytest.raises(ValueError, match=words):
        open_run(run).model_state()
    with pytest.raises(ValueError, match=words):
        evaluate(run)
    with pytest.raises(ValueError, match=words):
        look(run)
    flip(run / FOLDER / "step-000000002.ckpt")
    with pytest.raises(ValueError, match=f"is damaged \\({reason}.*; restore it from a copy"):
        open_run(run).model_state()
    assert not (run / "MARK").exists()


def test_the_earlier_checkpoint_is_opened_once_the_damaged_one_is_gone(run: Path, scene: Path):
    flip(newest(run))
    newest(run).rename(run / "damaged")
    assert open_run(run).checkpoint_path.name == "step-000000002.ckpt" and evaluate(run) == 2
    assert open_run(resume(run, scene)).checkpoint_path.name == "step-000000005.ckpt"


def test_other_files_among_checkpoints_are_passed_over(run: Path, scene: Path):
    for name in (
        ".DS_Store",
        "step-000000009 (copy).ckpt",
        "step-.ckpt",
        "step-8.ckpt",
        "notes-1.txt",
    ):
        (run / FOLDER / name).write_text("no checkpoint")
    (run / FOLDER / "step-000000007.ckpt.part").mkdir()
    assert list(saved_steps(run / FOLDER)) == [2, 3]
    assert open_run(run).checkpoint_path == newest(run) and evaluate(run) == 3
    assert open_run(resume(run, scene)).checkpoint_path.name == "step-000000005.ckpt"


# ---- content ----


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = torch.load(path, weights_only=True)
    changed = change(content)
    torch.save(content if changed is None else changed, path)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite(number: float, run: Path, scene: Path):
    rewrite(
        newest(run), lambda content: content["pipeline"][MEANS][3, 1].fill_(number).sum() and None
    )
    words = r"finite numbers, but 1 of \d+ numbers of expert\.gauss_params\.means are not"
    for use in (lambda: open_run(run).model_state(), lambda: resume(run, scene)):
        with pytest.raises(ValueError, match=words):
            use()
    with pytest.raises(ValueError, match=words):
        evaluate(run)


OTHERS: dict[str, Any] = {
    "a list": lambda content: [1, 2],
    "a tensor": lambda content: torch.zeros(3),
    "the state alone": lambda content: content["pipeline"],
    "no state": lambda content: {"pipeline": torch.zeros(3)},
    "an expanded tensor": lambda content: content["pipeline"].update(
        {MEANS: torch.zeros(1).expand(10**13)}
    ),
    "a tensor without storage": lambda content: content["pipeline"].update(
        {MEANS: torch.zeros(10**13, device="meta")}
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_torch_file_that_is_no_checkpoint(kind: str, run: Path):
    rewrite(newest(run), OTHERS[kind])
    words = "Expected a checkpoint of a training, but .*step-000000003.ckpt is none"
    for use in (lambda: open_run(run).model_state(), lambda: look(run)):
        with pytest.raises(ValueError, match=words):
            use()
    with pytest.raises(ValueError, match=words):
        evaluate(run)


@pytest.mark.parametrize("name", ["step", "optimizers", "scalers"])
def test_a_checkpoint_that_no_training_can_go_on_from(name: str, run: Path):
    rewrite(newest(run), lambda content: {key: content[key] for key in content if key != name})
    with pytest.raises(ValueError, match=f"can go on from, but .* has no '{name}'"):
        look(run)


def test_a_step_that_was_not_saved(run: Path):
    with pytest.raises(FileNotFoundError, match=r"step-000000001\.ckpt, but there is no such file"):
        look(run, load_step=1)
    with pytest.raises(FileNotFoundError, match="nowhere, but there is no such file"):
        look(run, load_dir=None, load_checkpoint=Path("nowhere"))


@pytest.mark.parametrize(
    "method",
    ["moegs-4dgaussians", "moegs-ex4dgs", "moegs-ed3dgs", "moegs-freetime", "moegs-tracked"],
)
def test_a_checkpoint_of_another_method(method: str, run: Path, scene: Path):
    with pytest.raises(ValueError, match=r"does not fit the method.*own config\.yml") as error:
        resume(run, scene, method)
    assert len(str(error.value).splitlines()) == 1


def test_an_expert_with_the_checkpoint_of_another_method(run: Path, scene: Path):
    rewrite(
        newest(run),
        lambda content: content["pipeline"].pop("_model.expert.gauss_params.motion").sum() and None,
    )
    config = deepcopy(all_methods["moegs-router"])
    config.pipeline.model.experts = (run,)
    with pytest.raises(ValueError, match="The checkpoint of a run that is named does not fit"):
        train_config(config, scene, run.parent, steps=2)
    rewrite(newest(run), lambda content: content["pipeline"].clear())
    with pytest.raises(ValueError, match="Expected the checkpoint of an expert"):
        train_config(config, scene, run.parent, steps=2)


# ---- compact states ----


def encoded() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """A compact state, and its coded entry."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(5000, 3, generator=generator)
    state = encode_state({"expert.gauss_params.means": means})
    yield state, state["expert.gauss_params.means"]


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no shape": lambda entry: entry.pop("shape"),
    "another shape": lambda entry: entry.update(shape=[5001, 3]),
    "a smaller shape": lambda entry: entry.update(shape=[4999, 3]),
    "a shape of nothing": lambda entry: entry.update(shape="abc"),
    "other bits": lambda entry: entry.update(bits=7),
    "a changed byte": lambda entry: entry["codes"].__setitem__(9, entry["codes"][9] ^ 16),
    "cut codes": lambda entry: entry.update(codes=entry["codes"][:-9]),
    "text as codes": lambda entry: entry.update(codes="abc"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_damaged_compact_state(kind: str):
    for state, entry in encoded():
        decode_state(state)
        CHANGES[kind](entry)
        with pytest.raises(ValueError, match="The compact run cannot be decoded"):
            decode_state(state)


def test_codes_that_inflate_without_end():
    """A hundred kilobytes of zeros stand for a hundred megabytes."""
    zeros = torch.frombuffer(bytearray(zlib.compress(bytes(10**8), 9)), dtype=torch.uint8)
    for state, entry in encoded():
        entry.update(codes=zeros, shape=[5000, 3])
        with pytest.raises(ValueError, match="expected 30,000 bytes of codes"):
            decode_state(state)
        entry.update(shape=[5 * 10**7 // 3, 3])
        with pytest.raises(ValueError, match=r"97,\d+ bytes stand for 99,999,9"):
            decode_state(state)


def test_a_whole_run_opens_as_before(run: Path):
    state = model_state(load_checkpoint(newest(run))["pipeline"])
    pipeline: Any = load_pipeline(open_run(run))
    assert torch.equal(
        pipeline.model.expert.gauss_params["means"], state["expert.gauss_params.means"]
    )


# ---- nothing left to train ----


@pytest.mark.parametrize("steps", [4, 3])
def test_a_finished_run_says_so(steps: int, run: Path, scene: Path, capsys):
    """Another folder gets a whole run all the same."""
    again = open_run(resume(run, scene, steps=steps))
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Finished already: 4 steps are trained, of {steps}; for more raise --budget" in printed
    assert "Training Finished" not in printed
    assert again.checkpoint_path.name == newest(run).name
    assert torch.equal(again.model_state()[MEANS[7:]], open_run(run).model_state()[MEANS[7:]])
    assert training_record(again.config_path)["steps"] == 4


def test_a_run_that_was_killed_before_its_record_gets_one(scene: Path, run: Path):
    home = run.parent / "runs" / "moegs-stg" / "first"
    shutil.copytree(run, home)
    (home / "training.json").unlink()
    before = newest(home).stat().st_mtime_ns
    assert not progress_of(home).is_finished
    config = deepcopy(all_methods["moegs-stg"])
    config.load_dir = home / FOLDER
    train_config(config, scene, run.parent, steps=4)
    assert progress_of(home).is_finished
    assert newest(home).stat().st_mtime_ns == before and list(saved_steps(home / FOLDER)) == [2, 3]
