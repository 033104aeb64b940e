"""How the `moegs` command ends: in one sentence, without other packages' warnings before it."""

import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
from training_helpers import TEMPLATE

from moegs_ns.errors import (
    IMPORT_WARNINGS,
    hide_warnings_of_nerfstudio,
    one_sentence_errors,
    print_own_sentences,
    quiet_imports,
)
from moegs_ns.launch import jobs as trainings
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.launch.executors import LocalExecutor
from moegs_ns.runs.checkpoint import find_config, read_config
from moegs_ns.scripts import main as command


@pytest.fixture(autouse=True)
def without_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """As users have it; the other tests look at the errors themselves."""
    monkeypatch.delenv("MOEGS_TRACEBACK", raising=False)


def ended(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that fails prints on its way out."""
    with replaced_argv(["moegs", *words]), pytest.raises(SystemExit) as exit_status:
        command.main()
    assert exit_status.value.code == 1
    return capsys.readouterr().err


def test_what_nerfstudio_uses_of_torch_is_no_news_to_who_trains():
    """By the module that is blamed; our own warnings, and others', are shown."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        hide_warnings_of_nerfstudio()
        for module in ("nerfstudio.engine.trainer", "nerfstudio.utils.writer", "moegs_ns.scene"):
            for category in IMPORT_WARNINGS:
                warnings.warn_explicit(f"{module} {category}", category, "file.py", 1, module)
    assert len(shown) == len(IMPORT_WARNINGS)
    assert all(str(each.message).startswith("moegs_ns.scene") for each in shown)


def test_a_mistake_ends_in_one_sentence(capsys):
    expected = "Error: Expected the config.yml of a trained run or its folder, got 'nope'.\n"
    assert ended(capsys, "report", "nope") == expected


def test_a_long_path_stays_whole_and_brackets_are_no_style(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = f"[red]/{'folder/' * 30}config.yml"
    assert f"but there is no file {path}; check the path" in ended(capsys, "report", path)


def test_the_traceback_is_shown_on_demand(monkeypatch):
    monkeypatch.setenv("MOEGS_TRACEBACK", "1")
    with replaced_argv(["moegs", "report", "nope"]), pytest.raises(ValueError, match="got 'nope'"):
        command.main()


@pytest.mark.parametrize("error", [OSError("a"), ImportError("a"), RuntimeError("a")])
def test_what_other_packages_say_comes_with_a_way_to_know_more(error, capsys):
    """Its sentence was not written for users, so it may not be enough."""
    with pytest.raises(SystemExit), one_sentence_errors():
        raise error
    first, second = capsys.readouterr().err.splitlines()
    assert first == "Error: a"
    assert second == "MOEGS_TRACEBACK=1 in the environment shows where this came from."


def test_an_error_without_words_is_named(capsys):
    with pytest.raises(SystemExit), one_sentence_errors():
        raise RuntimeError
    assert "Error: RuntimeError" in capsys.readouterr().err


def test_faults_of_ours_keep_their_traceback():
    with pytest.raises(AssertionError), one_sentence_errors():
        raise AssertionError("never")


def test_nerfstudios_commands_end_our_mistakes_in_a_sentence(capsys, monkeypatch):
    """And what others raise as they always did, also if it is of the same kind."""
    for raises, is_ours in ((lambda: read_config(Path("nowhere")), False), (no_run, True)):
        with pytest.raises((ValueError, OSError)) as raised:
            raises()
        print_own_sentences(raised.type, raised.value, raised.tb)
        text = capsys.readouterr().err
        assert text.startswith("Error: Expected the config.yml of a trained run") == is_ours
        assert ("Traceback" in text) != is_ours
    monkeypatch.setenv("MOEGS_TRACEBACK", "1")
    print_own_sentences(raised.type, raised.value, raised.tb)
    assert "Traceback" in capsys.readouterr().err


def no_run() -> None:
    find_config(Path("nope"))


def test_a_failed_training_ends_with_the_end_of_its_log(tmp_path: Path, monkeypatch, capsys):
    def fail(words, place: int, log: Path | None, variables: Mapping[str, str]) -> int:
        assert log is not None
        log.write_text("[step 3]\nValueError: Expected a scene.\n")
        return 1

    monkeypatch.setattr(trainings, "run_module", fail)
    training = trainings.replace(TEMPLATE, output_dir=tmp_path)
    with pytest.raises(SystemExit), one_sentence_errors():
        LocalExecutor().train_all([training])
    text = capsys.readouterr().err
    assert text.startswith(f"Error: Training {training.method} in {training.folder} stopped")
    assert text.endswith("ends with\n[step 3]\nValueError: Expected a scene.\n\n")


def test_only_imports_are_quiet():
    def told(category: type[Warning]) -> list[str]:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with quiet_imports():
                warnings.warn("while importing", category, stacklevel=1)
            warnings.warn("later", category, stacklevel=1)
        return [str(each.message) for each in seen]

    for category in IMPORT_WARNINGS:
        assert told(category) == ["later"]
    assert told(ResourceWarning) == ["while importing", "later"]


def test_filters_that_packages_add_on_import_stay():
    with warnings.catch_warnings():
        with quiet_imports():
            warnings.filterwarnings("ignore", message="added on import")
        assert any("added on import" in str(each) for each in warnings.filters)


@pytest.mark.slow
def test_nothing_is_printed_before_the_sentence():
    done = subprocess.run(
        [sys.executable, "-m", "moegs_ns.scripts.main", "report", "nope"],
        capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == (
        "Error: Expected the config.yml of a trained run or its folder, got 'nope'.\n"
    )
