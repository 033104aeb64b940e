"""What copies that left cameras out, and training images, tell of a trained router's gates."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.evaluation.image_metrics import decibels
from moegs_ns.mixture.evidence import Evidence, measure_evidence
from moegs_ns.mixture.mixture import Mixture, blurred
from moegs_ns.mixture.stacking import SampledPixels, Stacked, stack
from moegs_ns.models.base import scene_of
from moegs_ns.models.stacking import copies_seconds, open_stacking_run
from moegs_ns.models.trained_mixture import check_scene_of_state, open_mixture
from moegs_ns.routers import VolumeAwarePixelRouter, correction_columns, evidence_features
from moegs_ns.runs.checkpoint import Run
from moegs_ns.scene import FrameTable
from moegs_ns.splatting import rasterize

EVIDENCE_IMAGES = 200
"""Training images that evidence is measured on, at most; spread evenly over all."""
FITTED_IMAGES = 60
"""Images that slopes, and images that biases are fitted on, at most each."""
PIXELS_PER_IMAGE = 1000
COPIES = "a mixture of copies"
GROUPS = 6
"""Parts of the unseen images, at most, each of which judges what the others say."""


@torch.no_grad()
def correct_gates(model: Any, datamanager: Any) -> dict[str, Any]:
    """Learn from the copies, and correct the gates of a MixtureModel from now on.

    Returns:
        What the record of the training says of it.

    Raises:
        FileNotFoundError: the run over the copies is gone.
    """
    started = time.perf_counter()
    run = open_stacking_run(model.config.stacking.run)
    table: FrameTable = datamanager.frame_table
    unseen = unseen_by(run, table)
    groups = groups_of(table, unseen)
    copies = open_mixture(run, scene_of(model.kwargs), COPIES).to(model.device)
    every = torch.ones_like(unseen)
    of_copies, _ = _pixels(copies, model, datamanager, ~unseen, unseen, groups)
    del copies
    of_experts, evidence = _pixels(model, model, datamanager, every, every, groups)
    mixture: Mixture = model.mixture
    found = stack(of_copies, of_experts, mixture.temperature, mixture.gate_config)
    router = mixture.router
    assert isinstance(router, VolumeAwarePixelRouter) and router.correction is not None
    router.correction.set_(evidence, found.correction.bias, found.correction.slopes)
    seconds = time.perf_counter() - started
    record = _report(found, table.camera_ids[unseen].unique().tolist())
    return record | {"seconds": seconds, "copies_seconds": copies_seconds(run.config_path)}


def _pixels(
    source: Any,
    model: Any,
    datamanager: Any,
    measured: Bool[Tensor, "M"],
    shown: Bool[Tensor, "M"],
    groups: Int[Tensor, "M"],
) -> tuple[SampledPixels, list[Evidence]]:
    """Pixels of the `shown` training images as the experts of `source` draw them, and the evidence
    of these experts on the `measured` ones."""
    evidence = evidence_of(source, datamanager, measured)
    generator = torch.Generator().manual_seed(0)
    parts = [
        sampled_pixels(source, evidence, model, view, target, int(groups[index]), generator)
        for index, view, target in images_of(datamanager, shown, FITTED_IMAGES)
    ]
    return SampledPixels.cat(parts), evidence


def unseen_by(run: Run, table: FrameTable) -> Bool[Tensor, "M"]:
    """The training images that the copies of a run have not seen."""
    left_out = torch.tensor(run.config.pipeline.datamanager.val_cameras, dtype=torch.long)
    return torch.isin(table.camera_ids, left_out)


def groups_of(table: FrameTable, unseen: Bool[Tensor, "M"]) -> Int[Tensor, "M"]:
    """A group for each image, of which there are two to `GROUPS` among the unseen ones: cameras, or
    neighbours by number where there are more; of a single camera the two halves of the clip."""
    cameras, index = torch.unique(table.camera_ids[unseen], return_inverse=True)
    groups = torch.full_like(table.camera_ids, -1)
    groups[unseen] = index * min(GROUPS, len(cameras)) // max(1, len(cameras))
    if len(cameras) == 1:
        times = table.times[unseen]
        groups[unseen] = (times > times.median()).long()
    return groups


def _report(found: Stacked, cameras: list[int]) -> dict[str, Any]:
    psnr = {name: float(decibels(torch.tensor(error))) for name, error in found.errors.items()}
    shown = ", ".join(f"{name} {value:.2f}" for name, value in psnr.items())
    CONSOLE.print(
        f"Gates are corrected by {found.form}, chosen on the cameras {', '.join(map(str, cameras))}"
        f" that copies had not seen. PSNR there, fitted on the others of them: {shown} dB."
    )
    return {"cameras": cameras, "form": found.form, "psnr": psnr}


def check_copies(model: Any, datamanager: Any) -> None:
    """Look at the run that is to teach a MixtureModel, before it is trained.

    Raises:
        FileNotFoundError: the run is gone.
        ValueError: it has other experts, is of another scene, or has seen all cameras.
    """
    run = open_stacking_run(model.config.stacking.run)
    copies, option = run.config.pipeline.model, "--pipeline.model.stacking.run"
    own, copied = (
        [each.expert._target for each in config.expert_models] for config in (model.config, copies)
    )
    if own != copied:
        raise ValueError(
            f"{option} expects a mixture of the families {', '.join(model.config.expert_names)} in "
            f"this order, got {', '.join(copies.expert_names)} in {run.config_path}."
        )
    check_scene_of_state(run.model_state(), scene_of(model.kwargs), run, COPIES)
    table: FrameTable = datamanager.frame_table
    unseen = unseen_by(run, table)
    if len(groups_of(table, unseen)[unseen].unique()) < 2:
        raise ValueError(
            f"{option} expects a mixture that has not seen two of this run's training cameras, or "
            f"one of them over several frames, but {run.config_path} was trained on all; train it "
            "with more --val-cameras."
        )
    if getattr(copies.router, "stacked", False):
        raise ValueError(
            f"{option} expects a mixture whose gates are as its router was trained, but those of "
            f"{run.config_path} are corrected; train it without --stacking-cameras."
        )


def images_of(
    datamanager: Any, rows: Tensor, count: int
) -> Iterator[tuple[int, View, Float[Tensor, "H W 3"]]]:
    """At most `count` of the training images that are marked, spread evenly over them."""
    marked = torch.nonzero(rows)[:, 0]
    step = max(1.0, len(marked) / count)
    for at in range(min(count, len(marked))):
        index = int(marked[int(at * step)])
        yield index, *datamanager.training_image(index)


def evidence_of(model: Any, datamanager: Any, rows: Tensor) -> list[Evidence]:
    """Evidence of a model's experts on the training images that are marked."""
    images = ((v, image) for _, v, image in images_of(datamanager, rows, EVIDENCE_IMAGES))
    corrections = model.corrections
    return measure_evidence(model.mixture, images, corrections.views, corrections.recorded)


