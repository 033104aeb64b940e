"""Terms of rigid motion: nothing for what moves as one rigid thing, something for all else."""

import math

import pytest
import torch
from torch import Tensor

from moegs_ns.experts.keyframes import Poses
from moegs_ns.experts.tracked.rigidity import (
    MotionErrors,
    Neighbourhoods,
    find_neighbourhoods,
    motion_errors,
)

COUNT, NEAREST, REACH = 40, 6, 10.0
TERMS = ("rigidity", "rotation", "isometry")


@pytest.fixture
def means(generator: torch.Generator) -> Tensor:
    return torch.rand(COUNT, 3, generator=generator).double()


@pytest.fixture
def quats(generator: torch.Generator) -> Tensor:
    quats = torch.randn(COUNT, 4, generator=generator).double()
    return torch.nn.functional.normalize(quats, dim=-1)


def neighbours_of(means: Tensor, count: int = NEAREST) -> Neighbourhoods:
    found = find_neighbourhoods(means[:, None].float(), count, REACH)
    return Neighbourhoods(found.others, found.weights.double(), found.spacings.double())


def half_turn(angle: float) -> tuple[Tensor, Tensor]:
    """Quaternion and matrix of a rotation about z."""
    c, s, half = math.cos(angle), math.sin(angle), angle / 2
    quat = torch.tensor([math.cos(half), 0.0, 0.0, math.sin(half)]).double()
    return quat, torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]).double()


def product(one: Tensor, other: Tensor) -> Tensor:
    """Of quaternions: the turn `other`, then `one`."""
    w, v = one[..., :1], one[..., 1:].expand(len(other), 3)
    w2, v2 = other[..., :1], other[..., 1:]
    real = w * w2 - (v * v2).sum(-1, keepdim=True)
    return torch.cat([real, w * v2 + w2 * v + torch.linalg.cross(v, v2)], dim=-1)


def moved(means: Tensor, quats: Tensor, angle: float, shift: float = 0.3) -> Poses:
    """All turned about the origin and shifted as one."""
    quat, matrix = half_turn(angle)
    return Poses(means @ matrix.T + shift, product(quat, quats))


def values(errors: MotionErrors) -> list[float]:
    return [float(getattr(errors, name)) for name in TERMS]


def test_a_rigid_motion_of_the_whole_costs_nothing(means: Tensor, quats: Tensor):
    now, soon, other = (moved(means, quats, angle) for angle in (0.0, 0.4, -1.3))
    errors = motion_errors(now, soon, other, neighbours_of(means))
    assert values(errors) == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)


def test_a_stretch_costs_rigidity_and_isometry(means: Tensor, quats: Tensor):
    still, stretched = Poses(means, quats), Poses(1.1 * means, quats)
    neighbours = neighbours_of(means)
    soon = values(motion_errors(still, stretched, still, neighbours))
    assert soon[0] > 0.05 and soon[1:] == pytest.approx([0.0, 0.0], abs=1e-9)
    later = values(motion_errors(still, still, stretched, neighbours))
    assert later[2] > 0.05 and later[:2] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_turning_in_place_beside_resting_neighbours_costs_rotation_and_rigidity(
    means: Tensor, quats: Tensor
):
    turned = quats.clone()
    turned[0] = product(half_turn(0.02)[0], quats[:1])[0]
    still, soon = Poses(means, quats), Poses(means, turned)
    rigidity, rotation, isometry = values(motion_errors(still, soon, still, neighbours_of(means)))
    assert rigidity > 0.0 and rotation > 0.0 and isometry == pytest.approx(0.0, abs=1e-9)


def test_the_rotation_term_is_half_the_angle_between_turns():
    """Two Gaussians, the only neighbours of each other."""
    means = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).double()
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).double().repeat(2, 1)
    turned = torch.stack([quats[0], half_turn(0.3)[0]])
    still, soon = Poses(means, quats), Poses(means, turned)
    errors = motion_errors(still, soon, still, neighbours_of(means))
    # Half the angle, but for softness at small errors; the chord of 0.3 is 0.1 % shorter.
    assert float(errors.rotation) == pytest.approx(0.15, rel=0.02)


