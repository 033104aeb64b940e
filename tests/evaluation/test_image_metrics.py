"""Figures of single images and of mixtures on flat images, whose errors are known by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from moegs_ns.evaluation import image_metrics as image_metrics_module
from moegs_ns.evaluation.baselines import BLURS, FUSED, mixture_metrics
from moegs_ns.evaluation.image_metrics import (
    all_metrics,
    away_from_border,
    image_metrics,
    psnr,
    scalar_psnr,
    ssim,
)

SIZE = 16
TRUTH = 0.4
"""102 of 255; the other colours here are whole numbers of 255 as well."""


def flat(value: float) -> Tensor:
    return torch.full((SIZE, SIZE, 3), value)


def decibels(*differences: float) -> float:
    """PSNR of the mean of these squared."""
    return -10.0 * math.log10(sum(d * d for d in differences) / len(differences))


def left(columns: int) -> Tensor:
    mask = torch.zeros(SIZE, SIZE, 1, dtype=torch.bool)
    mask[:, :columns] = True
    return mask


def halves(first: float, second: float) -> Tensor:
    return torch.where(left(SIZE // 2), flat(first), flat(second))


class TestImages:
    def test_all_pixels_count_without_a_mask(self):
        metrics, truth = image_metrics(halves(0.6, 0.8), {"image": flat(TRUTH)})
        assert metrics.keys() == {"psnr", "ssim"}
        assert metrics["psnr"] == pytest.approx(decibels(0.2, 0.4), abs=1e-4)
        assert metrics["ssim"] == pytest.approx(float(ssim(halves(0.6, 0.8), flat(TRUTH))))
        torch.testing.assert_close(truth, flat(TRUTH))

    def test_only_what_a_mask_has_counts(self):
        image = halves(0.6, 0.8)
        metrics, truth = image_metrics(image, {"image": flat(TRUTH), "mask": left(8)})
        assert metrics["psnr"] == pytest.approx(decibels(0.2), abs=1e-4)
        black = torch.where(left(8), image, flat(0.0)), torch.where(left(8), truth, flat(0.0))
        assert metrics["ssim"] == pytest.approx(float(ssim(*black, left(8))))
        assert metrics["ssim"] != pytest.approx(float(ssim(*black)), abs=1e-3)

    def test_pixels_move_only_where_they_count(self):
        moving = torch.zeros(SIZE, SIZE, 1, dtype=torch.bool)
        moving[:, 4:12] = True
        image = torch.where(left(4), flat(TRUTH), halves(0.6, 0.8))
        batch = {"image": flat(TRUTH), "is_moving": moving}
        both, _ = image_metrics(image, batch)
        assert both["psnr_dynamic"] == pytest.approx(decibels(0.2, 0.4), abs=1e-4)
        one, _ = image_metrics(image, batch | {"mask": left(8)})
        assert one["psnr_dynamic"] == pytest.approx(decibels(0.2), abs=1e-4)
        none, _ = image_metrics(image, batch | {"mask": left(4)})
        assert "psnr_dynamic" not in none and "psnr" in none

    def test_there_is_no_figure_where_nothing_counts(self):
        batch = {"image": flat(TRUTH), "mask": left(0)}
        metrics, truth = image_metrics(flat(0.6), batch)
        assert metrics == {} and truth.shape == (SIZE, SIZE, 3)
        assert all_metrics(flat(0.6), batch) == {}

    def test_there_is_no_structure_where_only_the_border_counts(self):
        metrics, _ = image_metrics(flat(0.6), {"image": flat(TRUTH), "mask": left(3)})
        assert metrics.keys() == {"psnr"}

    def test_windows_of_five_pixels_around_lie_within_the_image(self):
        inside = away_from_border(left(SIZE))[..., 0]
        rows = torch.nonzero(inside.any(1))[:, 0].tolist()
        assert rows == torch.nonzero(inside.any(0))[:, 0].tolist() == list(range(5, SIZE - 5))
        wide = away_from_border(torch.ones(SIZE, 30, 1, dtype=torch.bool))
        assert int(wide.sum()) == (SIZE - 10) * 20
        assert not away_from_border(left(5)).any() and away_from_border(left(6)).any()

    def test_psnr_under_a_mask_is_that_of_its_pixels(self):
        assert float(psnr(halves(0.6, 0.8), flat(TRUTH), left(4))) == pytest.approx(
            decibels(0.2), abs=1e-4
        )
        assert math.isnan(float(psnr(flat(0.6), flat(TRUTH), left(0))))

    def test_psnr_in_logs_is_that_of_what_counts(self):
        found = scalar_psnr(halves(0.6, 1.8), flat(TRUTH), left(8))
        assert float(found) == pytest.approx(decibels(0.2), abs=1e-4)
        found = scalar_psnr(halves(0.6, 1.8), flat(TRUTH))
        assert float(found) == pytest.approx(decibels(0.2, 0.6), abs=1e-4)

    def test_lpips_is_of_what_counts_in_eight_bits(self, monkeypatch):
        seen: list[tuple[Tensor, Tensor]] = []

        def lpips(image: Tensor, target: Tensor) -> float:
            seen.append((image, target))
            return 0.25

        monkeypatch.setattr(image_metrics_module, "lpips", lpips)
        batch = {"image": flat(TRUTH), "mask": left(8)}
        metrics, _ = image_metrics(halves(0.6 + 1e-4, 0.8), batch)
        assert metrics["lpips_alex"] == 0.25
        torch.testing.assert_close(seen[0][0], halves(0.6, 0.0))
        torch.testing.assert_close(seen[0][1], halves(TRUTH, 0.0))

    def test_other_conventions_see_what_counts_as_it_is_shown(self):
        batch = {"image": flat(TRUTH), "mask": left(8)}
        shown = all_metrics(halves(0.6, 0.8), batch)
        assert shown == pytest.approx(all_metrics(halves(0.6, 0.1), batch))
        assert shown == pytest.approx(all_metrics(halves(0.6 + 1e-4, 0.8), batch))
        assert shown["ssim_padded"] < all_metrics(halves(TRUTH, 0.8), batch)["ssim_padded"]


def outputs(**more: Tensor) -> dict[str, Tensor]:
    """Of a mixture of two experts, the first of which is better."""
    gate = halves(0.25, 0.75)[..., :1]
    shown = {"rgb": flat(0.6), "rgb_a": flat(0.2), "rgb_b": flat(1.0)}
    return shown | {"gate_a": gate, "gate_b": 1.0 - gate} | more


class TestMixtures:
    def figures(self, constant: Tensor | None = None, **batch: Any) -> dict[str, float]:
        return mixture_metrics(outputs(), {"image": flat(TRUTH)} | batch, ("a", "b"), constant)[0]

    def test_every_figure_is_that_of_its_image(self):
        found = self.figures(torch.tensor([0.25, 0.75]))
        expected = {
            "psnr": 0.2, "psnr_a": 0.2, "psnr_b": 0.6, "psnr_average": 0.2, "psnr_constant": 0.4,
            "psnr_oracle": 0.2,
        }  # fmt: skip
        for name, difference in expected.items():
            assert found[name] == pytest.approx(decibels(difference), abs=1e-4), name
        for blur in BLURS:
            assert found[f"psnr_oracle_{blur}"] == pytest.approx(decibels(0.2), abs=1e-4)
        assert found["gate_a"] == pytest.approx(0.5) and found["gate_b"] == pytest.approx(0.5)
        for name in ("ssim", "ssim_a", "ssim_b", "ssim_average", "ssim_constant", "ssim_padded"):
            assert 0.0 < found[name] < 1.0, name
        assert "psnr_constant" not in self.figures()

    def test_gates_are_those_of_pixels_that_count(self):
        found = self.figures(mask=left(8))
        assert found["gate_a"] == pytest.approx(0.25) and found["gate_b"] == pytest.approx(0.75)
        assert found["psnr_oracle"] == pytest.approx(decibels(0.2), abs=1e-4)
        assert self.figures(mask=left(0)) == {}

    def test_the_oracle_chooses_among_what_counts(self):
        """Beyond the mask the second expert is right; no blur brings that in."""
        images = outputs(rgb_b=halves(1.0, TRUTH))
        batch = {"image": flat(TRUTH), "mask": left(8)}
        found, _ = mixture_metrics(images, batch, ("a", "b"), None)
        for name in ("psnr_oracle", *(f"psnr_oracle_{blur}" for blur in BLURS)):
            assert found[name] == pytest.approx(decibels(0.2), abs=1e-4)

    def test_the_fused_set_has_figures_where_it_is_shown(self):
        batch = {"image": flat(TRUTH)}
        found, _ = mixture_metrics(outputs(**{FUSED: flat(0.8)}), batch, ("a", "b"), None)
        assert found[f"psnr_{FUSED}"] == pytest.approx(decibels(0.4), abs=1e-4)
        assert f"psnr_{FUSED}" not in self.figures()

    def test_images_are_within_range_and_beside_the_truth(self):
        shown = outputs(rgb=flat(1.5), rgb_a=flat(-0.5))
        _, images = mixture_metrics(shown, {"image": flat(TRUTH)}, ("a", "b"), None)
        assert images.keys() == {"img", "expert_a", "gate_a", "expert_b", "gate_b"}
        torch.testing.assert_close(images["img"], torch.cat([flat(TRUTH), flat(1.0)], dim=1))
        torch.testing.assert_close(images["expert_a"], flat(0.0))
        torch.testing.assert_close(images["expert_b"], flat(1.0))
        torch.testing.assert_close(images["gate_a"], halves(0.25, 0.75))
