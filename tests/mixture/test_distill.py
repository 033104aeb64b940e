"""Distillation: what the supervision of a taught expert is made of."""

from typing import Any
from unittest.mock import Mock

import pytest
import torch
from toys import images, make_view
from training_helpers import scene

from moegs_ns.mixture.distill import (
    Distillation,
    DistillationConfig,
    TeacherTargets,
    distilled_loss,
)
from moegs_ns.models.teacher import Teacher
from moegs_ns.training.losses import (
    Supervision,
    TrainingRender,
    photometric_errors,
    photometric_loss,
)

SSIM_LAMBDA = 0.2


def part(image: torch.Tensor, target: torch.Tensor) -> Any:
    """What supervision reads of a training splat."""
    indices = torch.arange(len(image))
    return Mock(spec=TrainingRender, image=image, target=target, indices=indices, mask=None)


def distillation(teacher: torch.Tensor, gate: torch.Tensor | None, budget=1.0, **options):
    config = DistillationConfig(gate=None if gate is None else "stg", **options)
    return Distillation(config, lambda _: TeacherTargets(teacher, gate), budget)


def gates(value: float | None = None) -> torch.Tensor:
    gate = torch.rand(2, 24, 20, 1, generator=torch.Generator().manual_seed(5))
    return gate if value is None else torch.full_like(gate, value)


def test_without_a_teacher_the_loss_is_the_plain_one():
    seen = part(images(seed=0), images(seed=1))
    plain = photometric_errors(seen.image, seen.target, SSIM_LAMBDA)
    errors = Supervision().errors([seen], SSIM_LAMBDA, step=0)
    assert float(errors.loss) == float(plain.loss) and torch.equal(errors.l1, plain.l1)


def test_full_trust_and_gates_of_one_are_plain_training():
    """The same loss and the same gradient."""
    losses, gradients = [], []
    for supervision in (Supervision(), distillation(images(seed=2), gates(1.0), lam=1.0)):
        image = images(seed=0).requires_grad_()
        loss = supervision.errors([part(image, images(seed=1))], SSIM_LAMBDA, step=0).loss
        losses.append(loss.detach())
        gradients.append(*torch.autograd.grad(loss, image))
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("gate", [gates(), None])
def test_nothing_is_left_to_learn_when_all_agree(gate):
    errors = distillation(images(), gate).errors([part(images(), images())], SSIM_LAMBDA, step=3)
    assert float(errors.loss) == pytest.approx(0.0, abs=1e-6)


def test_eq_11_pixel_by_pixel():
    """Against the formula written out, where the loss is L1 alone."""
    pred, target, teacher, gate = images(seed=0), images(seed=1), images(seed=2), gates()
    loss = distillation(teacher, gate, lam=0.3).errors([part(pred, target)], 0.0, step=0).loss
    expected = 0.0
    for index in torch.cartesian_prod(torch.arange(2), torch.arange(24), torch.arange(20)):
        i, y, x = index.tolist()
        g = float(gate[i, y, x, 0])
        expected += 0.3 * g * float((pred - target)[i, y, x].abs().sum())
        expected += 0.7 * (1 - g) * float((pred - teacher)[i, y, x].abs().sum())
    assert float(loss) == pytest.approx(expected / pred.numel(), rel=1e-4)


def test_without_gates_both_images_count_everywhere():
    pred, target, teacher = images(seed=0), images(seed=1), images(seed=2)
    loss = distilled_loss(pred, target, TeacherTargets(teacher), 0.3, ssim_lambda=SSIM_LAMBDA)
    expected = 0.3 * photometric_loss(pred, target) + 0.7 * photometric_loss(pred, teacher)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("gate", [0.0, 0.5, 1.0])
def test_a_normalized_loss_has_the_size_of_a_plain_one(gate: float):
    """With a teacher that is right and equal gates, L1 is that of plain training."""
    pred, target = images(seed=0), images(seed=1)
    targets = TeacherTargets(target, gates(gate))
    loss = distilled_loss(pred, target, targets, 0.3, ssim_lambda=0.0, normalize=True)
    torch.testing.assert_close(loss, photometric_loss(pred, target, 0.0))
    published = distilled_loss(pred, target, targets, 0.3, ssim_lambda=0.0)
    torch.testing.assert_close(published, (0.3 * gate + 0.7 * (1 - gate)) * loss)


