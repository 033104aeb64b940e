"""Tables of an analysis: motion of the experts, and the routing of a mixture on held-out images."""

import math
from dataclasses import asdict

import torch
from jaxtyping import Bool
from torch import Tensor

from moegs_ns.engine.trainer import FITTED_IMAGES, MoegsPipeline
from moegs_ns.evaluation.baselines import BLURS
from moegs_ns.evaluation.motion import Trajectories, analyse_motion
from moegs_ns.evaluation.routing import RoutingFigures, fraction_reached, routing_maps
from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.base import Expert
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.progress import track
from moegs_ns.reports.held_out import evenly_spaced, held_out

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
        maps = routing_maps(render.images, render.gates, render.rgb, target, model.constant_weights)
        for region, mask in regions_of(batch["is_moving"][..., 0]).items():
            sums = maps.sum(mask)
            by_region[region] = by_region[region] + sums if region in by_region else sums
            if region == "all":
                frame = int(dataset.frame_table.frame_ids[index])
                camera = int(dataset.frame_table.camera_ids[index])
                by_image.append({"frame": frame, "camera": camera} | routing_row(sums, names))
    regions = [
        {"region": region, "pixels": int(sums.pixels)} | routing_row(sums, names)
        for region, sums in by_region.items()
        if sums.pixels
    ]
    return by_image, regions


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
