"""Figures of a report on inputs whose figures are known by hand."""

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from mixture_helpers import SCENE
from mixture_helpers import mixture as toy_mixture
from nerfstudio.configs.method_configs import all_methods

from moegs_ns.data.datamanager import MoegsDataManager
from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.evaluation.image_metrics import image_metrics, scalar_psnr
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.models.expert_model import ExpertModel, ExpertModelConfig
from moegs_ns.models.mixture_model import MixtureModel, MixtureModelConfig
from moegs_ns.reports import scores
from moegs_ns.reports.scores import score_run
from moegs_ns.runs.checkpoint import Run
from moegs_ns.runs.stored_responsibilities import StoredResponsibilities
from moegs_ns.scene import InitialPoints

METRICS = {
    "psnr": 30.0, "psnr_std": 2.0, "psnr_dynamic": 25.0, "ssim": 0.9, "lpips_alex": 0.05,
    "ms_ssim": 0.97, "ssim_padded": 0.91, "dssim1": 0.045,
}  # fmt: skip
MIXTURE_METRICS = METRICS | {
    "psnr_stg": 28.5, "psnr_ex4dgs": 29.25, "psnr_average": 29.5, "psnr_constant": 29.75,
    "psnr_oracle": 33.0, "psnr_oracle_4": 32.0, "psnr_oracle_16": 31.0, "psnr_oracle_32": 30.5,
}  # fmt: skip


class Clock:
    """A clock that stands still but while something is rendered."""

    def __init__(self, seconds: list[float]) -> None:
        self.now, self.seconds, self.rendered = 100.0, seconds, 0

    def render(self, camera: Any) -> None:
        self.now += self.seconds[self.rendered % len(self.seconds)]
        self.rendered += 1


