"""Losses and metrics."""

import pytest
import torch
from toys import images

from moegs_ns.evaluation.image_metrics import lpips, psnr, quantize, ssim
from moegs_ns.mixture.distill import TeacherTargets, distilled_loss
from moegs_ns.training import losses
from moegs_ns.training.losses import (
    SSIM_LAMBDA,
    photometric_errors,
    photometric_loss,
    structural_similarity,
)


def test_photometric_loss_of_equal_images_is_zero():
    assert float(photometric_loss(images(), images())) == pytest.approx(0.0, abs=1e-6)


def test_photometric_loss_mixes_l1_and_structure():
    pred, target = images(seed=0), images(seed=1)
    l1 = (pred - target).abs().mean()
    structural = 1.0 - torch.stack([ssim(p, t) for p, t in zip(pred, target, strict=True)]).mean()
    expected = 0.8 * l1 + 0.2 * structural
    torch.testing.assert_close(photometric_loss(pred, target), expected)
    torch.testing.assert_close(photometric_loss(pred, target, 0.0), l1)


def test_structure_is_that_of_a_well_known_library():
    from pytorch_msssim import ssim as reference

    pred, target = images(seed=0).requires_grad_(), images(seed=1)
    ours = structural_similarity(pred, target)
    planar = (image.permute(0, 3, 1, 2) for image in (pred, target))
    theirs = reference(*planar, data_range=1.0, size_average=False)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(value.sum(), pred)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_structure_can_be_trained_on_after_it_was_looked_at():
    losses._gaussian_window.cache_clear()
    with torch.inference_mode():
        structural_similarity(images(seed=0), images(seed=1))
    pred = images(seed=0).requires_grad_()
    structural_similarity(pred, images(seed=1)).sum().backward()
    assert pred.grad is not None
    assert pred.grad.abs().sum() > 0


def test_images_smaller_than_the_window_of_structure_are_refused():
    with pytest.raises(ValueError, match=r"window of 11 by 11 pixels.*8 by 24"):
        photometric_loss(torch.rand(1, 24, 8, 3), torch.rand(1, 24, 8, 3))


def test_structure_is_not_computed_when_it_has_no_weight():
    assert photometric_errors(images(), images(), 0.0).ssim is None
    ssim = photometric_errors(images(), images()).ssim
    assert ssim is not None and ssim.shape == (2,)


def distillation_loss(pred, target, teacher, gate) -> torch.Tensor:
    targets = TeacherTargets(teacher, gate)
    return distilled_loss(pred, target, targets, lam=0.6, ssim_lambda=SSIM_LAMBDA)


def test_distillation_loss_is_zero_when_student_teacher_and_truth_agree():
    gate = torch.rand(2, 24, 20, 1)
    loss = distillation_loss(images(), images(), images(), gate)
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_a_gate_of_ones_distils_from_ground_truth_alone():
    pred, target, teacher = images(seed=0), images(seed=1), images(seed=2)
    loss = distillation_loss(pred, target, teacher, torch.ones(2, 24, 20, 1))
    torch.testing.assert_close(loss, 0.6 * photometric_loss(pred, target))


def test_a_gate_of_zeros_distils_from_the_teacher_alone():
    pred, target, teacher = images(seed=0), images(seed=1), images(seed=2)
    loss = distillation_loss(pred, target, teacher, torch.zeros(2, 24, 20, 1))
    torch.testing.assert_close(loss, 0.4 * photometric_loss(pred, teacher))


def test_psnr_of_a_known_error():
    target = torch.full((4, 4, 3), 0.5)
    assert float(psnr(target + 0.1, target)) == pytest.approx(20.0, abs=1e-4)


def test_psnr_counts_masked_pixels_only():
    target = torch.full((4, 4, 3), 0.5)
    pred, mask = target.clone(), torch.zeros(4, 4, 1, dtype=torch.bool)
    pred[0, 0], mask[0, 0] = 0.6, True
    assert float(psnr(pred, target, mask)) == pytest.approx(20.0, abs=1e-4)
    assert torch.isnan(psnr(pred, target, torch.zeros_like(mask)))


def test_quantize_is_what_eight_bits_hold():
    assert quantize(torch.tensor([-0.2, 0.5, 1.3])).tolist() == pytest.approx([0, 128 / 255, 1])


def test_lpips_without_weights_is_missing_and_downloads_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert lpips(images()[0], images()[1]) is None
    assert "weights are missing" in " ".join(capsys.readouterr().out.split())
    assert not list(tmp_path.iterdir())
