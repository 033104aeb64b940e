"""What masks leave out changes nothing: no loss, no gradient, no figure."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from data_helpers import masked_scene
from mixture_helpers import mixture, views
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from moegs_ns.evaluation.baselines import fit_constant_weights, mixture_metrics
from moegs_ns.evaluation.image_metrics import image_metrics, psnr
from moegs_ns.mixture.distill import Distillation, DistillationConfig, TeacherTargets
from moegs_ns.mixture.evidence import measure_evidence
from moegs_ns.mixture.recipe import RouterRecipeConfig
from moegs_ns.models.gate_correction import sampled_pixels
from moegs_ns.models.joint_model import JointModel
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.training.losses import SSIM_LAMBDA, TrainingRender, mean_absolute_error

HEIGHT, WIDTH = 20, 26
COLUMNS = 15
"""Of them the first count."""


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


MASK = torch.zeros(HEIGHT, WIDTH, 1, dtype=torch.bool)
MASK[:, :COLUMNS] = True
TRUTH = noise(HEIGHT, WIDTH, 3, seed=1)
OTHER = torch.where(MASK, TRUTH, noise(HEIGHT, WIDTH, 3, seed=2))
"""The same where pixels count."""


def batch(truth: torch.Tensor, **more: Any) -> dict[str, Any]:
    return {"image": truth, "mask": MASK} | more


# ---- experts ----


@pytest.mark.parametrize(
    "family", ["stg", "4dgaussians", "ex4dgs", "ed3dgs", "freetime", "tracked"]
)
def test_experts_do_not_see_what_masks_leave_out(tmp_path: Path, family: str):
    found = []
    for outside in (0, 255):
        scene = masked_scene(tmp_path / f"{outside}", outside=outside)
        config = deepcopy(all_methods[f"moegs-{family}"].pipeline)
        config.datamanager.dataparser = NerfstudioDataParserConfig(data=scene, downscale_factor=1)
        config.datamanager.data, config.datamanager.num_random_points = None, 60
        torch.manual_seed(0)
        pipeline: Any = config.setup(device="cpu", test_mode="val")
        pipeline.train()
        pipeline.model.before_step(0)
        outputs, losses, metrics = pipeline.get_train_loss_dict(0)
        torch.stack(list(losses.values())).sum().backward()
        losses = {name: float(value.detach()) for name, value in losses.items()}
        image = pipeline.datamanager.train_dataset.get_numpy_image(0)
        params = dict(pipeline.model.expert.named_parameters())
        found.append((losses, metrics, params, image, outputs["rgb"]))
    (losses, metrics, params, image, _), (other, metrics2, params2, image2, _) = found
    assert int(image[0, -1, 0]) == 0 and int(image2[0, -1, 0]) == 255
    assert losses == other
    assert float(metrics["psnr"]) == float(metrics2["psnr"])
    assert losses["photometric"] > 0.01
    for name, value in params.items():
        if value.grad is not None:
            assert torch.equal(value.grad, params2[name].grad), name
    means = [value for name, value in params.items() if name.endswith("gauss_params.means")]
    assert torch.cat([value.grad.flatten() for value in means]).abs().max() > 0.0


# ---- mixtures, joint training and students ----


def gradient_of_loss(make_losses: Any, truth: torch.Tensor) -> tuple[float, torch.Tensor]:
    rgb = noise(1, HEIGHT, WIDTH, 3, seed=3).requires_grad_()
    loss = torch.stack(list(make_losses(rgb, truth).values())).sum()
    (gradient,) = torch.autograd.grad(loss, rgb)
    return float(loss.detach()), gradient[0]


def router_losses(rgb: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
    recipe = RouterRecipeConfig().setup(seed=0)
    model: Any = SimpleNamespace(device=torch.device("cpu"), training=True, recipe=recipe)
    masked = {"image": truth[None], "mask": MASK[None]}
    return MixtureModel.get_loss_dict(model, {"rgb": rgb, "gates": []}, masked)


def joint_losses(rgb: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
    seen = []

    def loss_terms(step: int, parts: list, image: torch.Tensor, gates: list) -> dict:
        seen.extend(parts)
        return RouterRecipeConfig().setup(seed=0).loss_terms(image, parts[0].target[0])

    recipe = SimpleNamespace(loss_terms=loss_terms)
    model: Any = SimpleNamespace(device=torch.device("cpu"), step=0, recipe=recipe)
    # Neither render nor view is looked at.
    outputs = {"rgb": rgb, "gates": [], "parts": [(*render_and_view(), rgb.detach())]}
    masked = {"image": truth[None], "mask": MASK[None], "image_idx": torch.tensor([0])}
    losses = JointModel.get_loss_dict(model, outputs, masked)
    assert not bool(seen[0].image[0, :, COLUMNS:].any()), "experts trace errors in it"
    return losses


def student_losses(rgb: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
    """The teacher's image counts as little outside of the mask."""
    gate = noise(1, HEIGHT, WIDTH, 1, seed=4)
    taught = Distillation(
        DistillationConfig(gate="stg"), lambda _: TeacherTargets(truth[None].clone(), gate), 1.0
    )
    part = TrainingRender(
        *render_and_view(), rgb * MASK, (TRUTH * MASK)[None], torch.tensor([0]), MASK[None]
    )
    loss = taught.errors([part], SSIM_LAMBDA, step=0).loss
    report = taught.report()["distillation"]
    shared = (truth - TRUTH)[:, :COLUMNS].square().mean()
    assert report["teacher_psnr"] is None if not bool(shared) else report["teacher_psnr"] > 0
    return {"photometric": loss}


