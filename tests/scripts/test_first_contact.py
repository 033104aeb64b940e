"""What the demo says at its end, what a run says of itself, and how one looks at it."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tiny import TinyRuns

from moegs_ns.scripts import browser, info, stages
from moegs_ns.scripts.browser import has_browser, open_page
from moegs_ns.scripts.demo import Demo
from moegs_ns.scripts.info import Info, View
from moegs_ns.scripts.stages import Stages


def said(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


class TestDemo:
    @pytest.mark.parametrize("opens", [True, False])
    def test_it_ends_by_saying_what_to_open(self, tmp_path: Path, monkeypatch, capsys, opens):
        opened: list[Path] = []
        monkeypatch.setattr(
            "moegs_ns.scripts.demo.open_page", lambda path: opened.append(path) or True
        )
        demo = Demo(tmp_path, open=opens)
        demo.say_what_to_open(tmp_path / "results.html", tmp_path / "runs/r", 200.0)
        text = said(capsys)
        assert text.startswith("Done in 3 min. Look at it:")
        assert f"report {tmp_path}/results.html" in text
        assert f"moegs view {tmp_path}/runs/r" in text and "orbit.mp4" in text
        assert opened == ([tmp_path / "results.html"] if opens else [])
        assert ("opened in the browser" in text) == opens


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "w"}, "linux", True),
        ({}, "linux", False),
        ({}, "darwin", True),
        ({"DISPLAY": ":0", "CI": "true"}, "linux", False),
        ({"DISPLAY": ":10", "SSH_CONNECTION": "a b"}, "linux", False),
    ],
)
def test_a_page_opens_where_somebody_looks(environment, platform, expected):
    assert has_browser(environment, platform) == expected


def test_nothing_opens_without_a_display(monkeypatch, tmp_path: Path):
    opened: list[str] = []
    monkeypatch.setattr(browser.webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr(browser, "has_browser", lambda environment: False)
    assert not open_page(tmp_path / "a.html") and not opened
    monkeypatch.setattr(browser, "has_browser", lambda environment: True)
    assert open_page(tmp_path / "a.html") and opened[0].startswith("file:///")


class TestStages:
    def test_what_a_training_prints_goes_to_its_log(self, tmp_path: Path, capsys):
        counted = Stages(2)
        with counted.stage("STG", tmp_path / "run/log.txt"):
            sys.stdout.write("many\nlines\n")
        with counted.stage("videos"):
            sys.stdout.write("seen\n")
        text = capsys.readouterr().out
        assert "many" not in text and "seen" in text
        assert text.startswith("1/2  STG") and "2/2  videos" in text
        assert (tmp_path / "run/log.txt").read_text() == "many\nlines\n"

    def test_its_steps_move_a_bar(self, tmp_path: Path):
        console = Console(file=io.StringIO(), force_terminal=True)
        with stages._bar(console, "1/2  STG") as bar, (tmp_path / "log").open("w") as file:
            log = stages.TrainingLog(file, bar)
            log.write("a config: (99.00%)\n")
            assert bar.tasks[0].completed == 0.0
            log.write("150 (37.50%)         20.1 ms   8 s\n")
            assert bar.tasks[0].completed == 37.5

    def test_a_failure_leaves_the_log(self, tmp_path: Path):
        with pytest.raises(ValueError, match="why"), Stages(1).stage("STG", tmp_path / "log.txt"):
            sys.stdout.write("before\n")
            raise ValueError("why")
        assert (tmp_path / "log.txt").read_text() == "before\n"


class TestInfo:
    def test_a_mixture(self, tiny_runs: TinyRuns, capsys):
        Info(tiny_runs.router.parent).main()
        text = said(capsys)
        for part in (
            "method moegs-router", "experts stg (", "4dgaussians (", "frames 6", "steps 50",
            "training cameras 5 of 48 x 36 pixels, 12 frames per second", "step-000000049.ckpt",
            "device cpu", "router VolumeAwarePixelRouter",
        ):  # fmt: skip
            assert part in text, (part, text)
        assert f"moegs view {tiny_runs.router.parent} shows it" in text

    def test_a_run_without_its_data(self, tiny_runs: TinyRuns, capsys, monkeypatch):
        def gone(config):
            raise FileNotFoundError("There is no scene; look")

        monkeypatch.setattr(info, "read_rig", gone)
        Info(tiny_runs.config("moegs-stg")).main()
        text = said(capsys)
        assert "cannot be read (There is no scene)" in text and "experts" not in text


class TestView:
    def test_it_serves_this_machine(self, tiny_runs: TinyRuns, monkeypatch, capsys):
        given: list[list[str]] = []
        monkeypatch.setattr(
            info, "run_nerfstudio", lambda script, args: given.append([script, *args])
        )
        View(tiny_runs.router.parent, port=7100).main()
        assert given == [
            ["viewer.run_viewer", "--load-config", str(tiny_runs.router),
             "--viewer.websocket-port", "7100", "--viewer.websocket-host", "127.0.0.1"]
        ]  # fmt: skip
        assert "Open http://localhost:7100" in said(capsys)

    def test_mistakes(self, tmp_path: Path):
        with pytest.raises(ValueError, match="--port expects a number from 1 to 65535, got 0"):
            View(tmp_path, port=0).main()
        with pytest.raises(FileNotFoundError, match=r"there is no file .*config\.yml"):
            View(tmp_path).main()