def test_samplers_judge_images_by_the_ground_truth():
    seen = part(images(seed=0), images(seed=1))
    errors = distillation(images(seed=2), gates()).errors([seen], SSIM_LAMBDA, step=0)
    plain = photometric_errors(seen.image, seen.target, SSIM_LAMBDA)
    assert errors.ssim is not None and plain.ssim is not None
    assert torch.equal(errors.l1, plain.l1) and torch.equal(errors.ssim, plain.ssim)
    assert float(errors.loss) != float(plain.loss)


def test_the_share_of_the_truth_follows_its_schedule_at_any_budget():
    constant = distillation(images(), None, lam=0.4)
    assert (constant.lam(0), constant.lam(10**6)) == (0.4, 0.4)
    moving = distillation(images(), None, budget=0.1, lam=0.2, final_lam=0.8, final_step=1000)
    weights = [moving.lam(step) for step in (0, 50, 100, 500)]
    assert weights == pytest.approx([0.2, 0.5, 0.8, 0.8])


def test_the_report_counts_what_was_shown():
    taught = distillation(images(seed=1) + 0.1, gates(0.25))
    assert taught.report()["distillation"]["teacher_psnr"] is None, "nothing was shown yet"
    for _ in range(2):
        taught.errors([part(images(seed=0), images(seed=1))], SSIM_LAMBDA, step=0)
    report = taught.report()["distillation"]
    assert report["images"] == 4
    assert report["teacher_psnr"] == pytest.approx(20.0, abs=1e-3)
    assert report["mean_gate"] == pytest.approx(0.25)


class TestKeeping:
    """Images of the teacher are drawn once while there is memory; no image depends on that."""

    SIZE = 29 * 37 * 4

    def teacher(self, num_bytes: float, monkeypatch) -> tuple[Teacher, list[int]]:
        drawn: list[int] = []

        def draw(self, view):
            camera = int(view.camera_ids[0])
            drawn.append(camera)
            return torch.full((view.height, view.width, 4), 10 * camera, dtype=torch.uint8)

        monkeypatch.setattr(Teacher, "_render", draw)
        config = DistillationConfig(gate="stg", cache_gb=num_bytes / 1e9)
        return Teacher(config, scene=scene()), drawn

    def show(self, teacher: Teacher, *cameras: int, device: str = "cpu") -> TeacherTargets:
        rows = torch.tensor(cameras)
        view = make_view(cameras=4).select(rows).to(device)
        target = torch.empty(0, device=device)
        read = Mock(spec=TrainingRender, view=view, target=target, indices=100 + rows)
        return teacher(read)

    def test_each_image_is_drawn_once(self, monkeypatch):
        teacher, drawn = self.teacher(1e9, monkeypatch)
        for cameras in ((0, 1), (1, 2), (2, 0)):
            targets = self.show(teacher, *cameras)
            assert targets.image[:, 0, 0, 0].tolist() == pytest.approx(
                [c * 10 / 255 for c in cameras]
            )
            assert targets.gate is not None and targets.gate.shape == (2, 29, 37, 1)
        assert drawn == [0, 1, 2] and len(teacher._kept) == 3

    @pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
    def test_views_elsewhere_keep_their_ids_on_the_cpu(self, device, monkeypatch):
        """As those of training steps do: only geometry and times go to the GPU."""
        teacher, drawn = self.teacher(1e9, monkeypatch)
        targets = self.show(teacher, 2, 1, device=device)
        assert drawn == [2, 1]
        assert targets.image.device.type == device and targets.image.shape == (2, 29, 37, 3)

    def test_what_does_not_fit_is_drawn_again(self, monkeypatch):
        teacher, drawn = self.teacher(2.5 * self.SIZE, monkeypatch)
        first, again = (self.show(teacher, 0, 1, 2) for _ in range(2))
        assert drawn == [0, 1, 2, 2] and len(teacher._kept) == 2
        assert first.gate is not None and again.gate is not None
        assert torch.equal(first.image, again.image) and torch.equal(first.gate, again.gate)

    def test_no_memory_at_all(self, monkeypatch):
        teacher, drawn = self.teacher(0.0, monkeypatch)
        self.show(teacher, 3)
        self.show(teacher, 3)
        assert drawn == [3, 3] and len(teacher._kept) == 0
