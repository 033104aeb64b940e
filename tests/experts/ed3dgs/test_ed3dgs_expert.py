"""The E-D3DGS expert: embeddings of times and Gaussians, decoders, clocks of cameras."""

from typing import Any

import numpy as np
import pytest
import torch
from ed3dgs_helpers import build_expert
from tolerances import FORWARD, GRADIENT, assert_gradients_agree
from torch.nn import functional
from training_helpers import FRAMES, cloud, scene

from moegs_ns.experts.deformation_heads import DeformationHeads, decoded
from moegs_ns.experts.ed3dgs.expert import PUBLISHED_EXTENT, ED3DGSExpertConfig, TimeGrid


class TestTimeGrid:
    def expected(self, values, time: float, rows: int):
        """Linear interpolation twice, in plain numpy; time turns round at both ends."""
        values, time = values.detach().double().numpy(), 1.0 - abs(1.0 - abs(time))
        old, new = np.linspace(0, 1, len(values)), np.linspace(0, 1, rows)
        columns = [np.interp(new, old, column) for column in values.T]
        return torch.tensor([np.interp(time, new, column) for column in columns]).float()

    @pytest.mark.parametrize("rows", [2, 3, 7, 10])
    @pytest.mark.parametrize("time", [0.0, 0.04, 0.5, 0.93, 1.0, -0.03, 1.02])
    def test_it_is_resampled_and_then_interpolated(self, rows, time):
        torch.manual_seed(0)
        grid = TimeGrid(10, 5, spread=1.0)
        FORWARD.assert_close(grid(torch.tensor(time), rows), self.expected(grid.values, time, rows))

    def test_all_rows_learn_and_so_does_the_time(self):
        torch.manual_seed(0)
        grid, time = TimeGrid(6, 4, spread=1.0), torch.tensor(0.5, requires_grad=True)
        grid(time, 2).sum().backward()
        assert time.grad is not None
        # Two rows are the first and the last one.
        assert grid.values.grad is not None
        assert grid.values.grad.abs().sum(1).nonzero()[:, 0].tolist() == [0, 5]
        slope = 1.0 * (grid.values[5] - grid.values[0]).sum()
        torch.testing.assert_close(time.grad, slope)

    def test_the_initial_length_is_as_published(self):
        torch.manual_seed(0)
        assert float(TimeGrid(200, 256, 0.01).values.std()) == pytest.approx(6.25e-4, rel=0.02)
        assert float(TimeGrid(200, 256, 0.0).values.abs().max()) == 0.0

    def test_its_size_follows_the_number_of_frames(self):
        expert = ED3DGSExpertConfig().setup(scene=scene(300))
        assert expert.time_grid.values.shape == (150, 256)
        assert (expert.coarse_rows, expert.fine_rows) == (30, 150)


class TestDecoders:
    def test_the_split_trunk_is_the_concatenated_layer(self):
        expert = build_expert()
        decoder: Any = expert.decoders["coarse"]
        cotangent = torch.randn(12, 59)
        results = []
        for is_split in (True, False):
            embeddings = torch.randn(12, 6, generator=torch.Generator().manual_seed(1))
            time = torch.linspace(-1, 1, 24)
            inputs = [embeddings.requires_grad_(), time.requires_grad_()]
            if is_split:
                offsets = decoded(inputs[0], [decoder.at(inputs[1])])
            else:
                joined = torch.cat([inputs[1].expand(12, 24), inputs[0]], dim=1)
                offsets = decoder.heads(decoder.trunk(joined))
            together = torch.cat(list(offsets.values()), dim=1)
            sources = [*inputs, decoder.trunk.weight, decoder.trunk.bias]
            results.append((together, torch.autograd.grad(together, sources, cotangent)))
        FORWARD.assert_close(results[0][0], results[1][0])
        for one, other in zip(results[0][1], results[1][1], strict=True):
            assert_gradients_agree(one, other, GRADIENT)

    def test_heads_side_by_side_are_the_heads_one_by_one(self):
        torch.manual_seed(0)
        heads = DeformationHeads(ED3DGSExpertConfig(width=8, sh_degree=1))
        hidden = torch.randn(5, 8, requires_grad=True)
        together, apart = heads(hidden), {name: head(hidden) for name, head in heads.items()}
        sources = [hidden, *heads.parameters()]
        gradients = []
        for results in (together, apart):
            cotangents = {n: torch.ones_like(v).cumsum(0) for n, v in results.items()}
            products = ((results[n] * cotangents[n]).sum() for n in results)
            total = sum(products, torch.zeros(()))
            gradients.append(torch.autograd.grad(total, sources))
        for name, value in apart.items():
            FORWARD.assert_close(together[name], value, name)
        for one, other in zip(*gradients, strict=True):
            assert_gradients_agree(one, other)
        assert set(heads(hidden, ["quats", "sh"])) == {"quats", "sh"}
        assert heads(hidden, []) == {}

    def test_layers_begin_as_torch_makes_them(self):
        """Unlike 4DGaussians', whose weights are drawn from wider intervals."""
        expert = ED3DGSExpertConfig().setup(scene=scene())
        decoder: Any = expert.decoders["fine"]
        weight = decoder.trunk.weight
        assert float(weight.abs().max()) == pytest.approx(288**-0.5, rel=0.01)

    def test_offsets_are_the_sum_of_both_decoders_in_raw_spaces(self):
        expert, time = build_expert(), torch.tensor(0.4)
        clip_time = expert.clip_time(time)
        raw, sums = expert.gauss_params, {}
        for name, rows in (("coarse", expert.coarse_rows), ("fine", expert.fine_rows)):
            decoder: Any = expert.decoders[name]
            seen = expert.time_grid(clip_time, rows)
            inputs = torch.cat([seen.expand(12, -1), raw["embeddings"]], dim=1)
            for head, layers in decoder.heads.items():
                sums[head] = sums.get(head, 0.0) + layers(decoder.trunk(inputs))
        gaussians = expert.at(time)
        # Positions move in units in which the scene has the published extent.
        unit = expert.scene.extent / PUBLISHED_EXTENT
        FORWARD.assert_close(gaussians.means, raw["means"] + unit * sums["means"])
        FORWARD.assert_close(gaussians.scales, (raw["scales"] + sums["scales"]).exp())
        quats = functional.normalize(raw["quats"] + sums["quats"], dim=-1)
        FORWARD.assert_close(gaussians.quats, quats)
        opacities = (raw["opacities"] + sums["opacities"][:, 0]).sigmoid()
        FORWARD.assert_close(gaussians.opacities, opacities)
        sh = torch.cat([raw["sh0"], raw["shN"]], 1) + sums["sh"].reshape(12, 16, 3)
        FORWARD.assert_close(gaussians.sh, sh)

    def test_weights_scale_what_they_should(self):
        expert, time = build_expert(), torch.tensor(0.4)
        whole = expert.offsets(time)
        expert.set_weights(0.5, 0.2)
        expected = {"means": 0.5, "quats": 0.5, "scales": 0.1, "opacities": 0.1, "sh": 0.2}
        for name, value in expert.offsets(time).items():
            FORWARD.assert_close(value, expected[name] * whole[name], name)
        expert.set_weights(0.5, 0.0)
        assert set(expert.offsets(time)) == {"means", "quats"}

    def test_heads_can_be_left_out(self):
        expert = build_expert(deform_opacity=False, deform_sh=False)
        decoder: Any = expert.decoders["fine"]
        assert set(decoder.heads) == {"means", "scales", "quats"}
        gaussians = expert.at(torch.tensor(0.7))
        raw = expert.gauss_params
        torch.testing.assert_close(gaussians.opacities, raw["opacities"].sigmoid())
        torch.testing.assert_close(gaussians.sh, torch.cat([raw["sh0"], raw["shN"]], 1))


