"""One expert made of runs that cover windows of the clip."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal
from unittest.mock import Mock

import pytest
import torch
from drift_family import DriftExpertConfig
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.configs.method_configs import all_methods
from tiny import TinyRuns, train_config, train_tiny

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.experts.base import Expert
from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.experts.windows import WindowedExpert, joined_config
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.models import expert_sources
from moegs_ns.models.expert_sources import (
    ExpertSource,
    check_windows,
    expert_source,
    split_windows,
)
from moegs_ns.runs.checkpoint import Run, open_run
from moegs_ns.scene import InitialPoints, SceneInfo
from moegs_ns.scripts import main as command

SCENE = SceneInfo(
    num_frames=10, fps=30.0, center=(0.0, 0.0, -3.0), extent=3.0, background=None, first_frame=50
)
WINDOWS = ((50, 53), (54, 54), (55, 59))
"""Four frames, one frame and five frames."""


def windowed(*members, windows=WINDOWS, counts=(8, 5, 6)) -> WindowedExpert:
    """A windowed expert whose members have clouds of their own."""
    members = members or (STGExpertConfig(), DriftExpertConfig(blink=True), STGExpertConfig())
    expert = joined_config(members, windows).setup(scene=SCENE)
    for seed, (member, count) in enumerate(zip(expert.member_modules, counts, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        cloud = InitialPoints(*torch.rand(2, count, 3, generator=generator))
        filled = member.config.setup(scene=member.scene, points=cloud)
        member.load_state_dict(filled.state_dict())
        for name in ("motion", "velocities"):
            if name in member.gauss_params:
                member.gauss_params[name].data.normal_(generator=generator)
    return expert


def time_of(frame: float) -> torch.Tensor:
    return torch.tensor((frame - 50) / 9)


def ids_at(expert: Expert, frame: float) -> list[int]:
    """Ids of the Gaussians that the expert shows at a frame."""
    ids = expert.at(time_of(frame)).ids
    assert ids is not None
    return ids.tolist()


class TestExpert:
    @pytest.mark.parametrize(
        ("frame", "place", "local"),
        [
            (50, 0, 0.0), (51.5, 0, 0.5), (53, 0, 1.0), (53.4, 0, 1.0), (53.6, 1, 0.0),
            (54, 1, 0.0), (54.6, 2, 0.0), (55, 2, 0.0), (57, 2, 0.5), (59, 2, 1.0),
        ],
    )  # fmt: skip
    def test_the_member_of_the_window_draws_at_its_own_time(self, frame, place, local):
        expert = windowed()
        time = time_of(frame)
        assert expert.window_at(time) == place
        assert float(expert.local_time(time, place)) == pytest.approx(local, abs=1e-5)
        part, member = expert.at(time), expert.members[place]
        own = member.at(torch.tensor(local))
        for name in ("means", "opacities", "sh", "scales", "quats"):
            torch.testing.assert_close(getattr(part, name), getattr(own, name), msg=name)

    def test_ids_count_through_the_members(self):
        expert = windowed()
        assert expert.num_gaussians == 19 and expert.offsets == [0, 8, 13, 19]
        assert ids_at(expert, 51) == list(range(8))
        assert ids_at(expert, 54) == list(range(8, 13))
        assert ids_at(expert, 57) == list(range(13, 19))

    def test_ids_of_a_member_that_hides_rows(self):
        expert = windowed(
            *[DriftExpertConfig(blink=True)] * 2, windows=((50, 54), (55, 59)), counts=(8, 6)
        )
        assert ids_at(expert, 59) == [8, 9, 10]

    @pytest.mark.parametrize("is_mask", [True, False])
    def test_select_keeps_the_same_rows_at_all_times(self, is_mask: bool):
        expert = windowed()
        keep = torch.zeros(19, dtype=torch.bool)
        keep[[0, 3, 7, 12, 14]] = True
        selected = expert.select(keep if is_mask else torch.nonzero(keep)[:, 0])
        assert selected.num_gaussians == 5 and expert.num_gaussians == 19
        for frame in (50, 53, 54, 57):
            before, after = expert.at(time_of(frame)), selected.at(time_of(frame))
            torch.testing.assert_close(after.means, before.means[keep[before.ids]])
        assert ids_at(selected, 54) == [3]

    def test_a_window_may_lose_all_its_rows(self):
        keep = torch.ones(19, dtype=torch.bool)
        keep[8:13] = False
        selected = windowed().select(keep)
        assert len(selected.at(time_of(54))) == 0 and len(selected.at(time_of(57))) == 6

    def test_near_and_background_are_those_of_the_members(self):
        looks = {"near": 0.3, "background": (1.0, 0.5, 0.0)}
        members = [STGExpertConfig(**looks), DriftExpertConfig(**looks)]
        expert = joined_config(members, ((50, 54), (55, 59))).setup(scene=SCENE)
        assert expert.near == expert.members[0].near == pytest.approx(0.9)
        assert expert.background.tolist() == [1.0, 0.5, 0.0]

    def test_extent_and_near_plane_are_shared_once_the_members_are_loaded(self):
        expert = joined_config([STGExpertConfig()] * 2, ((50, 54), (55, 59))).setup(scene=SCENE)
        trained = [
            member.config.setup(scene=replace(member.scene, extent=5.0, rig_extent=6.0))
            for member in expert.members
        ]
        for member, source in zip(expert.members, trained, strict=True):
            member.load_state_dict(source.state_dict())
        expert.share_scene()
        assert expert.near == expert.members[1].near == pytest.approx(0.75)
        again = expert.config.setup(scene=SCENE)
        again.load_state_dict(expert.state_dict())
        for each in (again, *again.members):
            assert each.near == expert.near and each.scene.rig == (SCENE.center, 6.0)

    def test_windows_of_different_cameras_are_refused(self):
        expert = joined_config([STGExpertConfig()] * 2, ((50, 54), (55, 59))).setup(scene=SCENE)
        member = expert.members[1]
        source = member.config.setup(scene=replace(member.scene, extent=4.0))
        member.load_state_dict(source.state_dict())
        with pytest.raises(ValueError, match=r"same cameras, but those of frames 55 to 59 lie wit"):
            expert.share_scene()

    def test_each_window_finishes_its_own_colours(self):
        members = [STGExpertConfig(color="full"), STGExpertConfig(), STGExpertConfig(color="lite")]
        expert = windowed(*members)
        assert expert.has_shading
        shaded = [expert.member_at(time_of(frame)) for frame in (50, 54, 59)]
        assert shaded == expert.members
        assert [member.has_shading for member in shaded] == [True, False, True]
        with pytest.raises(AssertionError, match="finished by its own expert"):
            expert.shade(*torch.zeros(4, 2, 3))

    def test_state_is_restored_with_other_numbers_of_rows(self):
        expert = windowed()
        expert.members[1].active_sh_degree = 2
        again = expert.config.setup(scene=SCENE)
        assert again.num_gaussians == 0
        again.load_state_dict(expert.state_dict())
        assert again.members[1].active_sh_degree == 2 and again.num_gaussians == 19
        torch.testing.assert_close(again.at(time_of(52)).means, expert.at(time_of(52)).means)

    def test_the_clip_is_the_union_of_the_windows(self):
        config = joined_config([STGExpertConfig()] * 2, ((50, 53), (54, 58)))
        with pytest.raises(ValueError, match=r"frames 50 to 59, but.*50 to 58.*--frames 50 58"):
            config.setup(scene=SCENE)
        config.setup(scene=replace(SCENE, num_frames=9))
        with pytest.raises(ValueError, match="this clip, frames 51 to 59"):
            config.setup(scene=replace(SCENE, num_frames=9, first_frame=51))

    def test_windows_of_different_near_planes(self):
        members = [STGExpertConfig(), STGExpertConfig(near=0.01)]
        with pytest.raises(ValueError, match=r"share near plane and background.*expert\.near"):
            joined_config(members, ((0, 1), (2, 3)))


def window_run(first: int, last: int) -> Run:
    """What `check_windows` looks at."""
    config = deepcopy(all_methods["moegs-stg"])
    config.pipeline.datamanager.dataparser.frames = (first, last)
    return Mock(spec=Run, config=config, config_path=Path(f"w{first}/config.yml"))


class TestWindows:
    @pytest.mark.parametrize(
        ("windows", "message"),
        [
            ([(0, 9), (15, 20)], r"ends at frame 9.*begins at frame 15.*on frames 10 to 14"),
            ([(0, 9), (11, 20)], r"on frames 10 to 10"),
            ([(0, 9), (9, 20)], r"both trained on frames 9 to 9.*from frame 10"),
            ([(0, 9), (3, 5)], r"both trained on frames 3 to 5"),
            ([(0, 9), (0, 9)], r"both trained on frames 0 to 9"),
        ],
    )
    def test_gaps_and_overlaps(self, windows, message: str):
        with pytest.raises(ValueError, match=message):
            check_windows([window_run(*window) for window in windows])
        check_windows([window_run(0, 9), window_run(10, 10), window_run(11, 30)])

    def test_a_plus_in_the_name_of_a_folder_does_not_separate(self, tmp_path: Path):
        runs = [tmp_path / "a+b" / name / "config.yml" for name in ("x", "y+z")]
        for run in runs:
            run.parent.mkdir(parents=True)
            run.touch()
        assert split_windows(f"{runs[0]}+{runs[1]}") == runs
        assert split_windows(f"{runs[0].parent}+{runs[1]}") == [runs[0].parent, runs[1]]
        assert split_windows(str(runs[1])) == [runs[1]]

    def test_a_run_of_the_whole_recording_is_no_window(self, tiny_runs: TinyRuns):
        word = "+".join(tiny_runs.experts)
        with pytest.raises(ValueError, match=r"trained with --frames FIRST LAST.*whole recording"):
            expert_source(word)

    def test_a_window_that_is_not_there(self, tiny_runs: TinyRuns):
        with pytest.raises(FileNotFoundError, match=r"nowhere/config\.yml"):
            expert_source(f"{tiny_runs.experts[0]}+nowhere/config.yml")


@pytest.fixture(scope="module")
def windows(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of frames 0 to 2 and 3 to 5, the second of another family."""
    output = tmp_path_factory.mktemp("windows")
    settings = [("moegs-stg", (0, 2)), ("moegs-4dgaussians", (3, 5))]
    return [
        train_config(all_methods[method], tiny_runs.scene, output, steps=30, frames=frames)
        for method, frames in settings
    ]