def test_errors_are_in_spacings(means: Tensor, quats: Tensor):
    found = []
    for size in (1.0, 100.0):
        still, soon = Poses(size * means, quats), Poses(size * 1.1 * means, quats)
        neighbours = find_neighbourhoods(size * means[:, None].float(), NEAREST, size * REACH)
        neighbours = Neighbourhoods(
            neighbours.others, neighbours.weights.double(), neighbours.spacings.double()
        )
        found.append(values(motion_errors(still, soon, soon, neighbours)))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_gradients_are_exact_and_finite_where_nothing_moves(means: Tensor, quats: Tensor):
    neighbours = neighbours_of(means[:6], 3)
    rest = Poses(means[:6], quats[:6])
    leaf = means[:6].clone().requires_grad_()
    turned = moved(means[:6], quats[:6], 0.2)

    def terms(positions: Tensor) -> Tensor:
        errors = motion_errors(Poses(positions, quats[:6]), turned, rest, neighbours)
        return errors.rigidity + errors.rotation + errors.isometry

    shifted = (means[:6] + 0.1 * quats[:6, :3]).requires_grad_()
    assert torch.autograd.gradcheck(terms, (shifted,))
    errors = motion_errors(Poses(leaf, quats[:6]), rest, rest, neighbours)
    (errors.rigidity + errors.rotation + errors.isometry).backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all()


class TestNeighbourhoods:
    def test_nearer_ones_weigh_more_and_all_weigh_one(self, means: Tensor):
        found = neighbours_of(means)
        apart = (means[found.others] - means[:, None]).norm(dim=-1)
        assert (apart.diff(dim=1) >= -1e-6).all() and (found.weights.diff(dim=1) <= 1e-9).all()
        torch.testing.assert_close(found.weights.sum(1), torch.ones(COUNT).double())
        spacing = apart[:, :3].square().mean(1).sqrt()
        torch.testing.assert_close(found.spacings, spacing, rtol=1e-5, atol=0.0)
        expected = torch.exp(-0.5 * (apart / (2 * spacing[:, None])) ** 2)
        expected = expected / expected.sum(1, keepdim=True)
        torch.testing.assert_close(found.weights, expected, rtol=1e-4, atol=1e-7)

    def test_what_passes_by_is_no_neighbour(self):
        """Two crowds are at one place at one of three times."""
        here = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
        shift = torch.tensor([5.0, 0.0, 0.0])
        paths = torch.stack([torch.cat([here, here + k * shift]) for k in (-1, 0, 1)], dim=1)
        found = find_neighbourhoods(paths, 7, 100.0)
        assert ((found.others < 8) == (torch.arange(16)[:, None] < 8)).all()

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_few_gaussians_have_few_neighbours(self, count: int):
        found = find_neighbourhoods(torch.zeros(count, 1, 3), 20, REACH)
        assert found.others.shape == (count, max(0, count - 1))
        assert found.weights.isfinite().all() and found.spacings.isfinite().all()

    def test_clones_at_one_place_are_finite(self):
        found = find_neighbourhoods(torch.zeros(5, 2, 3), 3, REACH)
        assert (found.spacings > 0).all()
        torch.testing.assert_close(found.weights, torch.full((5, 3), 1 / 3))

    def test_the_state_is_plain_and_comes_back(self, means: Tensor, tmp_path):
        found = neighbours_of(means)
        torch.save(found.state(), tmp_path / "state")
        state = torch.load(tmp_path / "state", weights_only=True)
        again = Neighbourhoods.from_state(state, torch.device("cpu"))
        for name, value in vars(found).items():
            assert torch.equal(getattr(again, name), value), name
