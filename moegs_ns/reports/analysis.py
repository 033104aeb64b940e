"""Tables of an analysis: motion of the experts, and the routing of a mixture on held-out images."""

import math
from dataclasses import asdict

import torch
from jaxtyping import Bool
from torch import Tensor

from moegs_ns.engine.scoring import FITTED_IMAGES
from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.evaluation.baselines import BLURS
from moegs_ns.evaluation.flicker import color_change, consecutive_pairs, gate_change
from moegs_ns.evaluation.motion import Trajectories, analyse_motion
from moegs_ns.evaluation.routing import RoutingFigures, fraction_reached, routing_maps
from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.base import Expert
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.progress import track
from moegs_ns.reports.held_out import evenly_spaced, held_out
from moegs_ns.training.losses import mask_of, masked

GRID = 3
"""Images are divided into this many rows and columns of regions."""


def experts_of(pipeline: MoegsPipeline, method: str) -> dict[str, Expert]:
    """The experts of a run by name; the one that it trained if it is no mixture."""
    model = pipeline.model
    if isinstance(model, MixtureModel):
        return dict(zip(model.config.expert_names, model.mixture.experts, strict=True))
    return {method.removeprefix("moegs-"): model.expert}


def motion_rows(
    experts: dict[str, Expert], times: int, count: int, seed: int
) -> tuple[list[Row], dict[str, Trajectories]]:
    """Motion of every expert (appendix E), and the trajectories that it was measured on."""
    rows, trajectories = [], {}
    for name, expert in track(experts.items(), "Following Gaussians", len(experts)):
        frames = torch.tensor(evenly_spaced(int(expert.num_frames), times))
        clip = (frames / max(1, int(expert.num_frames) - 1)).to(expert.scene_extent.device)
        generator = torch.Generator().manual_seed(seed)
        report, trajectories[name] = analyse_motion(expert, clip, count, generator)
        figures = asdict(report)
        is_whole = all(map(math.isfinite, figures.values()))
        reason = "" if is_whole else "nothing visible moves (far enough)"
        rows.append({"expert": name} | figures | {"reason": reason})
    return rows, trajectories


@torch.no_grad()
def routing_rows(
    pipeline: MoegsPipeline, model: MixtureModel, num_images: int
) -> tuple[list[Row], list[Row]]:
    """A row per held-out image, and a row per region of the images over all of them."""
    model.begin_evaluation(pipeline.datamanager.some_training_images(FITTED_IMAGES))
    assert model.constant_weights is not None
    dataset, names = pipeline.datamanager.eval_dataset, list(model.config.expert_names)
    by_image, by_region = [], {}
    for index in track(evenly_spaced(len(dataset), num_images), "Comparing with bounds"):
        view, target, batch = held_out(pipeline, index)
        render = model.mixture.render(view)
        counting = mask_of(batch, target.device)
        shown = (render.images, render.rgb, target)
        images, rgb, target = (masked(image, counting) for image in shown)
        maps = routing_maps(images, render.gates, rgb, target, model.constant_weights)
        for region, mask in regions_of(batch["is_moving"][..., 0]).items():
            sums = maps.sum(mask if counting is None else mask & counting[..., 0])
            by_region[region] = by_region[region] + sums if region in by_region else sums
            if region == "all":
                frame = int(dataset.frame_table.frame_ids[index])
                camera = int(dataset.frame_table.camera_ids[index])
                row = {"frame": frame, "camera": camera}
                if sums.pixels:
                    by_image.append(row | routing_row(sums, names))
    regions = [
        {"region": region, "pixels": int(sums.pixels)} | routing_row(sums, names)
        for region, sums in by_region.items()
        if sums.pixels
    ]
    return by_image, regions


