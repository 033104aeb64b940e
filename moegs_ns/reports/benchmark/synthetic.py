"""Random Gaussians of real experts, deformed and mixed by a router, in place of a trained run."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import UInt8
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.evaluation.random_scenes import forward_view, random_gaussians
from moegs_ns.experts.base import Expert
from moegs_ns.mixture.volume_mixture import mixture_of
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.models.expert_sources import PREFIX, expert_methods, method_config, unique_names
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.benchmark.steps import Training, training_of
from moegs_ns.reports.benchmark.ways import OneExpert, Subject, WholeMixture
from moegs_ns.scene import FrameTable, InitialPoints, SceneInfo

ROUTER = "moegs-router"
CAMERAS, INSTANTS = 4, 4
"""Training cameras, and frames of each."""
APART = 0.1
"""Distance of one camera to the next in world units; the Gaussians are 2 to 8 of them away."""
NUM_FRAMES = 300
"""Length of the clip that the experts are of, as in Neural 3D Video."""


def random_scene(num_frames: int) -> SceneInfo:
    """A scene of so many frames, at 30 a second, seen by the cameras of `RandomImages`."""
    return SceneInfo(
        num_frames=num_frames, fps=30.0, center=(0.0, 0.0, 0.0), extent=1.0, background=None,
        camera_ids=tuple(range(CAMERAS)),
    )  # fmt: skip


def methods_of(names: Sequence[str]) -> list[str]:
    """The methods that names of experts stand for.

    Raises:
        ValueError: a name is none of a method of single experts, or there is no name.
    """
    known = expert_methods()
    listed = ", ".join(sorted(known))
    if not names:
        raise ValueError(
            "--synthetic expects methods in --experts, got none; name one for its own speed or "
            f"several for that of a mixture, of {listed}."
        )
    words = [name.removeprefix(PREFIX) for name in names]
    for name, word in zip(names, words, strict=True):
        if word not in known:
            raise ValueError(
                f"--synthetic expects methods in --experts, but '{name}' is none; the methods are "
                f"{listed}."
            )
    return [known[word] for word in words]


@dataclass(frozen=True)
class SyntheticModels:
    """Experts of some methods, and the mixture of all if they are several."""

    names: Sequence[str]
    configs: Sequence[Any]
    """Those of the methods."""
    experts: Sequence[ExpertModel]
    mixture: MixtureModel | None
    images: "RandomImages"

    @classmethod
    def of(
        cls,
        methods: Sequence[str],
        count: int,
        size: tuple[int, int],
        seed: int,
        device: str,
        *,
        num_frames: int = NUM_FRAMES,
    ) -> "SyntheticModels":
        """`count` Gaussians of each method before cameras of a width and height, of a clip of so
        many frames; deformed, as experts are at the end of their training."""
        scene = random_scene(num_frames)
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        view = forward_view(*size)
        configs = [deepcopy(method_config(method)) for method in methods]
        models = [expert_model(config, count, view, scene, generator) for config in configs]
        names, mixture = unique_names(methods), None
        if len(models) > 1:
            mixture = mixture_model(names, models, scene, generator).to(device).eval()
        images = RandomImages.of(view, scene, generator, device)
        models = [model.to(device).eval() for model in models]
        return cls(names, configs, models, mixture, images)

    @property
    def subject(self) -> Subject:
        """What draws frames: the mixture, or the only expert."""
        if self.mixture is None:
            return OneExpert(self.names[0], self.experts[0].expert)
        return WholeMixture(self.names, self.mixture.mixture)

    def trainings(self) -> dict[str, Callable[[], Training]]:
        """What sets up that of the router, if there is one, and those of the experts, by name."""
        found: dict[str, Callable[[], Training]] = {}
        if self.mixture is not None:
            config = method_config(ROUTER)
            found["router"] = partial(self._training, "router", config, self.mixture)
        for name, config, model in zip(self.names, self.configs, self.experts, strict=True):
            found[name] = partial(self._training, name, config, model)
        return found

    def _training(self, name: str, config: Any, model: Any) -> Training:
        sampler = model.make_sampler(self.images.table)
        return training_of(name, config, model, lambda step: self.images.read(sampler.next(step)))


@dataclass(frozen=True)
class RandomImages:
    """Training images of random colours, on the device."""

    views: View
    colors: UInt8[Tensor, "M H W 3"]
    table: FrameTable

    @classmethod
    def of(
        cls, view: View, scene: SceneInfo, generator: torch.Generator, device: str
    ) -> "RandomImages":
        """Images of cameras beside each other, all at the same instants."""
        cameras = torch.arange(CAMERAS).repeat_interleave(INSTANTS)
        last = scene.num_frames - 1
        frames = torch.linspace(0, last, INSTANTS).round().long().repeat(CAMERAS)
        viewmats = view.viewmats.repeat(len(cameras), 1, 1)
        viewmats[:, 0, 3] = APART * cameras
        views = replace(
            view, viewmats=viewmats, Ks=view.Ks.repeat(len(cameras), 1, 1),
            times=frames / max(last, 1), camera_ids=cameras, frame_ids=frames,
        )  # fmt: skip
        shape = (len(cameras), view.height, view.width, 3)
        colors = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        table = FrameTable(cameras, frames, views.times, views.positions)
        return cls(views.to(device), colors.to(device), table)

    @property
    def cameras(self) -> list[View]:
        """One view of each camera."""
        rows = range(0, len(self.views), INSTANTS)
        return [self.views.select(slice(row, row + 1)) for row in rows]

    def read(self, rows: Tensor) -> tuple[View, dict[str, Any]]:
        """Views and images of a training step."""
        images = torch.stack([self.colors[row] for row in rows.tolist()])
        return self.views.take(rows), {"image": images, "image_idx": rows}


def expert_model(
    config: Any, count: int, view: View, scene: SceneInfo, generator: torch.Generator
) -> ExpertModel:
    """A method's model with random Gaussians, in the state in which its training ends."""
    options = config.pipeline.model
    model: ExpertModel = _set_up(options, scene)
    model.expert = random_expert(options.expert, count, view, scene, generator)
    seed = int(torch.randint(2**31, (), generator=generator))
    model.recipe = options.recipe.setup(expert=model.expert, budget=1.0, seed=seed)
    model.recipe.before_step(config.max_num_iterations)
    return model


