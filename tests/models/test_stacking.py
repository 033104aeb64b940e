"""Routers whose gates are corrected by copies that left cameras out."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mixture_helpers import mixture, views
from nerfstudio.configs.method_configs import all_methods
from tiny import train_config

from benchmarks.quality.stacking_transfer import Samples, StackingTransfer
from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.launch.plan import parse
from moegs_ns.mixture.evidence import measure_evidence
from moegs_ns.mixture.mixture import GateConfig
from moegs_ns.mixture.stacking import FORMS, Correction
from moegs_ns.models import gate_correction
from moegs_ns.models.expert_sources import expert_source
from moegs_ns.models.gate_correction import GROUPS, groups_of, sampled_pixels
from moegs_ns.models.missing_experts import training_template
from moegs_ns.models.mixture_model import MixtureModel, MixtureModelConfig
from moegs_ns.models.stacking import (
    StackingConfig,
    are_copies_trained,
    cameras_to_leave_out,
    copy_training,
    router_of_copies,
)
from moegs_ns.reports.scores import score_run
from moegs_ns.routers import VolumeAwarePixelRouterConfig
from moegs_ns.runs.checkpoint import open_run, training_record
from moegs_ns.scene import FrameTable

METHODS = ("moegs-stg", "moegs-ed3dgs")
LEFT_OUT = (1, 4)
"""Of the training cameras 1 to 5."""
STEPS = 4


@dataclass(frozen=True)
class Runs:
    """Experts, the mixture of their copies, and a router that was corrected by it."""

    scene: Path
    output: Path
    experts: tuple[Path, ...]
    copies: Path
    router: Path
    measured: list[list[int]]
    """Cameras that evidence was measured on, each time."""
    positions: list[float]
    """Whose Gaussians they were that drew them: sums of the first expert's positions."""
    fitted: list[bool]
    """Whether gates were corrected before each step of the router."""


def sum_of_positions(mixture: Any) -> float:
    return float(mixture.experts[0].gauss_params["means"].sum())


def mixture_config(experts: tuple[Path, ...], **options: Any) -> Any:
    config = deepcopy(all_methods["moegs-router"])
    config.pipeline.model.experts = experts
    config.pipeline.model.stacking = StackingConfig(**options)
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    output = tmp_path_factory.mktemp("stacking")
    scene = output / "scene"
    write_demo_scene(scene, num_cameras=6, num_frames=6, width=48, height=36, num_points=500)
    experts = {}
    for name, cameras in (("full", ()), ("copy", LEFT_OUT)):
        for method in METHODS:
            config = deepcopy(all_methods[method])
            config.pipeline.datamanager.val_cameras = cameras
            config.pipeline.model.color_correction = method == METHODS[0]
            experts[name, method] = train_config(config, scene, output, steps=12, name=name)
    config = mixture_config(tuple(experts["copy", method] for method in METHODS))
    config.pipeline.datamanager.val_cameras = LEFT_OUT
    copies = train_config(config, scene, output, steps=STEPS, name="copies")
    full = tuple(experts["full", method] for method in METHODS)
    measured: list[list[int]] = []
    positions: list[float] = []
    fitted: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        measure = gate_correction.measure_evidence

        def spy(mixture: Any, images: Any, *args: Any) -> Any:
            listed = list(images)
            positions.append(sum_of_positions(mixture))
            measured.append(sorted({int(view.camera_ids[0]) for view, _ in listed}))
            return measure(mixture, listed, *args)

        patch.setattr(gate_correction, "measure_evidence", spy)
        render = MixtureModel.training_outputs

        def training_outputs(self: Any, view: Any) -> Any:
            fitted.append(self.mixture.router.correction.is_fitted)
            return render(self, view)

        patch.setattr(MixtureModel, "training_outputs", training_outputs)
        router = train_config(
            mixture_config(full, run=copies), scene, output, steps=STEPS, name="corrected"
        )
    return Runs(scene, output, full, copies, router, measured, positions, fitted)


def test_copies_are_judged_on_what_they_have_not_seen(runs: Runs):
    """Evidence of the copies comes from their own cameras, that of the experts from all."""
    assert runs.measured == [[2, 3, 5], [1, 2, 3, 4, 5]]
    own = [
        sum_of_positions(load_pipeline(open_run(path)).model.mixture)
        for path in (runs.copies, runs.router)
    ]
    assert own[0] != own[1] and runs.positions == pytest.approx(own)
    record = training_record(runs.router)["stacking"]
    assert record["cameras"] == list(LEFT_OUT)
    assert record["form"] in record["psnr"]
    assert record["seconds"] > 0.0 and record["copies_seconds"] > 0.0


