"""Errors attributed to Gaussians: against brute force, and without side effects."""

import pytest
import torch
from ex4dgs_helpers import DYNAMIC, build
from tolerances import FORWARD
from training_helpers import drawn

from moegs_ns.experts.ex4dgs import error_backtracking as backtracking
from moegs_ns.experts.ex4dgs.error_backtracking import UNSEEN, ErrorPruneConfig
from moegs_ns.splatting.projection import apply_eps2d, project
from moegs_ns.splatting.reference import rasterize
from moegs_ns.training.losses import similarity_map, structural_similarity


class TestBacktracking:
    def test_sums_equal_those_over_every_pixel_of_every_gaussian(self):
        expert, recipe, _ = build(static=9, dynamic=4)
        expert.gauss_params["scales"].data.fill_(-2.0)
        part = drawn(expert, to_rasterize=recipe.to_rasterize)
        backtracking.probe_loss(part, True).backward()
        assert part.render.projected.probes is not None
        found = part.render.projected.probes.grad
        assert found is not None
        gaussians = expert.at(part.view.time)
        projection = project(
            gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, part.view
        )
        projection = apply_eps2d(projection, 0.1, True)
        # One channel per Gaussian shows its contributions to all pixels.
        channels = torch.eye(part.render.projected.count)[projection.gaussian_ids]
        shape = 1, part.view.height, part.view.width
        ids = torch.zeros_like(projection.gaussian_ids)
        weights, _ = rasterize(projection, channels, ids, shape)
        maps = backtracking.error_maps(part, True)
        for channel, name in enumerate(("weights", "l1", "ssim")):
            expected = (weights * maps[..., channel, None]).sum((0, 1, 2))
            FORWARD.assert_close(found[:, channel], expected.detach(), name)
        assert found[:, 0].max() > 1.0

    def test_it_changes_neither_loss_nor_other_gradients(self):
        gradients = []
        for has_probes in (False, True):
            expert, recipe, _ = build(dynamic=DYNAMIC)
            expert.zero_grad()
            part = drawn(expert, to_rasterize=recipe.to_rasterize) if has_probes else drawn(expert)
            loss = (part.image - part.target).abs().mean()
            if has_probes:
                probe_loss = backtracking.probe_loss(part, True)
                assert probe_loss.item() == 0.0
                loss = loss + probe_loss
            loss.backward()
            gradients.append({n: p.grad.clone() for n, p in expert.named_parameters()})
        for name, gradient in gradients[0].items():
            FORWARD.assert_close(gradients[1][name], gradient, name)

    def test_similarity_at_every_pixel_agrees_with_the_loss_away_from_the_border(self, generator):
        images = torch.rand(2, 2, 30, 26, 3, generator=generator)
        found = similarity_map(*images)
        assert found.shape == (2, 30, 26, 1)
        expected = structural_similarity(*images)
        torch.testing.assert_close(found[:, 5:-5, 5:-5].mean((1, 2, 3)), expected)

    def test_means_minima_and_radii_are_kept(self):
        statistics = backtracking.fresh_statistics(3)
        views = [
            (7, [2.0, 0.0, 1e-3], [1.0, 0.0, 1e-4], [10, 0, 3]),
            (9, [1.0, 0.0, 1e-3], [0.1, 0.0, 1e-5], [5, 4, 3]),
            (11, [4.0, 0.0, 0.0], [2.0, 0.0, 0.0], [20, 4, 3]),
        ]
        for frame, weights, l1, radii in views:
            errors = torch.tensor([weights, l1, weights]).T
            backtracking.update_statistics(
                statistics, errors, torch.tensor(radii), torch.tensor(frame), 100
            )
        assert statistics["best_frames"].tolist() == [9.0, UNSEEN, UNSEEN]
        assert statistics["best_errors"][0].item() == pytest.approx(0.1)
        assert statistics["error_views"].tolist() == [3.0, 0.0, 2.0]
        assert statistics["l1_sums"][0].item() == pytest.approx(1.1)
        assert statistics["smallest_radii"].tolist() == pytest.approx([0.05, torch.inf, 0.03])

    def test_what_is_badly_drawn_or_hardly_shows_is_found(self):
        statistics = backtracking.fresh_statistics(5)
        statistics["error_views"][:] = 2.0
        statistics["l1_sums"] = torch.tensor([0.18, 0.1, 0.1, 0.1, 0.1])
        statistics["ssim_sums"] = torch.tensor([1.8, 1.1, 1.8, 0.0, 1.8])
        config = ErrorPruneConfig(max_fraction=1.0)
        bad = backtracking.has_large_errors(statistics, config)
        assert bad.tolist() == [True, True, False, False, False]
        worst = backtracking.has_large_errors(statistics, ErrorPruneConfig(max_fraction=0.2))
        assert worst.tolist() == [True, False, False, False, False]
        statistics["best_frames"] = torch.tensor([1.0, UNSEEN, 2.0, 0.0, 3.0])
        statistics["smallest_radii"] = torch.tensor([4.0, 9.0, 6.0, torch.inf, 5.1]) / 1014
        hardly = backtracking.hardly_shows(statistics, config)
        assert hardly.tolist() == [True, True, False, False, False]