@pytest.fixture(scope="module")
def mixture(tiny_runs: TinyRuns, windows: list[Path], tmp_path_factory) -> Path:
    """A router's run over the two windows, named in the wrong order, and a run of the clip."""
    windows_word = f"{windows[1]}+{windows[0].parent}"
    output = tmp_path_factory.mktemp("mixture")
    experts = ["--experts", windows_word, tiny_runs.experts[0]]
    return train_tiny("moegs-router", tiny_runs.scene, output, *experts, "--budget", "0.002")


class TestRuns:
    def test_the_windows_are_in_order_and_named_together(self, mixture: Path, windows: list[Path]):
        model = open_run(mixture).config.pipeline.model
        assert model.expert_models[0].expert.windows == ((0, 2), (3, 5))
        assert model.expert_names == ("stg_4dgaussians", "stg")
        assert str(model.experts[0]) == f"{windows[0]}+{windows[1]}"

    @pytest.mark.parametrize(("frame", "window"), [(1, 0), (4, 1)])
    def test_the_mixture_shows_what_the_windows_show(
        self, mixture: Path, windows: list[Path], frame: int, window: int
    ):
        pipeline = load_pipeline(open_run(mixture))
        camera, _ = pipeline.datamanager.eval_item(frame)
        mixed = pipeline.model.get_outputs_for_camera(camera)
        alone = load_pipeline(open_run(windows[window]))
        camera, _ = alone.datamanager.eval_item(frame - 3 * window)
        expected = alone.model.get_outputs_for_camera(camera)["rgb"]
        torch.testing.assert_close(mixed["rgb_stg_4dgaussians"], expected, atol=1e-4, rtol=0)

    def test_all_rows_have_router_weights_and_all_learn(self, mixture: Path):
        state = open_run(mixture).model_state()
        rows = [
            len(state[f"mixture.expert_modules.0.member_modules.{k}.gauss_params.means"])
            for k in (0, 1)
        ]
        weights = state["mixture.router.weights.0.w"]
        assert len(weights) == sum(rows)
        for part in weights.split(rows):
            assert (part != 0.9).any()

    def test_the_run_needs_nothing_but_itself(self, mixture: Path, windows, tmp_path: Path):
        before = load_pipeline(open_run(mixture)).get_average_eval_image_metrics()
        moved = shutil.copytree(mixture.parent, tmp_path / "moved")
        config, folder = (moved / "config.yml").read_text(), windows[0].parents[3].name
        assert folder in config
        (moved / "config.yml").write_text(config.replace(folder, "gone"))
        after = load_pipeline(open_run(moved)).get_average_eval_image_metrics()
        assert after["psnr"] == pytest.approx(before["psnr"], abs=1e-6)

    def test_its_training_goes_on(self, tiny_runs: TinyRuns, mixture: Path, tmp_path: Path):
        load = ["--load-dir", str(mixture.parent / "nerfstudio_models"), "--budget", "0.003"]
        resumed = open_run(train_tiny("moegs-router", tiny_runs.scene, tmp_path, *load))
        assert resumed.checkpoint_path.name == "step-000000014.ckpt"

    def test_a_compact_copy_shows_the_same(self, mixture: Path, tmp_path: Path):
        output = tmp_path / "compact"
        with replaced_argv(
            ["moegs", "export", "--compact", str(mixture), "--output-dir", str(output)]
        ):
            command.main()
        record = json.loads((output / "compact.json").read_text())
        assert record["psnr_cost"] == pytest.approx(0.0, abs=0.05)
        state = open_run(mixture).model_state()
        means = [value for name, value in state.items() if name.endswith("gauss_params.means")]
        assert record["gaussians"] == sum(map(len, means)) and len(means) == 3

    def test_a_router_of_other_frames(self, tiny_runs: TinyRuns, windows, tmp_path: Path):
        windows_word = "+".join(map(str, windows))
        with pytest.raises(ValueError, match=r"this clip, frames 0 to 4.*frames 0 to 5"):
            train_tiny(
                "moegs-router", tiny_runs.scene, tmp_path, "--experts", windows_word,
                parser_options=["--frames", "0", "4"],
            )  # fmt: skip

    def test_a_window_alone_in_another_part_of_the_clip(self, tiny_runs, windows, tmp_path):
        """As many frames as the clip has, but others."""
        with pytest.raises(ValueError, match=r"frames 0 to 2, but .* on frames 3 to 5"):
            train_tiny(
                "moegs-router", tiny_runs.scene, tmp_path, "--experts", str(windows[1]),
                parser_options=["--frames", "0", "2"],
            )  # fmt: skip


