"""FreeTimeGS: equations of motion and temporal opacity, in seconds whatever the clip."""

import math
from dataclasses import replace

import pytest
import torch

from moegs_ns.experts.freetime.expert import FreeTimeExpert, FreeTimeExpertConfig, own_times
from moegs_ns.experts.freetime.lives import LIVES, LONGEST, GatedLife, LifeName
from moegs_ns.experts.windows import joined_config
from moegs_ns.gaussians import GaussianParams
from moegs_ns.models.expert_loading import follows
from moegs_ns.scene import InitialPoints, SceneInfo

SCENE = SceneInfo(31, 30.0, (0.0, 0.0, 0.0), 2.0, background=None)
NAMES: tuple[LifeName, ...] = ("bell", "gated", "flat-top")


def points(count: int = 12, frames: torch.Tensor | None = None) -> InitialPoints:
    generator = torch.Generator().manual_seed(0)
    return InitialPoints(
        torch.rand(count, 3, generator=generator), torch.rand(count, 3, generator=generator), frames
    )


def build(
    life: LifeName = "bell",
    scene: SceneInfo = SCENE,
    frames: torch.Tensor | None = None,
    **options,
) -> FreeTimeExpert:
    torch.manual_seed(0)
    return FreeTimeExpertConfig(life=life, **options).setup(
        scene=scene, points=points(frames=frames)
    )


def moving(scene: SceneInfo, speed: float = 2.0) -> FreeTimeExpert:
    """Gaussians that cross x = 0 half a second into the clip at `speed` units per second."""
    expert = build(scene=scene, lives_per_point=1)
    rows = expert.gauss_params
    rows["means"].data.zero_()
    rows["time_centers"].data.fill_(0.5)
    rows["velocities"].data[:] = torch.tensor([speed, 0.0, 0.0])
    return expert


class TestSeconds:
    @pytest.mark.parametrize(("fps", "frames"), [(10.0, 11), (30.0, 31), (60.0, 121), (0.0, 61)])
    def test_velocities_are_per_second_at_any_rate_and_length(self, fps: float, frames: int):
        """A clip that does not tell its rate has thirty frames a second."""
        expert = moving(replace(SCENE, fps=fps, num_frames=frames))
        for frame in range(0, frames, 5):
            seconds = frame / (fps or 30.0)
            x = expert.at(torch.tensor(frame / (frames - 1))).means[:, 0]
            torch.testing.assert_close(x, torch.full((12,), 2.0 * (seconds - 0.5)))

    def test_lives_last_for_seconds_at_any_rate(self):
        for fps, frames in ((10.0, 11), (60.0, 121)):
            expert = moving(replace(SCENE, fps=fps, num_frames=frames))
            expert.gauss_params["durations"].data.fill_(math.log(0.2))
            seconds = (frames - 1) / fps
            found = expert.visibility(torch.tensor(0.7 / seconds))
            torch.testing.assert_close(found, torch.full((12,), math.exp(-0.5)))

    def test_a_trained_expert_keeps_the_seconds_of_its_training(self):
        expert = moving(SCENE)
        other = FreeTimeExpertConfig().setup(scene=replace(SCENE, fps=0.001))
        other.load_state_dict(expert.state_dict())
        time = torch.tensor(0.8)
        torch.testing.assert_close(other.at(time).means, expert.at(time).means)

    def test_a_clip_of_one_frame_shows_what_it_has(self):
        expert = build(scene=replace(SCENE, num_frames=1))
        gaussians = expert.at(torch.tensor(0.0))
        assert gaussians.opacities.isfinite().all() and (gaussians.opacities > 0.1).all()

    def test_windows_of_a_clip_keep_their_own_seconds(self):
        """Each of two windows counts from its own first frame, at the clip's rate."""
        joined = joined_config([FreeTimeExpertConfig()] * 2, [(0, 10), (11, 30)])
        expert = joined.setup(scene=SCENE)
        for member, frames in zip(expert.members, (11, 20), strict=True):
            source = moving(replace(SCENE, num_frames=frames), speed=float(frames))
            member.load_state_dict(source.state_dict())
        for frame, speed, seconds in ((6, 11.0, 6 / 30), (11, 20.0, 0.0), (26, 20.0, 15 / 30)):
            x = expert.at(torch.tensor(frame / 30)).means[:, 0]
            torch.testing.assert_close(x, torch.full((12,), speed * (seconds - 0.5)))


