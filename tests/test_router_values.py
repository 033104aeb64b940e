"""Routers, gates and losses on numbers that are worked out by hand: what a mutation of a line must
not pass (`make mutation`)."""

import math
from typing import Any

import pytest
import torch
from mixture_helpers import SCENE

from moegs_ns.mixture.mixture import GateConfig, blurred
from moegs_ns.routers import (
    EVIDENCE,
    LogitCorrection,
    PixelRouterConfig,
    VolumeAwarePixelRouterConfig,
    VolumeRouterConfig,
    evidence_features,
)
from moegs_ns.training.losses import (
    Supervision,
    photometric_errors,
    structural_similarity,
    target_image,
)


def built(config: Any, counts: tuple[int, ...] = (3, 2)) -> Any:
    return config.setup(scene=SCENE, counts=list(counts))


# ---- routers ----


def test_the_volume_router_has_the_paper_s_weights_and_a_network_without_bias():
    router = built(VolumeRouterConfig())
    assert [list(rows) for rows in router.gaussian_weights] == [["w", "w_dir", "w_time"]] * 2
    linear = list(router.phi)[::2]
    shapes = [(tuple(layer.weight.shape), layer.bias) for layer in linear]
    assert shapes == [((6, 8), None), ((3, 6), None), ((1, 3), None)]
    assert router.config.hidden == (6, 3)
    assert built(PixelRouterConfig()).config.hidden == (32, 32)


def test_scores_of_the_volume_router_are_those_of_the_formula():
    """s = w + Φ(w_dir, t·w_time, ray), the ray from the camera to the Gaussian (Eq. 7)."""
    router = built(VolumeRouterConfig())
    generator = torch.Generator().manual_seed(0)
    for parameter in router.phi.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    features, means = torch.randn(2, 7, 3, generator=generator)
    camera = torch.tensor([0.3, -0.2, -2.0])
    rays = means - camera
    rays = rays / rays.norm(dim=1, keepdim=True)
    origins = ((camera - torch.tensor(SCENE.center)) / SCENE.extent).expand(7, 3)
    hidden = torch.cat([features[:, 1:], origins, rays], dim=1)
    first, second, last = (layer.weight for layer in list(router.phi)[::2])
    refined = ((hidden @ first.T).relu() @ second.T).relu() @ last.T
    assert refined.abs().amax() > 0.1
    torch.testing.assert_close(router(features, means, camera), features[:, 0] + refined[:, 0])


@pytest.mark.parametrize("size", [0, 2, -1])
def test_kernels_without_a_middle_are_refused(size: int):
    with pytest.raises(ValueError, match=r"router\.kernel-size expects an odd.*such as 1 or 3, go"):
        VolumeAwarePixelRouterConfig(kernel_size=size).check()
    for good in (1, 3):
        VolumeAwarePixelRouterConfig(kernel_size=good).check()


@pytest.mark.parametrize("size", [3, 5])
def test_a_larger_kernel_keeps_the_size_of_the_image(size: int):
    router = built(VolumeAwarePixelRouterConfig(kernel_size=size))
    logits = router(torch.rand(2, 4, 5, 3), *torch.rand(2, 4, 5, 3), torch.tensor(0.5))
    assert logits.shape == (2, 4, 5, 1)


def measured(counts: tuple[int, ...]) -> list[dict[str, torch.Tensor]]:
    """Evidence of experts in double precision, as it is summed."""
    return [
        {name: torch.arange(count).double() + k for k, name in enumerate(EVIDENCE)}
        for count in counts
    ]


def test_a_correction_keeps_what_was_measured_in_its_own_precision():
    correction = LogitCorrection([3, 2])
    assert not correction.is_fitted
    bias, slopes = torch.tensor([0.5, -0.5]).double(), torch.tensor([1.0, 2.0, 3.0]).double()
    correction.set_(measured((3, 2)), bias, slopes)
    assert correction.is_fitted
    values = [correction.bias, correction.slopes, *correction._params[1].values()]
    assert {value.dtype for value in values} == {torch.float32}
    assert correction.bias.tolist() == [0.5, -0.5] and correction.slopes.tolist() == [1, 2, 3]
    rows = correction.gaussian_features(0, torch.tensor([2, 0]))
    torch.testing.assert_close(rows, correction.gaussian_features(0, None)[[2, 0]])
    assert rows[:, 0].tolist() == [1.0, 1.0] and rows[:, 1].tolist() == [2.0, 0.0]
    kept = correction.select([torch.tensor([True, False, True]), torch.tensor([False, True])])
    assert [rows.num_rows for rows in kept._params] == [2, 1]
    assert kept._params[1][EVIDENCE[0]].tolist() == [1.0]


def test_a_router_is_corrected_only_where_that_is_asked_for():
    assert built(VolumeAwarePixelRouterConfig()).correction is None
    router = built(VolumeAwarePixelRouterConfig(stacked=True)).eval()
    ids = torch.tensor([2, 0, 1])
    assert router.gaussian_features(0, ids, torch.tensor(0.5)).shape == (3, 3)
    router.correction.set_(measured((3, 2)), torch.zeros(2), torch.zeros(2 + len(EVIDENCE)))
    own = router.gaussian_features(0, ids, torch.tensor(0.5))[:, 3:]
    torch.testing.assert_close(own, router.correction.gaussian_features(0, None)[ids])