def render_and_view() -> tuple[Any, Any]:
    built, view = mixture(5), views()[0]
    rendered: Any = built.render(view).rendered
    return (rendered[0] if isinstance(rendered, list) else rendered.only()), view


@pytest.mark.parametrize("make_losses", [router_losses, joint_losses, student_losses])
def test_pixels_outside_of_the_mask_have_neither_loss_nor_gradient(make_losses: Any):
    loss, gradient = gradient_of_loss(make_losses, TRUTH)
    assert (loss, True) == (gradient_of_loss(make_losses, OTHER)[0], loss > 0.01)
    assert torch.equal(gradient, gradient_of_loss(make_losses, OTHER)[1])
    assert not bool(gradient[:, COLUMNS:].any()) and bool(gradient[:, :COLUMNS].any())


def test_the_loss_of_evaluation_images():
    pred = TRUTH + 0.25
    assert float(mean_absolute_error(pred, OTHER, MASK)) == pytest.approx(0.25)
    assert float(mean_absolute_error(pred, OTHER, MASK & False)) == 0.0
    unmasked = mean_absolute_error(pred, OTHER, None)
    assert float(unmasked) == pytest.approx(float((pred - OTHER).abs().mean()))


# ---- figures ----


def figures(truth: torch.Tensor, mask: torch.Tensor = MASK) -> dict[str, float]:
    moving = torch.zeros_like(MASK)
    moving[4:, 10:] = True
    outputs = {"rgb": noise(HEIGHT, WIDTH, 3, seed=5)}
    for seed, name in enumerate("ab"):
        outputs[f"rgb_{name}"] = noise(HEIGHT, WIDTH, 3, seed=6 + seed)
        outputs[f"gate_{name}"] = noise(HEIGHT, WIDTH, 1, seed=8 + seed)
    held_out = {"image": truth, "mask": mask, "is_moving": moving}
    found, _ = mixture_metrics(outputs, held_out, ("a", "b"), torch.tensor([0.3, 0.7]))
    return found


def test_figures_are_those_of_the_pixels_that_count():
    found = figures(TRUTH)
    assert found == figures(OTHER)
    rgb = noise(HEIGHT, WIDTH, 3, seed=5)
    rounded = (rgb * 255).round() / 255
    own = psnr(rounded[:, :COLUMNS], TRUTH[:, :COLUMNS])
    assert found["psnr"] == pytest.approx(float(own), abs=1e-4)
    moving = psnr(rounded[4:, 10:COLUMNS], TRUTH[4:, 10:COLUMNS])
    assert found["psnr_dynamic"] == pytest.approx(float(moving), abs=1e-4)
    gate = noise(HEIGHT, WIDTH, 1, seed=8)[:, :COLUMNS]
    assert found["gate_a"] == pytest.approx(float(gate.mean()), abs=1e-6)
    assert {"psnr_oracle", "psnr_oracle_32", "psnr_average", "ssim_constant"} <= set(found)


def test_a_mask_of_all_pixels_is_none():
    whole = figures(TRUTH, MASK | True)
    rgb = noise(HEIGHT, WIDTH, 3, seed=5)
    plain, _ = image_metrics(rgb, {"image": TRUTH})
    for name in ("psnr", "ssim"):
        assert whole[name] == pytest.approx(plain[name], abs=1e-5)


def test_an_image_in_which_nothing_counts_has_no_figures():
    assert figures(TRUTH, MASK & False) == {}
    edge = torch.zeros_like(MASK)
    edge[0] = True
    assert "psnr" in figures(TRUTH, edge) and "ssim" not in figures(TRUTH, edge)


# ---- what is fitted on training images ----


def unknown(truth: torch.Tensor) -> torch.Tensor:
    return torch.where(MASK, truth, torch.nan)


def test_constant_weights_are_fitted_where_pixels_count():
    images = noise(2, HEIGHT, WIDTH, 3, seed=10)
    inside = fit_constant_weights([(images[:, :, :COLUMNS], TRUTH[:, :COLUMNS])])
    found = fit_constant_weights([(images, unknown(TRUTH))])
    torch.testing.assert_close(found, inside)
    assert bool(found.isfinite().all()) and 0.0 < float(found[0]) < 1.0


def test_evidence_is_of_the_pixels_that_count():
    built = mixture(40)
    view = views()[1]
    image = built.render(view).images[0].detach()
    truth = image + 0.1
    wrong = truth.clone()
    wrong[:, 12:] = torch.nan
    (whole,), (half,) = (measure_evidence(built, [(view, one)]) for one in (truth, wrong))
    assert bool(half["error"].isfinite().all())
    seen = half["unseen"] == 0
    torch.testing.assert_close(half["error"][seen], whole["error"][seen], atol=1e-3, rtol=0)
    assert half["unseen"].sum() > whole["unseen"].sum()
    model = SimpleNamespace(corrections=SimpleNamespace(recorded=lambda images, view: images))
    copies, generator = SimpleNamespace(mixture=built), torch.Generator().manual_seed(0)
    pixels = sampled_pixels(copies, [half], model, view, wrong, 7, generator)
    assert bool(pixels.targets.isfinite().all()) and len(pixels.targets) == view.height * 12