class TestOwnTimes:
    def own(self, frames: torch.Tensor | None, lives: int = 4, scene: SceneInfo = SCENE):
        cloud = points(12, frames)
        return own_times(cloud, scene, lives, torch.Generator().manual_seed(0))

    def test_points_of_key_frames_live_about_their_frame(self):
        """Within half the way to the next key frame, in seconds, and inside of the clip."""
        frames = torch.arange(12) % 4 * 10
        centers, gap = self.own(frames)
        assert centers.shape == (12, 1) and gap == pytest.approx(1 / 3)
        away = centers[:, 0] - frames / 30.0
        assert (away.abs() <= 0.5 * gap + 1e-6).all() and float(away.abs().max()) > 0.1
        assert (centers >= 0.0).all() and (centers <= 1.0).all()

    @pytest.mark.parametrize("frames", [None, torch.full((12,), 7)])
    def test_points_of_one_frame_live_again_and_again_over_the_clip(self, frames):
        centers, gap = self.own(frames, scene=replace(SCENE, num_frames=121))
        assert centers.shape == (12, 4) and gap == pytest.approx(1.0)
        torch.testing.assert_close(centers.diff(dim=1), torch.ones(12, 3))
        assert (centers >= 0.0).all() and (centers <= 4.0).all()
        assert len(centers[:, 0].unique()) == 12

    def test_something_is_visible_of_every_point_at_every_time(self):
        """Lives of one point take turns: none of the frames is empty at first."""
        expert = build(scene=replace(SCENE, num_frames=121))
        for time in torch.linspace(0, 1, 13):
            together = expert.visibility(time).unflatten(0, (4, 12)).sum(0)
            assert together.min().item() > 0.55

    def test_what_a_point_becomes_is_of_its_place_size_and_colour(self):
        one, four = build(lives_per_point=1), build(lives_per_point=4)
        assert (one.num_gaussians, four.num_gaussians) == (12, 48)
        for name in ("means", "scales", "sh0"):
            rows = four.gauss_params[name].unflatten(0, (4, 12))
            assert torch.equal(rows[3], one.gauss_params[name]), name

    def test_rows_tell_whether_they_are_those_of_before(self):
        """Routers over honest experts ask it by rows that are neighbours; lives of one point that
        stood there together would look as if rows had been exchanged."""
        before = build().gauss_params["means"].detach()
        after = before + 0.01 * torch.randn(
            before.shape, generator=torch.Generator().manual_seed(0)
        )
        assert follows(before, after)
        assert not follows(before, after.flip(0))

    def test_the_first_opacity_is_the_published_half_and_nothing_moves(self):
        rows = build().gauss_params
        torch.testing.assert_close(rows["opacities"].sigmoid(), torch.full((48,), 0.5))
        assert (rows["velocities"] == 0).all()

    def test_the_first_duration_is_that_asked_for_or_the_time_between_lives(self):
        torch.testing.assert_close(
            build(initial_duration=0.1).gauss_params["durations"].exp(), torch.full((48,), 0.1)
        )
        torch.testing.assert_close(
            build().gauss_params["durations"].exp(), torch.full((48,), 1.0 / 4)
        )

    def test_own_times_follow_the_machine_seed(self):
        def centers(seed: int) -> torch.Tensor:
            torch.manual_seed(seed)
            built = FreeTimeExpertConfig().setup(scene=SCENE, points=points())
            return built.gauss_params["time_centers"]

        assert torch.equal(centers(1), centers(1)) and not torch.equal(centers(1), centers(2))


def rows_of(life: LifeName, **values: float) -> GaussianParams:
    made = LIVES[life].initial_parameters(
        torch.tensor([0.1]), torch.zeros(1, 3), torch.tensor([False])
    )
    made |= {name: torch.tensor([value]) for name, value in values.items()}
    return GaussianParams(made | {"velocities": torch.tensor([[1.0, -2.0, 4.0]])})


def visible(life: LifeName, rows: GaussianParams, dt: float) -> float:
    return LIVES[life].visibility(rows, torch.tensor([dt])).item()