class TestPosesOfWindows:
    def source(self, *modes: Literal["off", "SO3xR3", "SE3"]) -> ExpertSource:
        runs = []
        for index, mode in enumerate(modes):
            model = replace(
                all_methods["moegs-stg"].pipeline.model,
                camera_optimizer=CameraOptimizerConfig(mode=mode),
            )
            config = SimpleNamespace(pipeline=SimpleNamespace(model=model))
            runs.append(
                Mock(spec=Run, index=index, config=config, config_path=Path(f"{index}/config.yml"))
            )
        return ExpertSource(tuple(runs))

    def test_they_count_wherever_they_were_learned(self, monkeypatch):
        monkeypatch.setattr(expert_sources, "trained_frames", lambda run: (run.index, run.index))
        orders: tuple[tuple[Literal["off", "SO3xR3"], ...], ...] = (
            ("off", "SO3xR3"),
            ("SO3xR3", "off"),
        )
        for modes in orders:
            assert self.source(*modes).model_config().camera_optimizer.mode == "SO3xR3"
        assert self.source("off", "off").model_config().camera_optimizer.mode == "off"

    def test_of_two_kinds_they_are_refused(self, monkeypatch):
        monkeypatch.setattr(expert_sources, "trained_frames", lambda run: (run.index, run.index))
        with pytest.raises(ValueError, match="SO3xR3 and SE3"):
            self.source("SO3xR3", "SE3").model_config()