def test_gates_are_corrected_after_the_last_step_only(runs: Runs):
    assert runs.fitted == [False] * STEPS


def test_the_corrected_mixture_opens_from_its_run(runs: Runs):
    run = open_run(runs.router)
    model: Any = load_pipeline(run).model
    correction = model.mixture.router.correction
    assert correction.is_fitted and len(correction.bias) == len(METHODS)
    for evidence, expert in zip(correction.evidence, model.mixture.experts, strict=True):
        assert evidence.num_rows == expert.num_gaussians
    camera, _ = load_pipeline(run).datamanager.eval_item(0)
    gates = [
        opened.get_outputs_for_camera(camera)[f"gate_{name}"]
        for opened in (model, load_pipeline(run).model)
        for name in model.config.expert_names
    ]
    assert torch.equal(gates[0], gates[2]) and torch.equal(gates[1], gates[3])
    torch.testing.assert_close(gates[0] + gates[1], torch.ones_like(gates[0]))


def test_pixels_of_every_kind_are_sampled(runs: Runs, tmp_path: Path):
    plain = train_config(
        mixture_config(runs.experts), runs.scene, runs.output, steps=STEPS, name="uncorrected"
    )
    table = StackingTransfer(run=plain, copies=runs.copies, pixels=tmp_path / "pixels.pt")
    assert len(list(table.rows())) == 1 + 5 * len(FORMS)
    sampled = Samples.load(tmp_path / "pixels.pt")
    assert set(sampled.copies_unseen.groups.tolist()) == set(LEFT_OUT)
    assert set(sampled.copies_seen.groups.tolist()) == {2, 3, 5}
    assert set(sampled.seen.groups.tolist()) == {1, 2, 3, 4, 5}
    assert set(sampled.held_out.groups.tolist()) == {0}
    corrected = replace(table, run=runs.router, pixels=tmp_path / "more.pt")
    with pytest.raises(SystemExit, match="not corrected"):
        list(corrected.rows())


def test_tables_say_so(runs: Runs):
    score = score_run(open_run(runs.router))
    assert score.options.endswith("experts stg, ed3dgs, gates corrected by copies")


def test_gates_are_still_corrected_once_they_are_scored(runs: Runs):
    """Speed, flicker and pictures are looked at after the scores, of the same pipeline."""
    pipeline: Any = load_pipeline(open_run(runs.router))
    camera, _ = pipeline.datamanager.eval_item(0)
    before = pipeline.model.get_outputs_for_camera(camera)["gate_stg"]
    pipeline.get_average_eval_image_metrics()
    assert not pipeline.training and pipeline.model.mixture.router.fitted_correction is not None
    assert torch.equal(pipeline.model.get_outputs_for_camera(camera)["gate_stg"], before)
    pipeline.train()
    pipeline.get_average_eval_image_metrics()
    assert pipeline.training, "a training goes on as one"


def test_the_router_itself_is_trained_as_without(runs: Runs):
    plain = train_config(
        mixture_config(runs.experts), runs.scene, runs.output, steps=STEPS, name="plain"
    )
    one, other = (open_run(path).model_state() for path in (plain, runs.router))
    tensors = {name: value for name, value in one.items() if isinstance(value, torch.Tensor)}
    assert "mixture.router.weights.0.w" in tensors
    for name, value in tensors.items():
        assert torch.equal(value, other[name]), name


def test_a_training_that_goes_on_ends_corrected(runs: Runs):
    """The options of the stacking are those of the run that is resumed."""
    config = deepcopy(all_methods["moegs-router"])
    config.load_dir = runs.router.parent / "nerfstudio_models"
    later = train_config(config, runs.scene, runs.output, steps=2 * STEPS, name="later")
    assert training_record(later)["stacking"]["cameras"] == list(LEFT_OUT)
    earlier, later_state = (open_run(path).model_state() for path in (runs.router, later))
    name = "mixture.router.weights.0.w"
    assert not torch.equal(earlier[name], later_state[name])


