"""LPIPS by path in both ranges beside a second implementation, and the conventions of SSIM."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
import torchvision
from torch import Tensor
from torch.nn.functional import conv2d

from moegs_ns.evaluation import perceptual
from moegs_ns.evaluation.image_metrics import all_metrics, image_metrics, quantize
from moegs_ns.evaluation.perceptual import (
    WEIGHTS_VARIABLE,
    convention_metrics,
    lpips,
    lpips_unmapped,
    lpips_weights_path,
    ms_ssim,
    st_lpips,
)

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the colours that LPIPS was trained with."""
LAYERS = (1, 4, 7, 9, 11)
"""Of torchvision's AlexNet, counted with those of ReLU, whose outputs are compared."""


def images(size: int = 70, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(size, size + 8, 3, generator=generator)
    noise = 0.2 * torch.randn(target.shape, generator=generator)
    return (target + noise).clamp(0, 1), target


@pytest.fixture
def alexnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """torchvision's AlexNet with random weights, in a file that the variable names."""
    torch.manual_seed(3)
    network = torchvision.models.alexnet(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "somewhere.pth")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "somewhere.pth"))
    return network


def second_lpips(network: Any, pred: Tensor, target: Tensor, low: float) -> float:
    """LPIPS as its paper has it, of images that are mapped from [0, 1] to [low, 1]."""
    path = Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth"
    heads = torch.load(path, map_location="cpu", weights_only=True)
    features = []
    for image in (pred, target):
        x = (low + (1.0 - low) * image - torch.tensor(SHIFT)) / torch.tensor(SCALE)
        x, found = x.permute(2, 0, 1)[None], []
        for index, layer in enumerate(network.features):
            x = layer(x)
            if index in LAYERS:
                found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        features.append(found)
    pairs = zip(*features, strict=True)
    return sum(
        float(conv2d((a - b).square(), heads[f"lin{k}.model.1.weight"]).mean())
        for k, (a, b) in enumerate(pairs)
    )


@torch.no_grad()
def test_lpips_is_that_of_a_second_implementation_in_both_ranges(alexnet: Any):
    pred, target = images()
    mapped, plain = lpips(pred, target), lpips_unmapped(pred, target)
    assert mapped == pytest.approx(second_lpips(alexnet, pred, target, -1.0), rel=1e-4)
    assert plain == pytest.approx(second_lpips(alexnet, pred, target, 0.0), rel=1e-4)
    assert mapped is not None and plain is not None and mapped > 1.2 * plain > 0.0
    assert lpips(target, target) == pytest.approx(0.0, abs=1e-7)


@torch.no_grad()
def test_lpips_is_that_of_the_authors_package(alexnet: Any):
    package = pytest.importorskip("lpips")
    theirs = package.LPIPS(net="alex", pnet_rand=True, verbose=False)
    stored = alexnet.features.state_dict()
    own = theirs.net.state_dict()
    for name in own:
        own[name].copy_(stored[name.split(".", 1)[1]])
    pred, target = images()
    planes = [image.permute(2, 0, 1)[None] for image in (pred, target)]
    assert lpips(pred, target) == pytest.approx(float(theirs(*planes, normalize=True)), rel=1e-4)
    assert lpips_unmapped(pred, target) == pytest.approx(float(theirs(*planes)), rel=1e-4)


@torch.no_grad()
def test_both_names_are_reported_of_images_in_eight_bits(alexnet: Any):
    pred, target = images()
    metrics = all_metrics(pred, {"image": target})
    assert metrics["lpips_alex"] == pytest.approx(lpips(quantize(pred), target), rel=1e-6)
    expected = lpips_unmapped(quantize(pred), target)
    assert metrics["lpips_alex_01"] == pytest.approx(expected, rel=1e-6)


def test_without_weights_lpips_is_left_out(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "nothing.pth"))
    assert lpips_weights_path() == tmp_path / "nothing.pth"
    metrics = all_metrics(images()[0], {"image": images()[1]})
    assert not {"lpips_alex", "lpips_alex_01"} & metrics.keys()
    said = " ".join(capsys.readouterr().out.split())
    assert "weights are missing" in said and WEIGHTS_VARIABLE in said
    monkeypatch.delenv(WEIGHTS_VARIABLE)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert lpips_weights_path() == tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"


@pytest.mark.parametrize("content", ["text", "other"])
def test_another_file_in_the_place_of_weights_is_refused(tmp_path, monkeypatch, content: str):
    path = tmp_path / f"{content}.pth"
    if content == "text":
        path.write_text("not weights")
    else:
        torch.save({"features.0.weight": torch.zeros(2, 2)}, path)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(path))
    with pytest.raises(ValueError, match=r"torchvision's AlexNet.*holds something else"):
        lpips(*images())


def test_shift_tolerant_lpips_has_a_name_of_its_own():
    pytest.importorskip("stlpips_pytorch")
    pytest.importorskip("torchsummary")
    pred, target = images()
    far, near = st_lpips(pred, target), st_lpips(target, target)
    assert far is not None and near is not None and far > 0.01 > abs(near)
    assert convention_metrics(pred, target)["st_lpips"] == pytest.approx(far, rel=1e-5)


def test_shift_tolerant_lpips_is_left_out_where_its_package_is_not(monkeypatch):
    perceptual._st_lpips_network.cache_clear()
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    assert st_lpips(*images()) is None
    assert "st_lpips" not in convention_metrics(*images())
    perceptual._st_lpips_network.cache_clear()


def test_ssim_with_zeros_around_is_that_of_gaussian_splatting():
    """By torch's own convolution of the whole window, image by image."""
    pred, target = images(40)
    offsets = torch.arange(11) - 5.0
    line = torch.exp(-offsets.square() / 4.5)
    window = (line[:, None] * line / line.sum().square())[None, None].repeat(3, 1, 1, 1)

    def blur(x: Tensor) -> Tensor:
        return conv2d(x.permute(2, 0, 1)[None], window, padding=5, groups=3)

    means = blur(pred), blur(target)
    squares = [blur(x.square()) - m.square() for x, m in zip((pred, target), means, strict=True)]
    both = blur(pred * target) - means[0] * means[1]
    top = (2 * means[0] * means[1] + 1e-4) * (2 * both + 9e-4)
    bottom = (means[0].square() + means[1].square() + 1e-4) * (sum(squares) + 9e-4)
    expected = float((top / bottom).mean())
    metrics = convention_metrics(pred, target)
    assert metrics["ssim_padded"] == pytest.approx(expected, rel=1e-4)
    assert metrics["dssim1"] == pytest.approx((1 - expected) / 2, rel=1e-4)
    plain = image_metrics(pred, {"image": target})[0]["ssim"]
    assert abs(plain - metrics["ssim_padded"]) > 1e-4, "two conventions, two names"


def test_ms_ssim_is_that_of_five_scales_of_large_images():
    pred, target = images(176)
    metrics = convention_metrics(pred, target)
    assert metrics["ms_ssim"] == pytest.approx(ms_ssim(pred, target), abs=1e-7)
    assert metrics["dssim_ms"] == pytest.approx((1 - metrics["ms_ssim"]) / 2, abs=1e-7)
    assert 0.3 < metrics["ms_ssim"] < 1.0 and ms_ssim(target, target) == pytest.approx(1.0)
    assert metrics["ms_ssim"] > metrics["ssim_padded"], "coarse scales have less noise"
    assert "ms_ssim" not in convention_metrics(*images(160))