class TestClocks:
    def test_time_counts_in_frames_over_their_number(self):
        expert = build_expert()
        expert.time_offsets.data.zero_()
        last = (FRAMES - 1) / FRAMES
        torch.testing.assert_close(expert.clip_time(torch.tensor(1.0)), torch.tensor(last))

    def test_a_training_camera_has_its_own_offset_and_others_the_mean(self):
        expert = build_expert(described=scene(camera_ids=(2, 5, 400)))
        expert.time_offsets.data = torch.tensor([0.01, -0.02, 0.07])
        offset = expert.time_offset
        assert [float(offset(torch.tensor(c))) for c in (2, 5, 400)] == pytest.approx(
            [0.01, -0.02, 0.07]
        )
        assert float(offset(None)) == float(offset(torch.tensor(3))) == pytest.approx(0.02)
        time = torch.tensor(0.5)
        own, neutral = expert.at(time, torch.tensor(5)), expert.at(time)
        assert not torch.equal(own.means, neutral.means)
        expert.time_offsets.data[:] = 0.02
        FORWARD.assert_close(expert.at(time, torch.tensor(5)).means, neutral.means)

    def test_only_the_seen_camera_learns(self):
        expert = build_expert(described=scene(camera_ids=(2, 5, 400)))
        expert.at(torch.tensor(0.5), torch.tensor(5)).means.sum().backward()
        assert expert.time_offsets.grad is not None
        assert expert.time_offsets.grad.nonzero().tolist() == [[1]]

    def test_unknown_cameras_are_all_alike(self):
        expert = build_expert(described=scene(camera_ids=()))
        for camera in (None, torch.tensor(3)):
            assert float(expert.time_offset(camera)) == 0.0
            assert len(expert.at(torch.tensor(0.5), camera)) == 12

    def test_an_expert_loads_where_other_cameras_train(self):
        expert = build_expert(described=scene(camera_ids=(2, 5, 400)))
        other = expert.config.setup(scene=scene(camera_ids=(2, 5)))
        other.load_state_dict(expert.state_dict())
        for camera in (None, torch.tensor(400)):
            assert torch.equal(other.time_offset(camera), expert.time_offset(camera))


def test_a_trained_expert_opens_as_it_was():
    """Nobody tells it the step, which the released code has to be told to render."""
    expert, time = build_expert(), torch.tensor(0.3)
    expert.fine_rows = 7
    expert.set_weights(0.4, 0.6)
    other = expert.config.setup(scene=expert.scene)
    other.load_state_dict(expert.state_dict())
    assert torch.equal(other.at(time).means, expert.at(time).means)
    assert torch.equal(other.at(time).sh, expert.at(time).sh)


def test_no_gaussians_work():
    expert = build_expert(count=0)
    gaussians = expert.at(torch.tensor(0.3))
    assert len(gaussians) == 0 and gaussians.sh.shape == (0, 16, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_rows": 0}, "coarse-time-rows between 1 and.*which is 0, got 3"),
        ({"time_rows": 5, "coarse_time_rows": 6}, "which is 5, got 6"),
        ({"embedding_size": 0}, "embedding-size, time-size and width of at least 1, got 0, 256"),
    ],
)
def test_sizes_that_make_no_network_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ED3DGSExpertConfig(**options).setup(scene=scene(), points=cloud(3))