class TestSampledPixels:
    def test_they_are_what_gates_are_made_of_in_the_colours_of_the_camera(self):
        """Corrected gates from the columns are those of the mixture, blurred as they are."""
        built: Any = mixture(20, 30, router=VolumeAwarePixelRouterConfig(stacked=True)).eval()
        built.gate_config = GateConfig(blur=0.1)
        view = views()[1]
        evidence = measure_evidence(built, [(view, built.render(view).images[0])])
        recorded = SimpleNamespace(recorded=lambda images, view: 0.5 * images)
        pixels = sampled_pixels(
            SimpleNamespace(mixture=built),
            evidence,
            SimpleNamespace(corrections=recorded),
            view,
            torch.zeros(view.height, view.width, 3),
            7,
            torch.Generator().manual_seed(0),
        )
        correction = Correction(
            torch.tensor([0.3, -0.3]), torch.tensor([0.7, -0.4, 0.3, -0.2, 0.5, 0.1])
        )
        built.router.correction.set_(evidence, correction.bias, correction.slopes)
        render = built.render(view)
        chosen = torch.randperm(
            view.height * view.width, generator=torch.Generator().manual_seed(0)
        )[: len(pixels.targets)]
        gates = torch.softmax(correction.logits(pixels.columns) / built.temperature, dim=0)
        torch.testing.assert_close(gates, render.gates.flatten(1)[:, chosen], atol=1e-5, rtol=1e-4)
        expected = 0.5 * render.images.flatten(1, 2)[:, chosen]
        torch.testing.assert_close(pixels.images, expected)
        assert pixels.groups.unique().tolist() == [7]

    @pytest.mark.parametrize("cameras", [1, 2, 5, 30])
    def test_groups_are_cameras_or_neighbours_or_halves_of_the_clip(self, cameras: int):
        ids = torch.arange(cameras + 3).repeat_interleave(4)
        times = torch.arange(4.0).repeat(cameras + 3)
        unseen = ids < cameras
        table = FrameTable(camera_ids=ids, frame_ids=times.long(), times=times)
        groups = groups_of(table, unseen)
        assert bool((groups[~unseen] == -1).all())
        own = groups[unseen]
        assert own.unique().tolist() == list(range(2 if cameras == 1 else min(cameras, GROUPS)))
        if cameras > 1:  # No camera is in two groups.
            assert bool((own.view(cameras, 4) == own.view(cameras, 4)[:, :1]).all())
        else:
            assert own.tolist() == [0, 0, 1, 1]


class TestTrainings:
    def config(self, runs: Runs) -> Any:
        config = mixture_config(runs.experts, cameras=LEFT_OUT)
        config.pipeline.datamanager.data = runs.scene
        config.pipeline.datamanager.val_cameras = (2,)
        config.output_dir, config.experiment_name = runs.output, "runs"
        return config

    @pytest.mark.parametrize(("asked", "given"), [(1e-4, 1e-4), (0.05, None)])
    def test_copies_are_the_experts_without_the_cameras(
        self, runs: Runs, asked: float, given: float | None
    ):
        """For as many steps as are asked, but no more than the expert."""
        config = self.config(runs)
        without = deepcopy(config)
        without.pipeline.datamanager.val_cameras = (1, 2, 4)
        template = training_template(without)
        source = expert_source(str(runs.experts[0]))
        job = copy_training(template, source.runs[0], asked)
        parsed = parse(job.args())
        assert parsed.method_name == METHODS[0]
        assert tuple(parsed.pipeline.datamanager.val_cameras) == (1, 2, 4)
        assert parsed.pipeline.model.color_correction is True
        full = source.runs[0].config
        assert parsed.pipeline.model.budget == (given or full.pipeline.model.budget)
        assert parsed.machine.seed == full.machine.seed
        router = parse(router_of_copies(template, config, [job]).args())
        assert [str(path) for path in router.pipeline.model.experts] == [str(job.config_path)]
        assert tuple(router.pipeline.datamanager.val_cameras) == (1, 2, 4)
        assert router.pipeline.model.stacking.cameras == "none"

    def test_cameras_are_spread_over_those_that_are_trained_on(self, runs: Runs):
        datamanager = self.config(runs).pipeline.datamanager
        assert cameras_to_leave_out(datamanager, (4, 1)) == (1, 4)
        (chosen,) = cameras_to_leave_out(datamanager, "auto")
        assert chosen in (1, 3, 4, 5)
        with pytest.raises(ValueError, match=r"expects training cameras"):
            cameras_to_leave_out(datamanager, (2,))


