import os

import jaxtyping
import pytest
import torch
from tolerances import EXACT
from toys import make_gaussians

from moegs_ns.gaussians import DEFAULT_EPS2D, Gaussians
from moegs_ns.splatting.projection import view_colors


def test_rows_must_match_the_means(toy_gaussians, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    fields = dict(vars(toy_gaussians), opacities=toy_gaussians.opacities[:-1])
    with pytest.raises(ValueError, match=r"Gaussians\.opacities has 47 rows, but there are 48"):
        Gaussians(**fields)
    with pytest.raises(ValueError, match="eps2d"):
        Gaussians(**dict(vars(toy_gaussians), eps2d=torch.ones(3)))


def test_select_keeps_ids_of_the_source(toy_gaussians):
    picked = toy_gaussians.select(torch.tensor([7, 3, 11]))
    EXACT.assert_close(picked.ids, torch.tensor([7, 3, 11]))
    EXACT.assert_close(picked.means, toy_gaussians.means[[7, 3, 11]])
    EXACT.assert_close(picked.select(torch.tensor([False, True, True])).ids, torch.tensor([3, 11]))


def test_select_takes_per_gaussian_options_along(generator):
    gaussians = make_gaussians(
        generator,
        4,
        features=torch.arange(8.0).reshape(4, 2),
        eps2d=torch.tensor([0.1, 0.2, 0.3, 0.4]),
        antialiased=torch.tensor([True, False, True, False]),
    )
    picked = gaussians.select(torch.tensor([True, False, False, True]))
    EXACT.assert_close(picked.features, torch.tensor([[0.0, 1.0], [6.0, 7.0]]))
    EXACT.assert_close(picked.eps2d, torch.tensor([0.1, 0.4]))
    EXACT.assert_close(picked.antialiased, torch.tensor([True, False]))


def test_detach_cuts_the_graph_and_keeps_values(toy_gaussians):
    fields = dict(vars(toy_gaussians), means=toy_gaussians.means.clone().requires_grad_())
    attached = Gaussians(
        **fields,
    )
    detached = attached.detach()
    assert attached.means.requires_grad and not detached.means.requires_grad
    EXACT.assert_close(detached.means, toy_gaussians.means)


def test_cat_pads_shorter_spherical_harmonics_and_features(generator):
    plain = make_gaussians(generator, 3, degree=0)
    rich = make_gaussians(generator, 2, degree=2, features=torch.ones(2, 5))
    both = Gaussians.cat([plain, rich])
    assert both.sh.shape == (5, 9, 3) and both.ids is None
    EXACT.assert_close(both.sh[:3, :1], plain.sh)
    assert not both.sh[:3, 1:].any()
    EXACT.assert_close(both.features, torch.cat([torch.zeros(3, 5), torch.ones(2, 5)]))


def test_cat_keeps_a_shared_dilation_plain_and_spreads_different_ones(generator):
    a = make_gaussians(generator, 2)
    b = make_gaussians(generator, 3, eps2d=0.1, antialiased=True)
    assert Gaussians.cat([a, a]).eps2d == DEFAULT_EPS2D
    both = Gaussians.cat([a, b])
    EXACT.assert_close(both.eps2d, torch.tensor([0.3, 0.3, 0.1, 0.1, 0.1]))
    EXACT.assert_close(both.antialiased, torch.tensor([False, False, True, True, True]))


def test_cat_of_nothing_but_empty_sets(generator):
    empty = make_gaussians(generator, 0)
    assert len(Gaussians.cat([empty, empty])) == 0
    assert Gaussians.cat([empty, empty]).sh.shape == (0, 9, 3)
    with pytest.raises(ValueError, match="empty list"):
        Gaussians.cat([])


@pytest.mark.skipif(
    os.environ.get("MOEGS_CHECK_SHAPES") == "0", reason="MOEGS_CHECK_SHAPES=0 turns checks off"
)
def test_every_test_runs_under_the_checker_of_shapes():
    """A wrong shape is refused by the constructor and by a function."""
    pytest.importorskip("beartype")
    sh, position = torch.zeros(2, 4, 3), torch.zeros(3)
    view_colors(sh, torch.ones(2, 3), position)
    with pytest.raises(jaxtyping.TypeCheckError):
        view_colors(sh, torch.ones(5, 3), position)
    with pytest.raises(jaxtyping.TypeCheckError):
        Gaussians(torch.zeros(2, 2), torch.zeros(2, 4), torch.ones(2, 3), torch.ones(2), sh[:, :1])
