"""Compact runs: what they save, what they cost, and that everything opens them."""

import errno
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.utils.eval_utils import eval_setup
from tiny import TinyRuns, train_tiny, working_directory
from tolerances import EXACT
from torch import Tensor
from torchvision.io import read_image, write_png

from benchmarks.speed.compact_run import Compare, Write
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.experts.base import Expert
from moegs_ns.launch.cli_args import replaced_argv, run_nerfstudio
from moegs_ns.mixture.mixture import Mixture
from moegs_ns.reports.compact_export import measured_size, render_views
from moegs_ns.routers import VolumeAwarePixelRouterConfig
from moegs_ns.runs import compact
from moegs_ns.runs.checkpoint import load_checkpoint, open_run
from moegs_ns.runs.compact import decode_state, encode_state
from moegs_ns.scene import InitialPoints, SceneInfo
from moegs_ns.scripts import main as command
from moegs_ns.scripts.export import Export
from moegs_ns.scripts.render import Render
from moegs_ns.scripts.report import Report

METHODS = ("moegs-stg", "moegs-4dgaussians", "moegs-router")
EXPERTS = METHODS[:2]
MEANS = "expert.gauss_params.means"


@pytest.fixture(scope="module")
def exported(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The config of a compact copy of each run, made by the command."""
    folder = tmp_path_factory.mktemp("exported")
    for method in METHODS:
        source, output = str(tiny_runs.config(method)), str(folder / method)
        with replaced_argv(["moegs", "export", "--compact", source, "--output-dir", output]):
            command.main()
    return {method: folder / method / "config.yml" for method in METHODS}


def record(config: Path) -> dict:
    return json.loads((config.parent / "compact.json").read_text())


def evaluate(config: Path, output: Path) -> dict[str, float]:
    run_nerfstudio("eval", ["--load-config", str(config), "--output-path", str(output)])
    return json.loads(output.read_text())["results"]


def test_a_compact_run_is_compared_where_it_was_carried_to(tiny_runs: TinyRuns, tmp_path: Path):
    """The scene lies elsewhere there, and the run that was trained is not at hand."""
    written, carried, data = tmp_path / "written", tmp_path / "carried", tmp_path / "data"
    run = tmp_path / "run"
    shutil.copytree(tiny_runs.config("moegs-stg").parent, run)
    shutil.copytree(tiny_runs.scene, data)
    Write(run, written, views=2).main()
    shutil.rmtree(run)
    written.rename(carried)
    row = Compare(folders=(carried,), data=data).row(carried)
    assert row["images"] == 2 and abs(row["psnr_cost"]) < 0.05 and row["near_share"] > 0.999
    image = carried / "0.png"
    write_png(255 - read_image(str(image)), str(image))
    assert Compare(folders=(carried,), data=data).row(carried)["near_share"] < 0.6


class TestRuns:
    @pytest.mark.parametrize("method", METHODS)
    def test_held_out_views_stay_what_they_were(self, tiny_runs, exported, method: str):
        """0.05 dB, and 2 of 255 at 99.9 % of the pixels."""
        sources = (tiny_runs.config(method), exported[method])
        pipelines = [load_pipeline(open_run(config)) for config in sources]
        (before, psnr_before), (after, psnr_after) = (
            render_views(pipeline, [0, 3, 5]) for pipeline in pipelines
        )
        assert psnr_after == pytest.approx(psnr_before, abs=0.05)
        difference = (torch.stack(before).int() - torch.stack(after).int()).abs().amax(-1)
        assert difference.max() > 0 and (difference <= 2).double().mean() >= 0.999

    @pytest.mark.parametrize("method", METHODS)
    def test_the_record_says_what_was_saved_and_what_it_costs(self, exported, method: str):
        figures, run = record(exported[method]), open_run(exported[method])
        assert figures["mb_after"] == run.checkpoint_path.stat().st_size / 1e6
        assert figures["mb_after"] < figures["mb_before"] / 2.5
        assert figures["psnr_cost"] == pytest.approx(0.0, abs=0.05)
        assert figures["near_share"] >= 0.999
        assert figures["views"] == 6
        state = run.model_state()
        rows = [len(value) for name, value in state.items() if name.endswith("params.means")]
        assert figures["gaussians"] == sum(rows) > 0

    @pytest.mark.parametrize("method", METHODS)
    def test_what_is_not_compressed_stays_exactly(self, tiny_runs, exported, method: str):
        before = open_run(tiny_runs.config(method)).model_state()
        after = open_run(exported[method]).model_state()
        assert set(before) - set(after) == {"recipe._extra_state"} and set(after) < set(before)
        for name, value in after.items():
            if not isinstance(value, Tensor):
                assert value == before[name], name
            elif value.numel() < compact.SMALLEST_CODED and "gauss_params" not in name:
                EXACT.assert_close(value, before[name], name)
            assert getattr(value, "dtype", None) == getattr(before[name], "dtype", None), name

    @pytest.mark.parametrize("method", METHODS)
    def test_nerfstudio_evaluates_it_wherever_it_lies(
        self, tiny_runs, exported, method: str, tmp_path: Path
    ):
        shutil.copytree(exported[method].parent, tmp_path / "moved")
        with working_directory(tmp_path):
            after = evaluate(Path("moved/config.yml"), tmp_path / "after.json")
        before = evaluate(tiny_runs.config(method), tmp_path / "before.json")
        assert set(after) == set(before)
        assert after["psnr"] == pytest.approx(before["psnr"], abs=0.05)
        assert after["psnr"] != before["psnr"], "the run of origin was evaluated"

    def test_the_viewer_opens_it(self, exported):
        config = exported["moegs-router"]
        with replaced_argv(["ns-viewer", "--load-config", str(config)]):
            _, pipeline, checkpoint, step = eval_setup(config, test_mode="test")
        assert checkpoint.parent.parent == config.parent
        mixture: Any = pipeline.model.mixture
        assert step == 49 and mixture.num_gaussians > 0

    def test_videos_and_tables_are_made_of_it(self, exported, tmp_path: Path):
        config = exported["moegs-stg"]
        Render(config, output_path=tmp_path / "video.mp4", seconds=0.1).main()
        assert (tmp_path / "video.mp4").stat().st_size > 0
        with replaced_argv(["moegs", "report"]):
            Report((config,), tmp_path / "table.json").main()
        row = json.loads((tmp_path / "table.json").read_text())["rows"][0]
        assert row["psnr"] > 5.0 and row["train_seconds"] > 0

    def test_it_is_an_expert_of_a_new_mixture(self, tiny_runs, exported, tmp_path: Path):
        experts = [str(exported[method]) for method in EXPERTS]
        config = train_tiny("moegs-router", tiny_runs.scene, tmp_path, "--experts", *experts)
        mixed, single = open_run(config).model_state(), open_run(exported["moegs-stg"])
        EXACT.assert_close(
            mixed["mixture.expert_modules.0.gauss_params.means"], single.model_state()[MEANS]
        )

    @pytest.mark.parametrize("method", METHODS)
    def test_its_training_cannot_go_on(self, tiny_runs, exported, method: str, tmp_path: Path):
        load = ["--load-dir", str(exported[method].parent / "nerfstudio_models")]
        with pytest.raises(ValueError, match="resume the run that it was exported from"):
            train_tiny(method, tiny_runs.scene, tmp_path, *load)
        assert not list(tmp_path.rglob("*.ckpt"))


class TestMistakes:
    def test_no_kind_of_export(self, tiny_runs: TinyRuns, tmp_path: Path):
        with pytest.raises(ValueError, match="--compact, --ply-sequence or --html, got none"):
            Export(tiny_runs.router, tmp_path / "out").main()

    def test_a_folder_that_holds_something(self, tiny_runs: TinyRuns, tmp_path: Path):
        (tmp_path / "notes.txt").write_text("mine")
        for output in (tmp_path, tmp_path / "notes.txt"):
            with pytest.raises(ValueError, match="Expected a new or empty folder"):
                Export(tiny_runs.router, output, compact=True).main()
        assert (tmp_path / "notes.txt").read_text() == "mine"

    def test_no_such_run(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "config.yml"))):
            Export(tmp_path / "config.yml", tmp_path / "out", compact=True).main()
        assert not list(tmp_path.iterdir())

    def test_a_compact_run(self, exported, tmp_path: Path):
        with pytest.raises(ValueError, match="is compact already"):
            Export(exported["moegs-stg"], tmp_path / "out", compact=True).main()
        assert not list(tmp_path.iterdir())

    def test_a_full_disk_leaves_nothing(self, tiny_runs: TinyRuns, tmp_path: Path, monkeypatch):
        def fill(path, content):
            path.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", fill)
        output = tmp_path / "out"
        output.mkdir()
        with pytest.raises(OSError, match="nothing is left of it"):
            Export(tiny_runs.config("moegs-stg"), output, compact=True, measure=False).main()
        assert list(tmp_path.iterdir()) == [output] and not list(output.iterdir())

    def test_without_the_data_set_the_costs_are_unknown(self, tiny_runs: TinyRuns, tmp_path: Path):
        run = shutil.copytree(tiny_runs.config("moegs-stg").parent, tmp_path / "run")
        config = (run / "config.yml").read_text()
        assert config.count("- scene\n") > 1
        (run / "config.yml").write_text(config.replace("- scene\n", "- gone\n"))
        Export(run, tmp_path / "out", compact=True).main()
        figures = record(tmp_path / "out" / "config.yml")
        assert figures["psnr_cost"] is None and figures["near_share"] is None
        assert "is not there" in figures["reason"] and figures["mb_after"] > 0

    def test_an_encoding_of_the_future(self, exported, tmp_path: Path):
        run = open_run(shutil.copytree(exported["moegs-stg"].parent, tmp_path / "run"))
        content = load_checkpoint(run.checkpoint_path)
        content["pipeline"][compact.VERSION_KEY] += 1
        torch.save(content, run.checkpoint_path)
        with pytest.raises(ValueError, match="open it with the version of moegs_ns"):
            run.model_state()


def round_trip(name: str, values: Tensor) -> Tensor:
    return decode_state(encode_state({name: values}))[name]


class TestEncoding:
    @pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
    def test_means_move_by_half_a_16_bit_step_of_their_box(self, generator, scale: float):
        means = scale * torch.randn(500, 3, generator=generator) + 5 * scale
        error = (round_trip(MEANS, means) - means).abs().amax(0)
        box = means.amax(0) - means.amin(0)
        assert (error <= 0.51 * box / 65535 + 1e-6 * scale).all()

    @pytest.mark.parametrize("spread", [0.01, 0.1, 1.0])
    def test_harmonics_change_by_half_a_step(self, generator, spread: float):
        sh = spread * torch.randn(500, 15, 3, generator=generator)
        error = (round_trip("expert.gauss_params.shN", sh) - sh).abs().amax(0)
        step = ((sh.amax(0) - sh.amin(0)) / 255).clamp(min=compact.SH_STEP)
        assert (error <= 0.51 * step).all()

    def test_one_odd_gaussian_does_not_spoil_the_harmonics_of_others(self, generator):
        sh = 0.05 * torch.randn(20_000, 3, 3, generator=generator)
        sh[7] = 3.0
        error = (round_trip("expert.gauss_params.shN", sh) - sh).abs()
        others = torch.arange(len(sh)) != 7
        plain = sh.sub(-0.2).div(3.2 / 255).round().mul(3.2 / 255).add(-0.2)
        assert error.square().sum() <= (plain - sh).square().sum() * 1.05
        assert error[others].mean() < 0.01

    @pytest.mark.parametrize("name", ["expert.gauss_params.family_own", "mixture.router.weights.w"])
    @pytest.mark.parametrize("offset", [0.0, 300.0])
    def test_other_numbers_change_by_a_share_of_their_spread(self, generator, name, offset):
        values = torch.randn(5000, generator=generator) * 0.02 + offset
        error = (round_trip(name, values) - values).abs().max()
        rounding = 2e-7 * offset
        assert error <= 0.51 * values.std() / compact.SPREAD_STEPS + rounding

    def test_outliers_become_half_floats_and_larger_ones_stay(self, generator):
        """A wild Gaussian takes no precision from the others."""
        name = "expert.gauss_params.motion"
        values = 0.02 * torch.randn(20_000, 1, generator=generator)
        values[3] = 60_000.0
        torch.testing.assert_close(round_trip(name, values), values, rtol=5e-4, atol=1e-7)
        values[3] = 1e6
        EXACT.assert_close(round_trip(name, values), values)

    @pytest.mark.parametrize("value", [0.0, -7.25, 1e-30, 1e30])
    def test_constant_columns_stay_exactly(self, value: float):
        values = torch.full((33, 4), value)
        for name in ("means", "quats", "sh0", "shN"):
            decoded = round_trip(f"expert.gauss_params.{name}", values)
            EXACT.assert_close(decoded, values, name)

    @pytest.mark.parametrize("count", [0, 1])
    @pytest.mark.parametrize("shape", [(), (3,), (15, 3), (0, 3)])
    @pytest.mark.parametrize("name", ["means", "shN", "opacities"])
    def test_no_and_one_gaussian_stay_exactly(self, generator, name, shape, count: int):
        values = torch.randn(count, *shape, generator=generator)
        EXACT.assert_close(round_trip(f"expert.gauss_params.{name}", values), values)

    def test_numbers_that_are_not_finite_are_refused(self):
        with pytest.raises(ValueError, match=f"'{MEANS}' holds others"):
            encode_state({MEANS: torch.tensor([[0.0, float("nan"), 0.0]])})

    def test_views_do_not_bring_what_they_are_views_of(self, tmp_path: Path):
        large = torch.zeros(1_000_000)
        torch.save(encode_state({"expert.background": large[:3]}), tmp_path / "state.ckpt")
        assert (tmp_path / "state.ckpt").stat().st_size < 10_000


class TestSize:
    """At most 12 MB per 150,000 Gaussians with colours of degree 3, however trained."""

    COUNT = 150_000

    def trained(self, method: str, generator: torch.Generator) -> Expert:
        """Noise of the spread that long trainings leave, in an expert of a clip of 300 frames."""
        config = all_methods[method].pipeline.model.expert
        scene = SceneInfo(300, fps=30.0, center=(0.0, 0.0, 0.0), extent=3.0, background=None)
        point = InitialPoints(torch.zeros(1, 3), torch.ones(1, 3))
        expert = config.setup(scene=scene, points=point)
        spreads = {"shN": 0.05, "means": 3.0, "scales": 1.5, "opacities": 2.5}
        expert.gauss_params.select_(torch.zeros(self.COUNT, dtype=torch.long))
        for name, parameter in expert.named_parameters():
            spread = spreads.get(name.rpartition(".")[2], 0.2)
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = parameter.data + spread * noise
        return expert

    def megabytes(self, state: dict) -> float:
        return measured_size(0, {"step": 0, "pipeline": encode_state(state)}).mb_per_150k

    @pytest.mark.parametrize("method", EXPERTS)
    def test_of_an_expert(self, method: str, generator):
        state = self.trained(method, generator).state_dict(prefix="expert.")
        assert self.megabytes(state) <= 12.0

    def test_of_a_mixture(self, generator):
        experts = [self.trained(method, generator) for method in EXPERTS]
        counts = [expert.num_gaussians for expert in experts]
        router = VolumeAwarePixelRouterConfig().setup(scene=experts[0].scene, counts=counts)
        for parameter in router.parameters():
            parameter.data += 2.0 * torch.randn(parameter.shape, generator=generator)
        state = Mixture(experts, router, 1.0).state_dict(prefix="mixture.")
        assert self.megabytes(state) <= 12.0


@pytest.mark.slow
def test_the_help_offers_the_export(capsys):
    with replaced_argv(["moegs", "export", "--help"]), pytest.raises(SystemExit):
        command.main()
    assert "--compact" in capsys.readouterr().out
    assert "moegs_ns.scripts.export" in sys.modules