def test_masks_of_another_number_of_experts_are_refused():
    for counts in ((3,), (3, 2, 1)):
        with pytest.raises(ValueError, match=r"zip\(\)"):
            built(VolumeAwarePixelRouterConfig()).select(
                [torch.ones(count, dtype=torch.bool) for count in counts]
            )


def test_evidence_of_another_number_of_experts_is_refused():
    correction = LogitCorrection([3, 2])
    bias = torch.zeros(2)
    for parts in ((3,), (3, 2, 1)):
        with pytest.raises(ValueError, match=r"zip\(\)"):
            correction.set_(measured(parts), bias, torch.zeros(3))
        with pytest.raises(ValueError, match=r"zip\(\)"):
            correction.select([torch.ones(count, dtype=torch.bool) for count in parts])


def test_features_of_evidence_are_ones_and_the_columns():
    columns = {name: torch.tensor([0.25, 0.5]) for name in LogitCorrection([1])._params[0]}
    features = evidence_features(columns, None)
    assert features.shape == (2, 1 + len(columns))
    assert features[:, 0].tolist() == [1, 1] and features[1, 1:].tolist() == [0.5] * len(columns)


# ---- gates ----


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_temperatures_that_make_no_gates_are_refused(temperature: float):
    with pytest.raises(ValueError, match=r"^--pipeline\.model\.temperature expects a number above"):
        GateConfig().check(temperature)


@pytest.mark.parametrize("uniform", [-0.01, 1.0, math.nan])
def test_parts_that_are_none_are_refused(uniform: float):
    with pytest.raises(ValueError, match=r"^--pipeline\.model\.gates\.uniform expects a fraction"):
        GateConfig(uniform=uniform).check(1.0)


@pytest.mark.parametrize("blur", [-0.01, math.inf, math.nan])
def test_blurs_that_are_none_are_refused(blur: float):
    with pytest.raises(ValueError, match=r"^--pipeline\.model\.gates\.blur expects a fraction"):
        GateConfig(blur=blur).check(1.0)


@pytest.mark.parametrize("config", [GateConfig(), GateConfig(0.99, 3.0), GateConfig(0.0, 0.02)])
def test_gates_within_their_ranges_are_taken(config: GateConfig):
    config.check(0.01)
    config.check(5.0)


def test_a_blur_is_a_gaussian_s_mean_over_what_lies_in_the_image():
    maps = torch.zeros(1, 1, 5)
    maps[0, 0, 0] = 1.0
    weights = [[math.exp(-0.5 * ((i - j) / 2.0) ** 2) for j in range(5)] for i in range(5)]
    expected = [row[0] / sum(row) for row in weights]
    assert blurred(maps, 2.0)[0, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(blurred(maps, 0.0), maps) and torch.equal(blurred(maps, -1.0), maps)
    assert blurred(maps.double(), 2.0).dtype == torch.float64


# ---- losses ----


def test_errors_are_of_each_image():
    pred, target = torch.zeros(2, 12, 12, 3), torch.zeros(2, 12, 12, 3)
    pred[1] = 0.25
    for weight in (0.0, 0.2):
        errors = photometric_errors(pred, target, weight)
        assert errors.l1.tolist() == [0.0, 0.25] and not errors.l1.requires_grad
    assert float(photometric_errors(pred, target, 0.0).loss) == pytest.approx(0.125)


def test_the_loss_is_weighed_as_it_was_asked_for():
    pred, target = torch.zeros(1, 12, 12, 3), torch.full((1, 12, 12, 3), 0.5)
    likeness = 1e-4 / (0.25 + 1e-4)
    for weight in (0.2, 0.7):
        expected = (1 - weight) * 0.5 + weight * (1 - likeness)
        found = Supervision().plain_errors(pred, target, weight)
        assert float(found.loss) == pytest.approx(expected, abs=1e-5)


def test_the_smallest_image_of_structure_is_its_window():
    image = torch.rand(1, 11, 11, 3)
    assert float(structural_similarity(image, image)) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="window of 11"):
        structural_similarity(image[:, 1:], image[:, 1:])


def test_structure_keeps_double_precision():
    image = torch.rand(1, 12, 12, 3, dtype=torch.float64)
    assert structural_similarity(image, image.flip(1)).dtype == torch.float64


def test_targets_are_in_floats_from_zero_to_one():
    truth = torch.tensor([[[0, 51, 255]]], dtype=torch.uint8)
    assert target_image({"image": truth}, torch.device("cpu"))[0, 0].tolist() == pytest.approx(
        [0.0, 0.2, 1.0]
    )
    halves = target_image({"image": torch.full((1, 1, 3), 0.5).double()}, torch.device("cpu"))
    assert halves.dtype == torch.float32 and halves[0, 0].tolist() == [0.5] * 3