@torch.no_grad()
def flicker_rows(pipeline: MoegsPipeline, model: MixtureModel, num_pairs: int) -> list[Row]:
    """How much the mixture, its experts, the true images and the gates change between consecutive
    frames of a held-out camera, as means over the pixels that count and move in neither; none
    without such frames."""
    names = ["mixture", *model.config.expert_names, "truth", "gates"]
    sums = torch.zeros(len(names), dtype=torch.float64)
    pixels, pairs = 0, consecutive_pairs(pipeline.datamanager.eval_dataset.frame_table, num_pairs)
    for pair in pairs:
        views, targets, batches = zip(*(held_out(pipeline, index) for index in pair), strict=True)
        renders = [model.mixture.render(view) for view in views]
        first, second = (
            torch.cat([render.rgb[None], render.images, target[None]])
            for render, target in zip(renders, targets, strict=True)
        )
        gates = gate_change(renders[0].gates, renders[1].gates)
        changes = torch.cat([color_change(first, second), gates[None]])
        is_still = ~(batches[0]["is_moving"] | batches[1]["is_moving"])[..., 0]
        for mask in (mask_of(batch, is_still.device) for batch in batches):
            is_still = is_still if mask is None else is_still & mask[..., 0]
        pixels += int(is_still.sum())
        sums += changes[:, is_still].double().sum(1).cpu()
    if pixels == 0:
        return []
    means = (sums / pixels).tolist()
    return [
        {"name": name, "change": mean, "pairs": len(pairs), "pixels": pixels}
        for name, mean in zip(names, means, strict=True)
    ]


def regions_of(is_moving: Bool[Tensor, "H W"]) -> dict[str, Bool[Tensor, "H W"]]:
    """Masks by name: the whole image, moving and still pixels, and a grid of regions."""
    regions = {"all": torch.ones_like(is_moving), "moving": is_moving, "still": ~is_moving}
    height, width = is_moving.shape
    for row in range(GRID):
        for column in range(GRID):
            mask = torch.zeros_like(is_moving)
            down = slice(row * height // GRID, (row + 1) * height // GRID)
            right = slice(column * width // GRID, (column + 1) * width // GRID)
            mask[down, right] = True
            regions[f"row {row + 1}, column {column + 1}"] = mask
    return regions


def routing_row(sums: RoutingFigures, names: list[str]) -> Row:
    """Figures of a set of pixels; PSNR is that of the mean squared error over all of them."""
    experts = sums.psnr(sums.expert_errors).tolist()
    errors = (sums.mixture_error, sums.oracle_error, sums.blend_error)
    mixture, oracle, blend = (float(sums.psnr(error)) for error in errors)
    best = max(experts)
    blurred = {
        f"psnr_oracle_{blur}": value
        for blur, value in zip(BLURS, sums.psnr(sums.blurred_oracle_errors).tolist(), strict=True)
    }
    reasons = [
        "" if oracle > best else "shares: the best expert is best at every pixel",
        "" if blurred["psnr_oracle_16"] > best else "share_of_oracle_16: it is not above the best",
        "" if math.isfinite(blend) else "PSNR: there is no error",
    ]
    row: Row = {f"psnr_{name}": value for name, value in zip(names, experts, strict=True)}
    row |= {
        "psnr_mixture": mixture,
        "psnr_average": float(sums.psnr(sums.average_error)),
        "psnr_constant": float(sums.psnr(sums.constant_error)),
        "psnr_oracle": oracle,
        **blurred,
        "psnr_best_blend": blend,
        "share_of_oracle": fraction_reached(mixture, best, oracle),
        "share_of_oracle_16": fraction_reached(mixture, best, blurred["psnr_oracle_16"]),
        "share_of_best_blend": fraction_reached(mixture, best, blend),
        "winner": names[experts.index(best)],
        "entropy": float(sums.entropy / sums.pixels),
        "agreement": float(sums.agreement / sums.pixels),
    }
    for k, name in enumerate(names):
        row[f"gate_{name}"] = float(sums.gates[k] / sums.pixels)
        row[f"best_{name}"] = float(sums.best[k] / sums.pixels)
    return row | {"reason": "; ".join(filter(None, reasons))}
