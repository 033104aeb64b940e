"""What nerfstudio's commands are refused, told or given beside their options, for runs of ours."""

import json
import os
import socket
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from tiny import TinyRuns

from moegs_ns.engine.trainer import at_budget
from moegs_ns.launch.cli_args import replaced_argv, run_nerfstudio
from moegs_ns.launch.nerfstudio_commands import check_command, with_local_viewer

OURS = "!!python/object:moegs_ns.engine.trainer.MoegsTrainerConfig\n"
THEIRS = "!!python/object:nerfstudio.engine.trainer.TrainerConfig\n"


def frames(*times: float | None) -> list[dict[str, Any]]:
    pose = torch.eye(4).flatten().tolist()
    known = [{} if time is None else {"render_time": time} for time in times]
    return [{"camera_to_world": pose, "fov": 50.0, "aspect": 1.0, **time} for time in known]


def camera_path(folder: Path, times: tuple[float | None, ...], **content: Any) -> list[str]:
    path = folder / "path.json"
    whole = {"render_width": 24, "render_height": 18, "seconds": 1.0, "camera_path": frames(*times)}
    path.write_text(json.dumps(whole | content))
    return ["ns-render", "camera-path", "--camera-path-filename", str(path)]


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (["exporter", "gaussian-splat"], "Gaussians that stand still.*moegs fuse RUN --output"),
        (["exporter", "pointcloud"], "a model of rays.*moegs fuse RUN --output"),
        (["exporter", "tsdf"], "a model of rays"),
        (["exporter", "poisson"], "a model of rays"),
        (["exporter", "marching-cubes"], "a model of rays"),
        (["render", "spiral"], "a datamanager of rays.*moegs render RUN path:spiral"),
    ],
)
def test_commands_that_cannot_work_say_what_does(
    tiny_runs: TinyRuns, tmp_path: Path, words, instead
):
    script, kind = words
    output = ["--output-dir", str(tmp_path / "out")] if script == "exporter" else []
    with pytest.raises(ValueError, match=f"^{kind} expects {instead}"):
        run_nerfstudio(script, [kind, "--load-config", str(tiny_runs.router), *output])


@pytest.mark.parametrize("kind", ["fisheye", "Equirectangular", "omnidirectional", "VR180"])
def test_a_path_of_other_cameras_is_refused_before_anything_is_loaded(tmp_path: Path, kind: str):
    with pytest.raises(ValueError, match=f"camera type {kind}.*choose the type Perspective"):
        check_command(camera_path(tmp_path, (0.0, 1.0), camera_type=kind))


def test_frames_without_a_time_are_counted(tmp_path: Path):
    with pytest.raises(ValueError, match=r"but 2 of 4 have none, the first one number 1; add"):
        check_command(camera_path(tmp_path, (0.0, None, None, 1.0)))
    check_command(camera_path(tmp_path, (0.0, 0.5, 1.0)))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"camera_path": []}'])
def test_a_file_that_is_no_path(tmp_path: Path, content: str):
    words = camera_path(tmp_path, (0.0,))
    Path(words[-1]).write_text(content)
    with pytest.raises(ValueError, match=r"Expected a camera path, .* is none"):
        check_command(words)


def test_key_frames_whose_time_stands_still_are_mentioned(tmp_path: Path, capfd):
    keys = [{"override_time_enabled": False, "render_time": 0.0}] * 2
    check_command(camera_path(tmp_path, (0.0,) * 5, keyframes=keys))
    assert "All 5 frames of" in (said := capfd.readouterr().out) and "Override Time" in said
    moving = [{"override_time_enabled": True, "render_time": time} for time in (0.0, 1.0)]
    check_command(camera_path(tmp_path, (0.0, 0.5, 1.0), keyframes=moving))
    frozen = [{"override_time_enabled": True, "render_time": 0.5}] * 2
    check_command(camera_path(tmp_path, (0.5,) * 3, keyframes=frozen))
    check_command(camera_path(tmp_path, (0.5,) * 3, keyframes=[]))
    assert capfd.readouterr().out == ""


class TestViewer:
    """It has no password, so it serves this machine alone unless it is told otherwise."""

    @pytest.mark.parametrize("method", [m for m in all_methods if m.startswith("moegs-")])
    def test_trainings_do(self, method: str):
        assert all_methods[method].viewer.websocket_host == "127.0.0.1"

    @pytest.mark.parametrize(
        ("content", "options", "added"),
        [
            (OURS, [], ["--viewer.websocket-host", "127.0.0.1"]),
            (OURS, ["--viewer.websocket-host", "0.0.0.0"], []),
            (OURS, ["--viewer.websocket_host=0.0.0.0"], []),
            (THEIRS, [], []),
        ],
    )
    def test_finished_runs_do(self, tmp_path: Path, content: str, options, added):
        (tmp_path / "config.yml").write_text(content)
        words = ["--load-config", str(tmp_path / "config.yml"), *options]
        for command in ("/bin/ns-viewer", "/site/nerfstudio/scripts/viewer/run_viewer.py"):
            with replaced_argv([command, *words]):
                assert with_local_viewer(sys.argv) == [command, *words, *added]
        with replaced_argv(["/bin/ns-eval", *words]):
            assert with_local_viewer(sys.argv) == ["/bin/ns-eval", *words]

    @pytest.mark.slow
    def test_it_listens_where_it_says(self, tiny_runs: TinyRuns):
        words = ["--load-config", str(tiny_runs.router), "--viewer.websocket-port", "7423"]
        server = subprocess.Popen(
            [sys.executable, "-m", "nerfstudio.scripts.viewer.run_viewer", *words],
            env=os.environ, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        listening: set[str] = set()
        try:
            for _ in range(120):
                listening = listening or addresses_of(7423)
                time.sleep(0.0 if listening else 1.0)
            assert listening == {"127.0.0.1"}
        finally:
            server.kill()
            server.wait()


def addresses_of(port: int) -> set[str]:
    """Where somebody listens on a port, by Linux's table of sockets."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        host, number = local.split(":")
        if state == "0A" and int(number, 16) == port:
            found.add(socket.inet_ntoa(bytes.fromhex(host)[::-1]))
    return found


@pytest.mark.parametrize(
    ("budget", "asked", "interval"),
    [(1.0, 1000, 1000), (0.5, 1000, 1000), (0.02, 1000, 60), (0.02, 0, 0), (0.02, 50, 50)],
)
def test_a_short_training_evaluates_images_too(budget: float, asked: int, interval: int):
    config: Any = deepcopy(all_methods["moegs-stg"])
    config.steps_per_eval_image, config.pipeline.model.budget = asked, budget
    assert at_budget(config).steps_per_eval_image == interval
    assert config.steps_per_eval_image == asked
