"""Contracts of taught runs: any expert learns from a mixture and stays an ordinary expert."""

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from tiny import TinyRuns, train_tiny

from moegs_ns.cameras import view_from_cameras
from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.mixture.distill import DistillationConfig
from moegs_ns.models.base import scene_of
from moegs_ns.models.teacher import Teacher
from moegs_ns.reports.compact_export import write_compact
from moegs_ns.reports.scores import score_run
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.training.losses import TrainingRender

WEIGHTING = "--pipeline.model.distillation.weighting"
LAM = "--pipeline.model.distillation.lam"


def train(runs: TinyRuns, method: str, output: Path, *options: str, name: str = "first") -> Path:
    return train_tiny(method, runs.scene, output, *options, name=name)


def record_of(config: Path) -> dict:
    return json.loads((config.parent / "training.json").read_text())


@pytest.fixture(scope="module")
def taught(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A student of Spacetime Gaussians, and its teacher, which is gone after the training."""
    folder = tmp_path_factory.mktemp("taught")
    teacher = folder / "teacher" / "config.yml"
    shutil.copytree(tiny_runs.router.parent, teacher.parent)
    student = train(tiny_runs, "moegs-stg", folder, "--teacher", str(teacher))
    shutil.rmtree(teacher.parent)
    return student, teacher


def test_a_student_learns_from_teacher_and_gate(tiny_runs: TinyRuns, taught):
    """All images of the training were shown; the result is that of no plain training."""
    report = record_of(taught[0])["distillation"]
    assert report["teacher"] == str(taught[1]) and report["gate"] == "stg"
    assert report["images"] == 2 * 60
    assert 5.0 < report["teacher_psnr"] < 40.0 and 0.0 < report["mean_gate"] < 1.0
    plain = open_run(tiny_runs.config("moegs-stg")).model_state()
    state = open_run(taught[0]).model_state()
    assert set(state) == set(plain), "a student's checkpoint holds nothing of its teacher"
    key = "expert.gauss_params.sh0"
    assert plain[key].shape != state[key].shape or not torch.equal(plain[key], state[key])


def test_a_student_opens_without_its_teacher(tiny_runs: TinyRuns, taught):
    psnr = [
        load_pipeline(open_run(config)).get_average_eval_image_metrics()["psnr"]
        for config in (taught[0], tiny_runs.config("moegs-stg"))
    ]
    assert psnr[0] > psnr[1] - 3.0


def test_a_student_learns_the_colours_of_cameras(tiny_runs: TinyRuns, tmp_path: Path):
    options = ["--teacher", str(tiny_runs.router), "--pipeline.model.color-correction", "True"]
    student = train(tiny_runs, "moegs-stg", tmp_path, *options)
    assert open_run(student).model_state()["corrections.color"].abs().max() > 1e-3
    assert "color correction, gate-weighted teacher" in score_run(open_run(student)).options


def test_a_report_tells_students_from_experts(tiny_runs: TinyRuns, taught):
    student = score_run(open_run(taught[0]))
    assert student.kind == "distilled"
    assert student.options.endswith("gate-weighted teacher, lambda 0.5")
    assert score_run(open_run(tiny_runs.config("moegs-stg"))).kind == "expert"


def test_a_student_is_not_resumed_without_its_teacher(tiny_runs: TinyRuns, taught, tmp_path: Path):
    load = ["--load-dir", str(taught[0].parent / "nerfstudio_models"), "--budget", "0.0025"]
    with pytest.raises(FileNotFoundError, match="needs its teacher until its training is finished"):
        train(tiny_runs, "moegs-stg", tmp_path, *load)
    assert not list(tmp_path.rglob("config.yml"))


def test_full_trust_in_the_truth_is_plain_training(tiny_runs: TinyRuns, tmp_path: Path):
    """Opening and asking a teacher disturbs no random number and no schedule."""
    options = ["--teacher", str(tiny_runs.router), WEIGHTING, "unweighted", LAM, "1"]
    student = open_run(train(tiny_runs, "moegs-stg", tmp_path, *options)).model_state()
    for name, value in open_run(tiny_runs.config("moegs-stg")).model_state().items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(student[name], value, msg=name)


def test_a_resumed_student_goes_on_with_its_teacher(tiny_runs: TinyRuns, taught, tmp_path: Path):
    """It ends where an uninterrupted one does, though nothing is kept of the teacher's images."""
    teacher = ["--teacher", str(tiny_runs.router), "--teacher-cache-gb", "0"]
    half = ["--max-num-iterations", "15000"]
    cut = train(tiny_runs, "moegs-stg", tmp_path, *teacher, *half, name="cut")
    load = ["--load-dir", str(cut.parent / "nerfstudio_models")]
    again = open_run(train(tiny_runs, "moegs-stg", tmp_path, *load, name="again"))
    assert again.config.pipeline.model.distillation.gate == "stg"
    # The record tells of the whole training, as that of one without interruption does.
    report, whole = (record_of(path)["distillation"] for path in (again.config_path, taught[0]))
    assert report["images"] == whole["images"] == 2 * 60
    for name in ("teacher_psnr", "mean_gate"):
        assert report[name] == pytest.approx(whole[name], rel=1e-3)
    resumed = again.model_state()
    for name, value in open_run(taught[0]).model_state().items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(resumed[name], value, msg=name)


@pytest.mark.parametrize(
    ("method", "options", "gate"),
    [
        ("moegs-4dgaussians", (), "4dgaussians"),
        ("moegs-ex4dgs", ("--teacher-gate", "stg"), "stg"),
        ("moegs-ex4dgs", (WEIGHTING, "unweighted"), None),
    ],
)
def test_every_family_can_be_taught(tiny_runs: TinyRuns, tmp_path: Path, method, options, gate):
    """Ex4DGS is no part of the teacher: it is taught without gates, or by a gate that is named."""
    teacher = ["--teacher", str(tiny_runs.router), "--budget", "0.0005"]
    report = record_of(train(tiny_runs, method, tmp_path, *teacher, *options))["distillation"]
    assert report["gate"] == gate and (report["mean_gate"] is None) == (gate is None)
    assert report["images"] > 0 and report["teacher_psnr"] > 5.0


def test_targets_are_what_the_teacher_shows(tiny_runs: TinyRuns):
    """Image and gate of a training view, to 8 bits."""
    pipeline = load_pipeline(open_run(tiny_runs.router))
    cameras, batch = pipeline.datamanager.next_train(0)
    outputs = pipeline.model.get_outputs_for_camera(cameras)
    config = DistillationConfig(teacher=tiny_runs.router, gate="stg")
    view = view_from_cameras(cameras)
    target, indices = batch["image"].float(), batch["image_idx"]
    part = Mock(spec=TrainingRender, view=view, target=target, indices=indices)
    targets = Teacher(config, scene_of(pipeline.model.kwargs))(part)
    close = {"atol": 0.5 / 255 + 1e-6, "rtol": 0}
    torch.testing.assert_close(targets.image[0], outputs["rgb"].clamp(0, 1), **close)
    assert targets.gate is not None
    torch.testing.assert_close(targets.gate[0], outputs["gate_stg"], **close)


def test_a_compact_mixture_teaches_as_well(tiny_runs: TinyRuns, tmp_path: Path):
    """It has no state of its own training, which nobody asks a teacher for."""
    write_compact(open_run(tiny_runs.router), tmp_path / "compact", measure=False)
    options = ["--teacher", str(tmp_path / "compact"), "--budget", "0.0002"]
    report = record_of(train(tiny_runs, "moegs-stg", tmp_path, *options))["distillation"]
    assert report["images"] == 2 * 6 and report["teacher_psnr"] > 5.0


class TestMessages:
    def fail(
        self,
        runs: TinyRuns,
        output: Path,
        match: str,
        *options: str,
        kind: type[Exception] = ValueError,
        **kw,
    ):
        method = kw.pop("method", "moegs-stg")
        with pytest.raises(kind, match=match):
            train_tiny(method, kw.pop("scene", runs.scene), output, *options, **kw)

    def test_a_teacher_that_is_not_there(self, tiny_runs: TinyRuns, tmp_path: Path):
        missing = ["--teacher", str(tmp_path / "nowhere" / "config.yml")]
        match = "Expected a trained mixture to distil from.*nowhere"
        self.fail(tiny_runs, tmp_path, match, *missing, kind=FileNotFoundError)
        assert not list(tmp_path.rglob("config.yml"))

    def test_a_teacher_that_is_no_mixture(self, tiny_runs: TinyRuns, tmp_path: Path):
        expert = ["--teacher", str(tiny_runs.config("moegs-stg"))]
        self.fail(tiny_runs, tmp_path, "run of a mixture in --teacher.*'moegs-stg'", *expert)

    def test_a_family_that_the_teacher_lacks(self, tiny_runs: TinyRuns, tmp_path: Path):
        teacher = ["--teacher", str(tiny_runs.router)]
        match = r"family \(Ex4DGSExpert\).*mixes stg, 4dgaussians; name the gate"
        self.fail(tiny_runs, tmp_path, match, *teacher, method="moegs-ex4dgs")

    def test_a_gate_that_the_teacher_lacks(self, tiny_runs: TinyRuns, tmp_path: Path):
        options = ["--teacher", str(tiny_runs.router), "--teacher-gate", "sgt"]
        match = r"one of the teacher's experts \(stg, 4dgaussians\), got 'sgt'"
        self.fail(tiny_runs, tmp_path, match, *options)

    def test_several_experts_of_the_family(self, tiny_runs: TinyRuns, tmp_path: Path):
        twice = [str(tiny_runs.config("moegs-stg"))] * 2
        teacher = train(
            tiny_runs, "moegs-router", tmp_path, "--experts", *twice, "--budget", "0.0004"
        )
        options = ["--teacher", str(teacher)]
        match = r"several experts of the student's family \(stg, stg_2\)"
        self.fail(tiny_runs, tmp_path / "out", match, *options)
        named = [*options, "--teacher-gate", "stg_2", "--budget", "0.0002"]
        student = train(tiny_runs, "moegs-stg", tmp_path / "out", *named)
        assert record_of(student)["distillation"]["gate"] == "stg_2"

    def test_a_gate_without_a_teacher_or_weights(self, tiny_runs: TinyRuns, tmp_path: Path):
        self.fail(tiny_runs, tmp_path, "there is none; add --teacher", "--teacher-gate", "stg")
        options = ["--teacher", str(tiny_runs.router), "--teacher-gate", "stg"]
        options += [WEIGHTING, "unweighted"]
        self.fail(tiny_runs, tmp_path, "leave one of the two options out", *options)

    @pytest.mark.parametrize("lam", ["1.5", "-0.1"])
    @pytest.mark.parametrize("option", ["lam", "final-lam"])
    def test_a_share_out_of_range(self, tiny_runs: TinyRuns, tmp_path: Path, option, lam):
        options = [f"--pipeline.model.distillation.{option}", lam]
        options += ["--teacher", str(tiny_runs.router)]
        match = f"fraction of the ground truth between 0 and 1, got {lam}; change .*{option}"
        self.fail(tiny_runs, tmp_path, match, *options)

    def test_corrected_poses(self, tiny_runs: TinyRuns, tmp_path: Path):
        options = ["--pipeline.model.camera-optimizer.mode", "SO3xR3"]
        options += ["--teacher", str(tiny_runs.router)]
        self.fail(tiny_runs, tmp_path, "this training corrects that anew", *options)

    def test_a_teacher_of_another_scene(self, tiny_runs: TinyRuns, tmp_path: Path):
        write_demo_scene(tmp_path / "s", num_cameras=4, num_frames=6, width=48, height=36)
        options = ["--teacher", str(tiny_runs.router)]
        match = "a teacher of this scene.*moegs-router.* was trained on another"
        self.fail(tiny_runs, tmp_path, match, *options, scene=tmp_path / "s")

    def test_a_teacher_of_other_frames(self, tiny_runs: TinyRuns, tmp_path: Path):
        options = ["--teacher", str(tiny_runs.router)]
        match = "a teacher of this clip of 3 frames.*moegs-router.* was trained on 6"
        frames = ["--frames", "0", "2"]
        self.fail(tiny_runs, tmp_path, match, *options, parser_options=frames)

    def test_a_teacher_of_another_resolution(self, tiny_runs: TinyRuns, tmp_path: Path):
        options = ["--teacher", str(tiny_runs.router)]
        match = "images of 24x18 pixels, but .* was trained on 48x36"
        half = ["--downscale-factor", "2"]
        self.fail(tiny_runs, tmp_path, match, *options, parser_options=half)