class TestAuto:
    """Without a word about it, copies are trained where they cost little and can be used."""

    @pytest.mark.parametrize(
        ("budgets", "expected"),
        [((1.0, 1.0), True), ((0.2, 1.0), True), ((0.19, 1.0), False), ((1.0,), False)],
    )
    def test_copies_have_at_most_a_quarter_of_the_steps(
        self, budgets: tuple[float, ...], expected: bool, capsys: pytest.CaptureFixture[str]
    ):
        model = deepcopy(all_methods["moegs-router"]).pipeline.model
        assert are_copies_trained(model, budgets) == expected
        said = " ".join(capsys.readouterr().out.split())
        assert ("more than a quarter of an expert's 0.19" in said) == (budgets[0] == 0.19)

    @pytest.mark.parametrize(("cameras", "expected"), [("none", False), (LEFT_OUT, True)])
    def test_a_word_decides(self, cameras: Any, expected: bool):
        model = MixtureModelConfig(stacking=StackingConfig(cameras))
        assert are_copies_trained(model, [1.0, 1.0]) == expected
        assert are_copies_trained(model, [1e-3]) == expected

    @pytest.mark.parametrize("method", ["moegs-pixel-router", "moegs-volume-router"])
    def test_it_leaves_other_routers_alone(self, method: str):
        model = deepcopy(all_methods[method]).pipeline.model
        model.stacking.check(model)
        assert not are_copies_trained(model, [1.0, 1.0])

    @pytest.mark.parametrize(
        "change", [{"mixture_run": Path("R")}, {"experts": (Path("A+B"), Path("C"))}]
    )
    def test_it_leaves_pruned_mixtures_and_windows_alone(self, change: dict[str, Any]):
        model = replace(MixtureModelConfig(), **change)
        model.stacking.check(model)
        assert not are_copies_trained(model, [1.0, 1.0])

    def test_it_leaves_honest_experts_alone(self):
        model = MixtureModelConfig()
        model.honest = replace(model.honest, cameras="auto")
        model.stacking.check(model)
        assert not are_copies_trained(model, [1.0, 1.0])


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"stacking": StackingConfig("auto", budget=0.0)}, "above 0 and at most 1, got 0"),
            ({"mixture_run": Path("R")}, "expects experts to mix, got --router"),
            ({"experts": (Path("A+B"),)}, "windows joined by"),
        ],
    )
    def test_what_does_not_go_together(self, change: dict[str, Any], words: str):
        model = replace(MixtureModelConfig(stacking=StackingConfig(LEFT_OUT)), **change)
        with pytest.raises(ValueError, match=words):
            model.stacking.check(model)

    def test_routers_without_weights(self):
        model = deepcopy(all_methods["moegs-pixel-router"]).pipeline.model
        model.stacking = StackingConfig(LEFT_OUT)
        with pytest.raises(ValueError, match="train a moegs-router"):
            model.stacking.check(model)

    def test_honest_cameras_as_well(self):
        model = MixtureModelConfig(stacking=StackingConfig(LEFT_OUT))
        model.honest = replace(model.honest, cameras="auto")
        with pytest.raises(ValueError, match="got both"):
            model.stacking.check(model)

    def test_copies_of_other_families(self, runs: Runs):
        config = mixture_config(runs.experts[::-1], run=runs.copies)
        with pytest.raises(ValueError, match=r"ed3dgs, stg in this order, got stg, ed3dgs"):
            train_config(config, runs.scene, runs.output, steps=1, name="swapped")

    def test_copies_that_have_seen_everything(self, runs: Runs):
        config = mixture_config(runs.experts, run=runs.router)
        with pytest.raises(ValueError, match="was trained on all"):
            train_config(config, runs.scene, runs.output, steps=1, name="seen")

    def test_copies_whose_gates_are_corrected(self, runs: Runs):
        opened: Any = open_run(runs.copies)
        opened.config.pipeline.model.router.stacked = True
        pipeline = load_pipeline(open_run(runs.router))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gate_correction, "open_stacking_run", lambda path: opened)
            with pytest.raises(ValueError, match="are corrected; train it without"):
                gate_correction.check_copies(pipeline.model, pipeline.datamanager)

    def test_copies_of_another_scene(self, runs: Runs, tmp_path: Path):
        other = tmp_path / "other"
        write_demo_scene(other, num_cameras=5, num_frames=4, width=48, height=36, num_points=100)
        experts = []
        for method in METHODS:
            config = deepcopy(all_methods[method])
            experts.append(train_config(config, other, tmp_path, steps=1))
        config = mixture_config(tuple(experts), run=runs.copies)
        with pytest.raises(ValueError, match="a mixture of copies"):
            train_config(config, other, tmp_path, steps=1)

    def test_a_run_that_is_no_mixture(self, runs: Runs):
        config = mixture_config(runs.experts, run=runs.experts[0])
        with pytest.raises(ValueError, match=r"stacking\.run"):
            train_config(config, runs.scene, runs.output, steps=1, name="no-mixture")
