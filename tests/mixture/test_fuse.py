"""Fusion of a mixture into one set of Gaussians, and its file."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mixture_helpers import SCENE, brute_weights, expert, mix, mixture, views
from tiny import TinyRuns, train_tiny
from tolerances import FORWARD
from toys import make_gaussians

from moegs_ns.cameras import view_from_cameras
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.gaussians import Gaussians
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.mixture.fuse import fuse, fused_image
from moegs_ns.mixture.responsibilities import responsibilities
from moegs_ns.ply import write_ply
from moegs_ns.reports.fusion import fused_psnr, measured
from moegs_ns.reports.scores import frame_seconds
from moegs_ns.runs.checkpoint import open_run
from moegs_ns.scripts import main as command
from moegs_ns.scripts.fuse import Fuse
from moegs_ns.splatting.projection import view_colors

plyfile = pytest.importorskip("plyfile")
COUNTS = (14, 9)


class TestFuse:
    def test_opacities_are_weighted_by_responsibilities(self):
        """Equation 15."""
        mixed, time = mixture(*COUNTS), torch.tensor(0.5)
        found = responsibilities(mixed, views()).values
        fused = fuse(mixed, found, time)
        parts = mixed.gaussians(time)
        expected = torch.cat([part.opacities for part in parts]) * torch.cat(found).float()
        FORWARD.assert_close(fused.opacities, expected)
        for name in ("means", "quats", "scales", "sh"):
            whole = torch.cat([getattr(part, name) for part in parts])
            FORWARD.assert_close(getattr(fused, name), whole, name)

    def test_its_image_is_the_joint_composite_over_the_mean_background(self):
        mixed, view = mixture(*COUNTS), views()[1]
        mixed.experts[0].background.fill_(1.0)
        found = responsibilities(mixed, views()).values
        joint = fuse(mixed, found, view.time)
        weights = brute_weights(joint, view)
        colors = view_colors(joint.sh, joint.means, view.positions[0])
        expected = weights @ colors + 0.5 * (1.0 - weights.sum(-1, keepdim=True))
        FORWARD.assert_close(fused_image(mixed, found, view), expected.detach())

    def test_one_expert_stays_itself(self):
        mixed, view = mixture(20), views()[1]
        found = responsibilities(mixed, [view]).values
        FORWARD.assert_close(fused_image(mixed, found, view), mixed.render(view).rgb.detach())

    def test_experts_that_decode_colours_are_refused(self):
        mixed = mix([expert(0, 5), STGExpertConfig(color="full").setup(scene=SCENE)])
        with pytest.raises(ValueError, match=r"number 2 \(STGExpert\) decodes colours per pixel"):
            fuse(mixed, [torch.ones(5), torch.ones(0)], torch.tensor(0.0))


class TestFile:
    @pytest.mark.parametrize("degree", [0, 2, 3])
    def test_values_are_those_that_viewers_read(self, generator, tmp_path: Path, degree: int):
        gaussians = make_gaussians(generator, 30, degree=degree)
        assert write_ply(gaussians, tmp_path / "new" / "a.ply") == 30
        vertex = plyfile.PlyData.read(str(tmp_path / "new" / "a.ply"))["vertex"]
        read = {p.name: torch.from_numpy(np.array(vertex[p.name])) for p in vertex.properties}
        rest = 3 * ((degree + 1) ** 2 - 1)
        names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3))]
        names += [f"f_rest_{i}" for i in range(rest)]
        names += ["opacity", "scale_0", "scale_1", "scale_2", *(f"rot_{i}" for i in range(4))]
        assert list(read) == names

        def columns(prefix: str, count: int) -> torch.Tensor:
            return torch.stack([read[f"{prefix}{i}"] for i in range(count)], dim=-1)

        FORWARD.assert_close(torch.stack([read[a] for a in "xyz"], dim=-1), gaussians.means)
        FORWARD.assert_close(columns("scale_", 3).exp(), gaussians.scales)
        FORWARD.assert_close(columns("rot_", 4), gaussians.quats)
        FORWARD.assert_close(read["opacity"].sigmoid(), gaussians.opacities)
        FORWARD.assert_close(columns("f_dc_", 3), gaussians.sh[:, 0])
        if rest:
            harmonics = columns("f_rest_", rest).unflatten(1, (3, -1)).transpose(1, 2)
            FORWARD.assert_close(harmonics, gaussians.sh[:, 1:])

    def test_what_nobody_sees_is_left_out_and_opaque_stays_finite(self, generator, tmp_path: Path):
        gaussians = make_gaussians(generator, 4)
        gaussians.opacities[:] = torch.tensor([1.0, 0.0, 1e-3, 0.5])
        assert write_ply(gaussians, tmp_path / "a.ply") == 2
        vertex = plyfile.PlyData.read(str(tmp_path / "a.ply"))["vertex"]
        assert np.isfinite(vertex["opacity"]).all()

    def test_nothing_to_write(self, generator, tmp_path: Path):
        gaussians = make_gaussians(generator, 4)
        gaussians.opacities[:] = 0.0
        with pytest.raises(ValueError, match="none of 4 is opaque enough"):
            write_ply(gaussians, tmp_path / "a.ply")
        assert not list(tmp_path.iterdir())

    def test_without_the_library(self, generator, tmp_path: Path, monkeypatch):
        monkeypatch.setitem(sys.modules, "plyfile", None)
        with pytest.raises(ImportError, match="pip install plyfile"):
            write_ply(make_gaussians(generator, 4), tmp_path / "a.ply")


class TestCommand:
    def test_it_writes_the_fused_set_of_a_run(self, tiny_runs: TinyRuns, tmp_path: Path, capsys):
        output = tmp_path / "fused.ply"
        words = ["moegs", "fuse", str(tiny_runs.router), "--output", str(output), "--time", "0.4"]
        with replaced_argv([*words, "--measure", "--up", "as-is"]):
            command.main()
        printed = " ".join(capsys.readouterr().out.split())
        pipeline = load_pipeline(open_run(tiny_runs.router))
        found = measured(pipeline).values
        with torch.no_grad():
            mixed: Any = pipeline.model.mixture
            expected = fuse(mixed, found, torch.tensor(0.4))
        shown = expected.select(expected.opacities >= 1 / 255)
        vertex = plyfile.PlyData.read(str(output))["vertex"]
        assert 0 < vertex.count == len(shown) < len(expected)
        FORWARD.assert_close(torch.from_numpy(np.array(vertex["x"])), shown.means[:, 0])
        assert f"{fused_psnr(pipeline, found):.2f} dB" in printed
        assert isinstance(expected, Gaussians) and list(tmp_path.iterdir()) == [output]

    def test_of_an_expert_its_own_gaussians_are_written(self, tiny_runs: TinyRuns, tmp_path: Path):
        output, config = tmp_path / "expert.ply", tiny_runs.config("moegs-stg")
        Fuse(config, output, time=0.4, up="as-is").main()
        expert: Any = load_pipeline(open_run(config)).model.expert
        with torch.no_grad():
            own = expert.at(torch.tensor(0.4))
        shown = own.select(own.opacities >= 1 / 255)
        vertex = plyfile.PlyData.read(str(output))["vertex"]
        assert 0 < vertex.count == len(shown)
        FORWARD.assert_close(torch.from_numpy(np.array(vertex["z"])), shown.means[:, 2])

    def test_a_run_keeps_what_was_measured_and_shows_it(
        self, tiny_runs: TinyRuns, tmp_path: Path, monkeypatch
    ):
        folder = tmp_path / "run"
        shutil.copytree(tiny_runs.router.parent, folder)
        plain = load_pipeline(open_run(folder))
        camera, batch = plain.datamanager.eval_item(2)
        assert "fused" not in plain.model.get_outputs_for_camera(camera)
        found = measured(plain).values
        Fuse(folder, tmp_path / "a.ply", keep=True).main()
        monkeypatch.setattr("moegs_ns.reports.fusion.responsibilities", None)
        Fuse(folder, tmp_path / "b.ply", time=0.5).main()
        kept = load_pipeline(open_run(folder))
        model: Any = kept.model
        for one, other in zip(model.responsibilities.values, found, strict=True):
            FORWARD.assert_close(one, other.float())
        outputs = kept.model.get_outputs_for_camera(camera)
        view = view_from_cameras(camera)
        with torch.no_grad():
            expected = fused_image(model.mixture, found, view)
        FORWARD.assert_close(outputs["fused"], expected)
        metrics, _ = kept.model.get_image_metrics_and_images(outputs, batch)
        assert 5.0 < metrics["psnr_fused"] < 60.0
        # Its time is not that of the mixture's frames.
        monkeypatch.setattr("moegs_ns.models.mixture_model.fused_image", None)
        assert len(frame_seconds(kept, 2)) == 2
        assert model.responsibilities.values
        assert [path.name for path in (folder / "nerfstudio_models").iterdir()] == [
            open_run(tiny_runs.router).checkpoint_path.name
        ]

    def test_training_on_forgets_what_was_kept(self, tiny_runs: TinyRuns, tmp_path: Path):
        folder = tmp_path / "run"
        shutil.copytree(tiny_runs.router.parent, folder)
        Fuse(folder, tmp_path / "a.ply", keep=True).main()
        again = train_tiny(
            "moegs-router", tiny_runs.scene, tmp_path / "out", "--budget", "0.011",
            "--load-dir", str(folder / "nerfstudio_models"),
        )  # fmt: skip
        assert not load_pipeline(open_run(again)).model.responsibilities.values

    def test_fewer_views_say_something_else(self, tiny_runs: TinyRuns):
        pipeline = load_pipeline(open_run(tiny_runs.router))
        few, all_views = measured(pipeline, 2), measured(pipeline)
        assert few.contributions[0].sum() < 0.2 * all_views.contributions[0].sum()

    def test_mistakes(self, tiny_runs: TinyRuns, tmp_path: Path):
        output = tmp_path / "a.ply"
        choices: list[dict[str, Any]] = [{"keep": True}, {"measure": True}]
        for options in choices:
            with pytest.raises(ValueError, match=r"but .* is that of a single expert"):
                Fuse(tiny_runs.config("moegs-stg"), output, **options).main()
        with pytest.raises(ValueError, match=r"time in \[0, 1\] over the clip, got 2"):
            Fuse(tiny_runs.router, output, time=2.0).main()
        with pytest.raises(ValueError, match=r"name of a \.ply or \.spz file, got .*a\.obj"):
            Fuse(tiny_runs.router, tmp_path / "a.obj").main()
        with pytest.raises(ValueError, match="at least 1, got 0"):
            Fuse(tiny_runs.router, output, max_views=0).main()
        with pytest.raises(FileNotFoundError):
            Fuse(tmp_path / "config.yml", output).main()
        assert not list(tmp_path.iterdir())
