"""Neighbours in canonical space and the differences of their embeddings."""

import pytest
import torch
from tolerances import FORWARD, assert_gradients_agree

from moegs_ns.experts.ed3dgs.embedding_smoothness import (
    SHARPNESS,
    Neighbours,
    embedding_penalty,
    find_neighbours,
    reference_penalty,
    sparse_penalty,
)

COUNT, NEAREST = 40, 5
DEVICES = [
    pytest.param(
        "cpu",
        marks=pytest.mark.skipif(
            not torch.backends.mkl.is_available(), reason="needs MKL for sparse products on a CPU"
        ),
    ),
    pytest.param("cuda", marks=pytest.mark.gpu),
]


@pytest.fixture
def means(generator: torch.Generator) -> torch.Tensor:
    return 0.1 * torch.rand(COUNT, 3, generator=generator)


def plain(means, embeddings, nearest: int, unit: float = 1.0):
    """The definition, pair by pair, over sorted distances."""
    total = torch.zeros(())
    for i in range(len(means)):
        distances = (means - means[i]).norm(dim=-1) / unit
        distances[i] = torch.inf
        for k in distances.argsort()[:nearest]:
            weight = torch.exp(-SHARPNESS * distances[k] ** 2)
            total = total + torch.sqrt(
                weight * (embeddings[i] - embeddings[k]).square().sum() + 1e-20
            )
    return total / (len(means) * nearest)


def test_it_is_the_published_mean_over_the_nearest(means, generator):
    results = []
    for is_plain in (True, False):
        draws = torch.Generator().manual_seed(1)
        embeddings = torch.randn(COUNT, 4, generator=draws).requires_grad_()
        if is_plain:
            value = plain(means, embeddings, NEAREST)
        else:
            value = embedding_penalty(embeddings, find_neighbours(means, NEAREST, 1.0))
        results.append((value, torch.autograd.grad(value, embeddings)[0]))
    FORWARD.assert_close(results[1][0], results[0][0])
    assert_gradients_agree(results[1][1], results[0][1])
    assert float(results[0][0]) > 1e-3


def test_equal_embeddings_cost_nothing_and_have_a_finite_slope(means):
    embeddings = torch.ones(COUNT, 4, requires_grad=True)
    value = embedding_penalty(embeddings, find_neighbours(means, NEAREST, 1.0))
    value.backward()
    assert float(value) < 1e-9
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all() and float(embeddings.grad.abs().max()) == 0.0


def test_each_pair_is_listed_once_in_each_direction(means):
    found = find_neighbours(means, NEAREST, 1.0)
    matrix = found.matrix(found.roots).to_dense()
    assert torch.equal(matrix, matrix.T) and float(matrix.diagonal().abs().max()) == 0.0
    assert torch.equal(matrix.nonzero(), torch.stack([found.rows, found.others], dim=1).long())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-5])
@pytest.mark.parametrize("size", [4, 7, 32])
def test_both_ways_to_sum_agree_also_where_embeddings_nearly_do(
    means, generator, apart, size, device
):
    """Gaussians that were cloned have the same embedding at first and drift apart slowly."""
    neighbours = find_neighbours(means.to(device), NEAREST, 1.0)
    clones = torch.randn(4, size, generator=generator)
    moved = apart * torch.randn(COUNT, size, generator=generator)
    # Half of them are exactly equal.
    moved[torch.rand(COUNT, generator=generator) < 0.5] = 0.0
    embeddings = clones[torch.arange(COUNT) % 4] + moved
    results = []
    # The plain sum in double precision too, so that what is compared with is no rounding itself.
    for measure, dtype in ((reference_penalty, torch.double), (sparse_penalty, torch.float)):
        at = embeddings.to(device, dtype).requires_grad_()
        value = measure(at, neighbours)
        results.append((value.float(), torch.autograd.grad(3.0 * value, at)[0].float()))
    FORWARD.assert_close(results[1][0], results[0][0])
    assert_gradients_agree(results[1][1], results[0][1])


def test_the_unit_of_the_scene_does_not_matter(means):
    one, other = find_neighbours(means, NEAREST, 1.0), find_neighbours(10 * means, NEAREST, 10.0)
    assert torch.equal(one.rows, other.rows) and torch.equal(one.others, other.others)
    FORWARD.assert_close(one.roots, other.roots)


def test_far_pairs_count_in_the_mean_but_are_not_listed(means):
    far = torch.cat([means, means + 50.0])
    one, both = find_neighbours(means, 60, 1.0), find_neighbours(far, 60, 1.0)
    assert (one.total, both.total) == (COUNT * 39, 2 * COUNT * 60)
    assert len(both.rows) == 2 * len(one.rows)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_gaussians_have_fewer_neighbours(count):
    means, embeddings = torch.zeros(count, 3), torch.rand(count, 4, requires_grad=True)
    neighbours = find_neighbours(means, NEAREST, 1.0)
    assert neighbours.total == len(neighbours.rows) == count * max(0, count - 1)
    assert embedding_penalty(embeddings, neighbours).isfinite()


def test_gaussians_in_one_place_are_not_their_own_neighbours():
    """Clones begin where their parents are."""
    neighbours = find_neighbours(torch.zeros(8, 3), 3, 1.0)
    assert (neighbours.rows != neighbours.others).all()


def test_the_state_is_plain_and_comes_back(means, tmp_path):
    neighbours = find_neighbours(means, NEAREST, 1.0)
    torch.save(neighbours.state(), tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    again = Neighbours.from_state(state, means.device)
    for name in ("starts", "rows", "others", "roots"):
        assert torch.equal(getattr(again, name), getattr(neighbours, name))
    assert again.total == neighbours.total
