"""What tests of recipes share: a small scene, one drawn image, one step of training."""

from dataclasses import replace
from pathlib import Path

import torch
from toys import make_view

from moegs_ns.launch.jobs import TrainingJob
from moegs_ns.scene import FrameTable, InitialPoints, SceneInfo
from moegs_ns.splatting import project, rasterize
from moegs_ns.training.losses import TrainingRender

FRAMES = 31
TEMPLATE = TrainingJob(
    "moegs-stg", ("--val-cameras", "3"), Path("/d"), ("n3v-data",), 0.5, 4, Path("/o"), "scene"
)


def scene(num_frames: int = FRAMES, **options) -> SceneInfo:
    described = SceneInfo(num_frames, 30.0, (0.0, 0.0, 0.0), 2.0, None, camera_ids=(0, 1))
    return replace(described, **options)


def cloud(count: int, size: float = 1.0) -> InitialPoints:
    """Points in front of the cameras of `make_view`."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(count, 3, generator=generator) * torch.tensor([2.0, 1.5, 1.0])
    xyz = xyz + torch.tensor([-1.0, -0.7, 3.0])
    return InitialPoints(size * xyz, torch.rand(count, 3, generator=generator))


def table(num_frames: int = FRAMES, cameras: int = 2) -> FrameTable:
    """Every camera shows every frame; cameras stand in a row, one unit apart."""
    frames = torch.arange(num_frames).repeat(cameras)
    camera_ids = torch.arange(cameras).repeat_interleave(num_frames)
    positions = camera_ids[:, None] * torch.tensor([1.0, 0.0, 0.0])
    return FrameTable(camera_ids, frames, frames / max(1, num_frames - 1), positions)


def drawn(
    expert,
    frame: int = 5,
    index: int = 0,
    *,
    to_rasterize=lambda projected: projected,
    **view_options,
) -> TrainingRender:
    """One view of the expert at a frame; its target is a ramp of grey."""
    time = frame / max(1, expert.scene.num_frames - 1)
    view = make_view(1, **view_options)
    view = replace(view, times=torch.tensor([time]), frame_ids=torch.tensor([frame]))
    projected = to_rasterize(project(expert.at(view.time, view.training_camera), view))
    result = rasterize([projected], view).only()
    result.retain_screen_gradients()
    image = expert.finish(result, view, expert.background)
    target = torch.linspace(0.1, 0.9, view.width)[:, None].expand(image.shape).clone()
    return TrainingRender(result, view, image, target, torch.tensor([index]))


def train_step(expert, recipe, optimizers, step: int) -> float:
    """One step as the model takes it; returns the photometric loss."""
    recipe.before_step(step)
    (index,) = recipe.sampler.next(step)
    frame = int(recipe.sampler.table.frame_ids[index])
    part = drawn(expert, frame, int(index), to_rasterize=recipe.to_rasterize)
    losses = recipe.loss_terms(step, [part])
    for optimizer in optimizers.values():
        optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    for optimizer in optimizers.values():
        optimizer.step()
    recipe.after_backward(step, [part])
    recipe.after_step(step)
    return float(losses["photometric"].detach())