class TestLives:
    @pytest.mark.parametrize("life", NAMES)
    def test_at_its_own_time_a_gaussian_is_itself(self, life: LifeName):
        expert = build(life)
        generator = torch.Generator().manual_seed(1)
        for value in expert.parameters():
            value.data += 0.1 * torch.randn(value.shape, generator=generator)
        rows = expert.gauss_params
        for row in range(3):
            gaussians = expert.at(rows["time_centers"][row].detach() / expert.clip_seconds)
            torch.testing.assert_close(gaussians.means[row], rows["means"][row])
            torch.testing.assert_close(gaussians.opacities[row], rows["opacities"][row].sigmoid())

    @pytest.mark.parametrize("life", NAMES)
    def test_every_parameter_gets_a_gradient(self, life: LifeName):
        expert = build(life, lives_per_point=1)
        expert.active_sh_degree = 3
        generator = torch.Generator().manual_seed(1)
        for value in expert.parameters():
            value.data += 0.1 * torch.randn(value.shape, generator=generator)
        gaussians = expert.at(torch.tensor(0.3))
        values = (gaussians.means, gaussians.quats[:, :2], gaussians.scales, gaussians.opacities)
        total = sum((v.square().sum() for v in (*values, gaussians.sh)), torch.zeros(()))
        total.backward()
        for name, parameter in expert.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name

    def test_a_bell_has_the_duration_as_standard_deviation(self):
        rows = rows_of("bell", durations=math.log(0.3))
        for dt in (0.0, 0.1, -0.3, 0.7):
            assert visible("bell", rows, dt) == pytest.approx(math.exp(-0.5 * (dt / 0.3) ** 2))

    @pytest.mark.parametrize("raw", [-50.0, 0.0, 50.0])
    def test_gated_lives_last_a_sixth_of_a_second_at_most(self, raw: float):
        duration = LIVES["gated"].durations(rows_of("gated", durations=raw)).item()
        assert pytest.approx(1 / 6) == LONGEST
        assert 0.0 <= duration <= LONGEST * (1 + 1e-6)

    def test_a_gate_is_a_floor_under_the_bell(self):
        shut, open_, half = (rows_of("gated", gate_logits=value) for value in (-1.0, 1.0, 0.0))
        assert visible("gated", shut, 5.0) == pytest.approx(0.0, abs=1e-6)
        assert visible("gated", open_, 5.0) == pytest.approx(1.0, abs=1e-6)
        assert visible("gated", half, 5.0) == pytest.approx(0.5)
        bell = visible("gated", shut, 0.1)
        assert visible("gated", half, 0.1) == pytest.approx(0.5 + 0.5 * bell)
        assert bell == pytest.approx(math.exp(-0.5))

    def test_gates_are_open_for_what_may_be_there_always(self):
        gates = GatedLife().gates
        lasting, passing = build("gated"), build("gated", frames=torch.arange(12))
        assert float(gates(lasting.gauss_params).min()) > 0.5
        assert float(gates(passing.gauss_params).max()) < 1e-6

    def test_a_flat_top_is_flat_and_falls_as_a_bell_without_one_half(self):
        rows = rows_of("flat-top", durations=math.log(0.2), flat_halves=-0.3)
        assert [visible("flat-top", rows, dt) for dt in (-0.3, -0.1, 0.0, 0.29)] == [1.0] * 4
        for dt in (0.5, -0.5):
            assert visible("flat-top", rows, dt) == pytest.approx(math.exp(-1.0), rel=1e-5)

    def test_long_flat_lives_move_slowly(self):
        """x(t) = x + v / f · (t - T) with f = 1 + max(1, (duration + half)²)."""
        dt = torch.tensor([0.5])
        for duration, half, slowness in ((0.2, 0.3, 2.0), (2.0, 1.0, 10.0)):
            rows = rows_of("flat-top", durations=math.log(duration), flat_halves=half)
            moved = LIVES["flat-top"].displacement(rows, dt)
            torch.testing.assert_close(moved, 0.5 / slowness * rows["velocities"].data)


class TestHighestOpacity:
    def test_it_is_that_of_the_nearest_frame(self):
        expert = build(lives_per_point=1)
        rows = expert.gauss_params
        rows["opacities"].data.fill_(0.0)
        rows["durations"].data.fill_(math.log(0.01))
        centers = torch.tensor([10 / 30, 10.25 / 30, 10.5 / 30, -0.03, 1.02, 5.0])
        rows["time_centers"].data[:6] = centers
        away = torch.tensor([0.0, 0.25 / 30, 0.5 / 30, 0.03, 0.02, 4.0])
        expected = 0.5 * torch.exp(-0.5 * (away / 0.01) ** 2)
        torch.testing.assert_close(expert.highest_opacities()[:6], expected)
        frames = [expert.at(torch.tensor(frame / 30)).opacities for frame in range(31)]
        torch.testing.assert_close(expert.highest_opacities(), torch.stack(frames).amax(0).detach())