def sampled_pixels(
    source: Any,
    evidence: Sequence[Evidence],
    model: Any,
    view: View,
    target: Tensor,
    group: int,
    generator: torch.Generator,
) -> SampledPixels:
    """Some pixels of an image as the experts of `source`, copies or those of `model`, draw it.

    The model's experts know this camera's colours, so that its tint is not taken for an error.
    """
    mixture: Mixture = source.mixture
    render = mixture.render(view)
    projected = render.rendered.projected
    features = [
        evidence_features(own, one.ids) for own, one in zip(evidence, projected, strict=True)
    ]
    rendered = rasterize(projected, view, features).features[:, 0]
    logits = mixture.logits(render.rendered.features[:, 0], view)
    columns = correction_columns(logits, rendered)
    sigma = mixture.gate_config.blur * view.height
    columns = blurred(columns.movedim(-1, 1), sigma).movedim(1, -1)
    images = model.corrections.recorded(render.images, view)
    counting = torch.nonzero(~target[..., 0].flatten().isnan())[:, 0].cpu()
    chosen = counting[torch.randperm(len(counting), generator=generator)[:PIXELS_PER_IMAGE]]
    chosen = chosen.to(target.device)
    return SampledPixels(
        images.flatten(1, 2)[:, chosen],
        columns.flatten(1, 2)[:, chosen],
        target.flatten(0, 1)[chosen],
        torch.full((len(chosen),), group, device=target.device),
    )
