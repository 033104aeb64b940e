"""Small scenes and runs, made once; each input changes copies of its own."""

import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from data_helpers import (
    dnerf_scene,
    dycheck_scene,
    image_scene,
    nerfstudio_scene,
    panoptic_scene,
    poses_bounds,
    test_image,
    write_video,
)
from llff_videos import still_video
from nerfstudio.configs.method_configs import all_methods
from tiny import train_config
from zju_scenes import zju_scene

BASE = "base-of-inputs"
"""Name of the folder with what is copied; runs name it in their configs."""


def photos(folder: Path) -> Path:
    """Three cameras, four photos each, with points."""
    scene = image_scene(folder)
    xyz = np.random.default_rng(0).uniform(-0.2, 0.2, (200, 3)) - (0, 0, 2)
    np.savez(scene / "points3D.npz", xyz=xyz, rgb=np.full((200, 3), 99))
    return scene


def videos(folder: Path) -> Path:
    """Three cameras, four frames each."""
    folder.mkdir()
    for camera in range(3):
        images = [test_image(camera, frame) for frame in range(4)]
        write_video(folder / f"cam{camera:02d}.mp4", images)
    np.save(folder / "poses_bounds.npy", poses_bounds(3))
    return folder


SCENES: dict[str, Callable[[Path], Path]] = {
    "photos": photos,
    "videos": videos,
    "dome": panoptic_scene,
    "dnerf": dnerf_scene,
    "stills": nerfstudio_scene,
    "iphone": dycheck_scene,
    "zju": zju_scene,
    "endo": still_video,
}
RUNS = ("expert", "other", "router")


def make_base(folder: Path) -> Path:
    """Everything that cases need: half a minute at most."""
    base = folder / BASE
    base.mkdir(parents=True)
    for name, make in SCENES.items():
        make(base / name)
    train(base, "moegs-stg", "expert")
    train(base, "moegs-stg", "other", seed=1)
    train(base, "moegs-router", "router")
    shutil.rmtree(base / "outputs")
    return base


def train(base: Path, method: str, name: str, seed: int = 0) -> None:
    """Four steps, with the checkpoints of two."""
    config: Any = deepcopy(all_methods[method])
    config.machine.seed = seed
    config.steps_per_save, config.save_only_latest_checkpoint = 2, False
    if method == "moegs-router":
        config.pipeline.model.experts = (base / "expert", base / "other")
    path = train_config(config, base / "photos", base / "outputs", steps=4, name=name)
    shutil.copytree(path.parent, base / name)


def copied(base: Path, place: Path, needs: tuple[str, ...]) -> Path:
    """A new folder beside the base with copies; those of runs name the copies of scenes."""
    place.mkdir()
    wanted = {"photos", *needs} if set(needs) & set(RUNS) else set(needs)
    for name in wanted:
        shutil.copytree(base / name, place / name)
        config = place / name / "config.yml"
        if config.is_file():
            config.write_text(config.read_text().replace(f"- {BASE}\n", f"- {place.name}\n"))
    return place
