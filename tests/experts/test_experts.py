"""Experts: what the parameters mean over time."""

import math
from dataclasses import replace

import pytest
import torch

from moegs_ns.experts.ed3dgs.expert import ED3DGSExpertConfig
from moegs_ns.experts.fourdgaussians.expert import (
    HexPlaneExpertConfig,
    HexPlaneLevel,
    axis_grid,
    read,
)
from moegs_ns.experts.freetime.expert import FreeTimeExpertConfig
from moegs_ns.experts.stg.expert import FRAMES_PER_UNIT, STGExpertConfig
from moegs_ns.experts.tracked.expert import TrackedExpertConfig
from moegs_ns.scene import InitialPoints, SceneInfo

SCENE = SceneInfo(11, 30.0, (0.0, 0.0, 0.0), 2.0, background=None, camera_ids=(0, 3))
CONFIGS = {
    "stg": STGExpertConfig(),
    "4dgaussians": HexPlaneExpertConfig(space_resolution=8),
    "ed3dgs": ED3DGSExpertConfig(),
    "freetime": FreeTimeExpertConfig(),
    "tracked": TrackedExpertConfig(sh_degree=3),
}


def points(count: int = 12) -> InitialPoints:
    """A random cloud whose points were seen over the clip."""
    generator = torch.Generator().manual_seed(0)
    return InitialPoints(
        xyz=torch.rand(count, 3, generator=generator),
        rgb=torch.rand(count, 3, generator=generator),
        frames=torch.arange(count) % SCENE.num_frames,
    )


@pytest.fixture(params=CONFIGS)
def expert(request: pytest.FixtureRequest):
    """Each family in turn, from the same cloud."""
    torch.manual_seed(0)
    built = CONFIGS[request.param].setup(scene=SCENE, points=points())
    built.active_sh_degree = 3
    if hasattr(built, "is_deforming"):
        built.is_deforming = True
    return built


def scrambled(expert):
    """The expert with every parameter moved off its initial value."""
    generator = torch.Generator().manual_seed(1)
    for parameter in expert.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return expert


def test_activated_values_are_in_their_ranges(expert):
    gaussians = scrambled(expert).at(torch.tensor(0.3))
    assert len(gaussians) == expert.num_gaussians == 12
    torch.testing.assert_close(gaussians.quats.norm(dim=-1), torch.ones(12))
    assert (gaussians.scales > 0).all()
    assert ((gaussians.opacities >= 0) & (gaussians.opacities <= 1)).all()
    assert gaussians.sh.shape == (12, 16, 3)


def test_an_expert_changes_continuously_with_time(expert):
    scrambled(expert)
    now, soon = expert.at(torch.tensor(0.5)), expert.at(torch.tensor(0.5 + 1e-4))
    later = expert.at(torch.tensor(0.9))
    assert (now.means - soon.means).abs().max() < 1e-3
    assert (now.means - later.means).abs().max() > 1e-3


def test_every_parameter_receives_a_gradient(expert):
    gaussians = scrambled(expert).at(torch.tensor(0.3))
    values = (gaussians.means, gaussians.quats[:, :2], gaussians.scales, gaussians.opacities)
    sum((value.square().sum() for value in (*values, gaussians.sh)), torch.zeros(())).backward()
    for name, parameter in expert.named_parameters():
        # Of one family all Gaussians may be of one of two kinds.
        is_idle = parameter.numel() == 0
        assert is_idle or (parameter.grad is not None and parameter.grad.abs().sum() > 0), name


def test_select_keeps_the_rows_and_leaves_the_source_alone(expert):
    scrambled(expert)
    keep = torch.arange(12) % 3 == 0
    fewer = expert.select(keep)
    assert (fewer.num_gaussians, expert.num_gaussians) == (4, 12)
    time = torch.tensor(0.7)
    torch.testing.assert_close(fewer.at(time).means, expert.at(time).means[keep])
    torch.testing.assert_close(fewer.at(time).sh, expert.at(time).sh[keep])


def test_loading_adopts_the_number_of_rows_in_place(expert):
    scrambled(expert)
    state = expert.state_dict()
    other = expert.config.setup(scene=SCENE)
    identities = {name: id(value) for name, value in other.named_parameters()}
    assert other.num_gaussians == 0
    other.load_state_dict(state)
    assert {name: id(value) for name, value in other.named_parameters()} == identities
    time = torch.tensor(0.4)
    torch.testing.assert_close(other.at(time).means, expert.at(time).means)
    assert other.active_sh_degree == 3


def test_a_trained_expert_keeps_extent_and_near_plane_wherever_it_is_opened(expert):
    """Also one whose state does not tell the rig, as those of 0.2."""
    scrambled(expert)
    elsewhere = replace(SCENE, center=(1.0, 0.0, 0.0), extent=7.0, rig_extent=9.0)
    for missing in ((), ("rig_center", "rig_extent")):
        other = expert.config.setup(scene=elsewhere)
        assert other.near == pytest.approx(7.0 * expert.config.near)
        state = {name: value for name, value in expert.state_dict().items() if name not in missing}
        other.load_state_dict(state)
        assert other.near == expert.near == pytest.approx(2.0 * expert.config.near)
        assert other.scene.rig == (other.scene.center, other.scene.extent) == SCENE.rig
        time = torch.tensor(0.4)
        assert torch.equal(other.at(time).means, expert.at(time).means)