def random_expert(
    config: Any, count: int, view: View, scene: SceneInfo, generator: torch.Generator
) -> Expert:
    """An expert of random Gaussians that fill the image of a camera and move."""
    seen = random_gaussians(count, view, generator)
    colors = torch.rand(count, 3, generator=generator)
    expert: Expert = config.one_per_point().setup(
        scene=scene, points=InitialPoints(seen.means, colors)
    )
    raw = {
        "quats": seen.quats, "scales": seen.scales.log(), "opacities": seen.opacities.logit(),
        "sh0": seen.sh[:, :1], "shN": seen.sh[:, 1:],
    }  # fmt: skip
    expert.set_at_rest(raw)
    expert.set_in_motion(generator)
    return expert


def mixture_model(
    names: Sequence[str],
    models: Sequence[ExpertModel],
    scene: SceneInfo,
    generator: torch.Generator,
) -> MixtureModel:
    """Copies of the models' experts under a router with random weights."""
    options = replace(
        method_config(ROUTER).pipeline.model,
        expert_models=tuple(model.config for model in models), expert_names=tuple(names),
    )  # fmt: skip
    model: MixtureModel = _set_up(options, scene)
    experts = [deepcopy(each.expert) for each in models]
    router = options.router.setup(scene=scene, counts=[each.num_gaussians for each in experts])
    for parameter in router.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator)
    model.mixture = mixture_of(experts, router, options.temperature, options.gates)
    return model


def _set_up(options: Any, scene: SceneInfo) -> Any:
    """nerfstudio's model of a configuration, without images."""
    return options.setup(
        scene_box=SceneBox(torch.zeros(2, 3)), num_train_data=0, metadata={"scene": scene}
    )