class Cameras:
    """So many cameras, each of which is its number."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers

    def to(self, device: Any) -> "Cameras":
        return self

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> "Cameras":
        return Cameras(self.numbers[rows])


class Dataset(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.cameras)


def expert_model() -> Any:
    model = Mock(spec=ExpertModel)
    model.expert = STGExpertConfig().setup(
        scene=SCENE, points=InitialPoints(torch.rand(4, 3), torch.rand(4, 3))
    )
    model.config = ExpertModelConfig()
    return model


def mixture_model() -> Any:
    model = Mock(spec=MixtureModel)
    model.mixture = toy_mixture(3, 2)
    model.config = MixtureModelConfig(expert_names=("stg", "ex4dgs"))
    model.responsibilities = StoredResponsibilities()
    return model


def run_of(model: Any) -> Any:
    run = Mock(spec=Run)
    run.config = deepcopy(all_methods["moegs-stg"])
    run.config_path = Path("runs/moegs-stg/first/config.yml")
    run.config.machine.seed = 3
    run.config.pipeline.model = model.config
    run.config.pipeline.datamanager.dataparser.frames = (0, 9)
    return run


def scored(
    model: Any, metrics: dict[str, float], clock: Clock, monkeypatch, images: int = 6
) -> scores.Score:
    """The score of a run whose model renders as the clock says."""
    monkeypatch.setattr(scores.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(scores, "training_record", lambda path: {"seconds": 12.5})
    model.get_outputs_for_camera = clock.render
    pipeline = Mock(spec=MoegsPipeline)
    pipeline.model, pipeline.device = model, "cpu"
    pipeline.get_average_eval_image_metrics.return_value = metrics | {"images": images}
    pipeline.datamanager = Mock(spec=MoegsDataManager)
    pipeline.datamanager.eval_dataset = Dataset(cameras=Cameras(list(range(images))))
    return score_run(run_of(model), pipeline)


def test_frames_per_second_are_those_of_the_median_render(monkeypatch):
    """Renders of 40 ms are 25 a second; slow first ones are not counted, nor one slow later."""
    warm_up, timed = [3.0] * 6, [0.04, 0.04, 0.04, 9.0, 0.04, 0.04]
    score = scored(expert_model(), METRICS, Clock(warm_up + timed), monkeypatch)
    assert score.fps == pytest.approx(25.0)


def test_at_most_so_many_renders_are_timed(monkeypatch):
    clock = Clock([5.0] * 8 + [0.01] * 30)
    score = scored(expert_model(), METRICS, clock, monkeypatch, images=300)
    assert clock.rendered == 8 + 30 and score.fps == pytest.approx(100.0)


def test_megabytes_are_all_parameters_and_buffers(monkeypatch):
    """4 Gaussians of 74 numbers (3 + 4 + 3 + 1 + 48 + 9 + 4 + 1 + 1) in 4 bytes; 11 numbers about
    the scene in 4 and one in 8; a megabyte is a million bytes."""
    score = scored(expert_model(), METRICS, Clock([0.1]), monkeypatch)
    assert score.mb == pytest.approx((4 * 74 * 4 + 11 * 4 + 8) / 1e6, rel=1e-9)
    assert score.gaussians == 4


def test_figures_are_passed_on_as_they_were_measured(monkeypatch):
    found = METRICS | {"psnr_dynamic_images": 4}
    score = scored(expert_model(), found, Clock([0.1]), monkeypatch)
    assert score.images_dynamic == 4 and score.run == "runs/moegs-stg/first"
    assert (score.psnr, score.psnr_std, score.psnr_dynamic, score.ssim) == (30.0, 2.0, 25.0, 0.9)
    assert (score.lpips, score.ms_ssim, score.ssim_padded, score.dssim1) == (
        0.05,
        0.97,
        0.91,
        0.045,
    )
    assert score.recipe == "defaults"
    assert (score.train_seconds, score.images, score.seed) == (12.5, 6, 3)
    assert score.kind == "expert" and score.psnr_best_expert is None
    assert "frames 0-9" in score.options and "budget 1" in score.options


def test_a_mixture_is_beside_its_best_expert_blends_and_bounds(monkeypatch):
    score = scored(mixture_model(), MIXTURE_METRICS, Clock([0.1]), monkeypatch)
    assert score.kind == "mixture" and score.gaussians == 5
    assert score.psnr_best_expert == 29.25
    names = ("average", "constant", "oracle", "oracle_4", "oracle_16", "oracle_32")
    found = {f"psnr_{name}": getattr(score, f"psnr_{name}") for name in names}
    assert found == {name: MIXTURE_METRICS[name] for name in found}


def flat_image(value: float, size: int = 12) -> torch.Tensor:
    return torch.full((size, size, 3), value)


@pytest.mark.parametrize(
    ("value", "truth", "decibels"),
    [
        # Rounded to 130, two steps of 8 bits away; as floats it would be 1.6 steps.
        (129.6 / 255, 128, 20 * math.log10(255 / 2)),
        (128.4 / 255, 127, 20 * math.log10(255)),
        # Clamped to 255 and 0.
        (1.7, 254, 20 * math.log10(255)),
        (-0.4, 2, 20 * math.log10(255 / 2)),
    ],
)
def test_psnr_is_that_of_clamped_images_in_eight_bits(value: float, truth: int, decibels: float):
    batch = {"image": torch.full((12, 12, 3), truth, dtype=torch.uint8)}
    batch["is_moving"] = torch.ones(12, 12, 1, dtype=torch.bool)
    metrics, target = image_metrics(flat_image(value), batch)
    assert metrics["psnr"] == pytest.approx(decibels, abs=1e-3)
    assert metrics["psnr_dynamic"] == pytest.approx(decibels, abs=1e-3)
    torch.testing.assert_close(target, flat_image(truth / 255))


def test_psnr_of_moving_pixels_is_theirs_alone():
    batch = {"image": torch.zeros(12, 12, 3), "is_moving": torch.zeros(12, 12, 1).bool()}
    image = flat_image(0.2)
    image[:6] = 0.4
    batch["is_moving"][:6] = True
    metrics, _ = image_metrics(image, batch)
    assert metrics["psnr"] == pytest.approx(10.0, abs=1e-3)  # mean of 0.04 and 0.16
    assert metrics["psnr_dynamic"] == pytest.approx(-10 * math.log10(0.16), abs=1e-3)


def test_psnr_in_logs_is_of_clamped_images():
    assert float(scalar_psnr(flat_image(1.5), flat_image(0.9))) == pytest.approx(20.0, abs=1e-3)
    assert float(scalar_psnr(flat_image(-0.5), flat_image(0.1))) == pytest.approx(20.0, abs=1e-3)
    assert float(scalar_psnr(flat_image(0.3), flat_image(0.4))) == pytest.approx(20.0, abs=1e-3)


def test_ssim_of_flat_images_is_their_luminance():
    """(2ab + C1) / (a² + b² + C1), C1 = 0.01², as both have no structure."""
    batch = {"image": torch.full((12, 12, 3), 0.2)}
    metrics, _ = image_metrics(flat_image(0.6), batch)
    expected = (2 * 0.6 * 0.2 + 1e-4) / (0.36 + 0.04 + 1e-4)
    assert metrics["ssim"] == pytest.approx(expected, abs=1e-4)


def test_a_missing_figure_says_why(monkeypatch):
    metrics = METRICS | {"psnr_dynamic": math.nan}
    del metrics["lpips_alex"]
    score = scored(expert_model(), metrics, Clock([0.1]), monkeypatch)
    for name in ("lpips", "psnr_dynamic", "psnr_best_expert", "expert_seconds"):
        assert name in score.reason
    whole = replace(score, psnr_dynamic=20.0)
    assert "psnr_dynamic" not in scores._missing(whole)


def test_the_printed_table_has_lpips_where_it_was_measured_and_average_and_oracle(
    monkeypatch, capsys
):
    score = scored(mixture_model(), MIXTURE_METRICS, Clock([0.1]), monkeypatch)
    scores.print_scores([score])
    text = " ".join(capsys.readouterr().out.split())
    assert "0.9000 0.0500 5" in text and "lpips" in text
    assert "30.00 29.25 29.50 29.75 30.50 31.00 32.00 33.00" in text
    scores.print_scores([replace(score, lpips=None)])
    assert " lpips " not in " ".join(capsys.readouterr().out.split())