def test_a_family_refuses_the_state_of_another():
    torch.manual_seed(0)
    stg, hexplane, *_ = (config.setup(scene=SCENE, points=points()) for config in CONFIGS.values())
    with pytest.raises(RuntimeError, match="Missing key"):
        stg.load_state_dict(hexplane.state_dict())


def test_an_expert_of_one_frame_and_one_point_works():
    scene = SceneInfo(num_frames=1, fps=0.0, center=(0.0, 0.0, 0.0), extent=1.0, background=None)
    cloud = InitialPoints(torch.zeros(1, 3), torch.ones(1, 3))
    for config in CONFIGS.values():
        assert config.setup(scene=scene, points=cloud).at(torch.tensor(0.0)).means.isfinite().all()


def test_the_background_of_transparent_images_wins_over_the_config():
    scene = SceneInfo(4, 0.0, (0.0, 0.0, 0.0), 1.0, background=(1.0, 1.0, 1.0))
    assert CONFIGS["stg"].setup(scene=scene).background.tolist() == [1.0, 1.0, 1.0]
    assert CONFIGS["stg"].setup(scene=SCENE).background.tolist() == [0.0, 0.0, 0.0]


class TestSTG:
    """Equations of the fact sheet, section 1.2."""

    def build(self, num_frames: int = 11):
        scene = SceneInfo(num_frames, 30.0, (0.0, 0.0, 0.0), 1.0, None)
        return scrambled(STGExpertConfig().setup(scene=scene, points=points()))

    def test_at_its_own_centre_a_gaussian_has_its_stored_values(self):
        expert = self.build()
        raw = expert.gauss_params
        for row in range(3):
            at = expert.at(raw["time_centers"][row].detach() / expert.duration)
            torch.testing.assert_close(at.means[row], raw["means"][row])
            torch.testing.assert_close(at.opacities[row], raw["opacities"][row].sigmoid())
            expected = torch.nn.functional.normalize(raw["quats"][row], dim=0)
            torch.testing.assert_close(at.quats[row], expected)

    def test_motion_is_a_cubic_polynomial(self):
        expert, time = self.build(), torch.tensor(0.8)
        raw, row = expert.gauss_params, 4
        dt = float(time * expert.duration - raw["time_centers"][row])
        b1, b2, b3 = raw["motion"][row].split(3)
        expected = raw["means"][row] + b1 * dt + b2 * dt**2 + b3 * dt**3
        torch.testing.assert_close(expert.at(time).means[row], expected)

    def test_opacity_is_a_bell_without_the_factor_one_half(self):
        expert, time = self.build(), torch.tensor(0.9)
        raw, row = expert.gauss_params, 2
        dt = float(time * expert.duration - raw["time_centers"][row])
        width = float(raw["time_log_scales"][row].exp())
        expected = float(raw["opacities"][row].sigmoid()) * math.exp(-((dt / width) ** 2))
        assert float(expert.at(time).opacities[row]) == pytest.approx(expected, rel=1e-5)

    def test_the_centre_in_time_learns_through_opacity_only(self):
        expert = self.build()
        centers = expert.gauss_params["time_centers"]
        gaussians = expert.at(torch.tensor(0.6))
        moved = gaussians.means.sum() + gaussians.quats[:, 0].sum()
        assert torch.autograd.grad(moved, centers, allow_unused=True)[0] is None
        fading = expert.at(torch.tensor(0.6)).opacities.sum()
        assert torch.autograd.grad(fading, centers)[0].abs().sum() > 0

    def test_random_centres_in_time_follow_the_machine_seed(self):
        """nerfstudio seeds torch with it before the model is built."""

        def centers(seed: int) -> torch.Tensor:
            torch.manual_seed(seed)
            torch.rand(seed)
            cloud = replace(points(), frames=None)
            return STGExpertConfig().setup(scene=SCENE, points=cloud).gauss_params["time_centers"]

        assert torch.equal(centers(1), centers(1))
        assert not torch.equal(centers(1), centers(2))

    def test_long_clips_count_time_in_units_of_fifty_frames(self):
        assert self.build(11).duration == 1.0
        assert self.build(3 * FRAMES_PER_UNIT + 1).duration == pytest.approx(3.0)


class TestHexPlane:
    """Facts of the sheet, section 1.1 and 1.2."""

    def build(self, **options):
        torch.manual_seed(0)
        config = HexPlaneExpertConfig(space_resolution=8, **options)
        return config.setup(scene=SCENE, points=points())

    def test_initial_time_planes_do_not_change_the_product(self):
        expert = self.build()
        means = expert.gauss_params["means"]
        early, late = expert.field_features(means, [torch.tensor(0.1), torch.tensor(0.9)])
        torch.testing.assert_close(early, late)
        assert early.shape == (12, 32)

    def test_the_coarse_stage_shows_the_canonical_gaussians(self):
        expert = self.build()
        assert not expert.is_deforming
        torch.testing.assert_close(expert.at(torch.tensor(0.8)).means, expert.gauss_params["means"])
        expert.is_deforming = True
        assert not torch.equal(expert.at(torch.tensor(0.8)).means, expert.gauss_params["means"])

    def test_the_stage_is_saved(self):
        expert, other = self.build(), self.build()
        expert.is_deforming = True
        other.load_state_dict(expert.state_dict())
        assert other.is_deforming

    @pytest.mark.parametrize(("full", "used"), [(False, 0.5), (True, 0.0)])
    def test_as_published_only_the_later_half_of_the_time_planes_is_read(self, full, used):
        expert = self.build(full_time_range=full, time_resolution=9)
        (features,) = expert.field_features(expert.gauss_params["means"], [torch.tensor(0.0)])
        planes = expert.planes[0].time
        gradient = torch.autograd.grad(features.sum(), planes)[0].abs().sum((0, 1, 3))
        assert int(gradient.nonzero()[0]) == round(used * (planes.shape[2] - 1))

    def test_the_field_is_that_of_nerfstudio_read_plane_by_plane(self):
        from nerfstudio.field_components.encodings import KPlanesEncoding

        planes = self.build(time_resolution=5, levels=(1,)).planes
        (level,) = planes.levels
        with torch.no_grad():
            level.time.uniform_(0.5, 1.5)
        other = KPlanesEncoding([8, 8, 8, 5], level.space.shape[1], reduce="product")
        for trio, places in ((level.space, (0, 1, 3)), (level.time, (2, 4, 5))):
            for plane, position in zip(trio, places, strict=True):
                other.plane_coefs[position].data = plane.detach().clone()
        position = (2.4 * torch.rand(9, 3) - 1.2).requires_grad_()
        time = torch.tensor(0.3)
        (ours,) = planes(position, [time])
        theirs = other(torch.cat([position, time.expand(9, 1)], dim=1))
        torch.testing.assert_close(ours, theirs)
        pull = torch.randn(ours.shape)
        torch.testing.assert_close(
            *(torch.autograd.grad(out, position, pull)[0] for out in (ours, theirs))
        )
        found = torch.autograd.grad(planes(position, [time])[0], level.time, pull)[0]
        theirs = other(torch.cat([position, time.expand(9, 1)], dim=1))
        expected = torch.autograd.grad(theirs, [other.plane_coefs[k] for k in (2, 4, 5)], pull)
        torch.testing.assert_close(found, torch.stack(expected))

    @pytest.mark.parametrize("time", [-1.0, -0.999, 0.0, 0.999, 1.0, 1.5])
    @pytest.mark.parametrize("cells", [1, 2, 5])
    def test_beyond_its_ends_time_stands_still(self, time, cells):
        level = HexPlaneLevel(4, 3, cells)
        with torch.no_grad():
            level.time.uniform_(0.5, 1.5)
        grid = axis_grid(torch.zeros(1, 3))
        found = read(level.lines(torch.tensor(time))[:, :, None], grid)
        position = (min(1.0, time) + 1.0) / 2.0 * (cells - 1)
        low, fraction = int(position), position - int(position)
        rows = level.time[..., 1]
        expected = torch.lerp(rows[:, :, low], rows[:, :, min(low + 1, cells - 1)], fraction)
        torch.testing.assert_close(found[..., 0], expected)

    @pytest.mark.parametrize("is_deforming", [False, True])
    def test_several_times_at_once_are_those_one_by_one(self, is_deforming):
        expert = scrambled(self.build())
        expert.is_deforming, found = is_deforming, []
        times = [torch.tensor(t) for t in (0.2, 0.7)]
        for sets in (expert.at_all(times, [None, None]), [expert.at(time) for time in times]):
            loss = sum(((1 + k) * one.means.square().sum() + one.sh.sum() + one.opacities.sum()
                        for k, one in enumerate(sets)), torch.zeros(()))  # fmt: skip
            gradients = torch.autograd.grad(loss, list(expert.parameters()), allow_unused=True)
            found.append((sets, gradients))
        for one, other in zip(*(sets for sets, _ in found), strict=True):
            torch.testing.assert_close(one.means, other.means)
            torch.testing.assert_close(one.sh, other.sh)
        for one, other in zip(*(gradients for _, gradients in found), strict=True):
            torch.testing.assert_close(one, other)

    def test_heads_can_be_left_out(self):
        expert = self.build(deform_opacity=False, deform_sh=False)
        expert.is_deforming = True
        expert.active_sh_degree = 3
        early, late = expert.at(torch.tensor(0.0)), scrambled(expert).at(torch.tensor(1.0))
        assert set(expert.decoder.heads) == {"means", "scales", "quats"}
        raw = expert.gauss_params["opacities"]
        torch.testing.assert_close(late.opacities, raw.sigmoid())
        assert early.sh.shape == late.sh.shape
