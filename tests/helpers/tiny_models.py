"""nerfstudio models of clouds in front of the cameras of `make_view`, without any training."""

from typing import Any

import torch
from mixture_helpers import SCENE, expert, mixture
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.scene_box import SceneBox

from moegs_ns.experts.stg.expert import STGExpertConfig
from moegs_ns.models.expert_model import ExpertModelConfig
from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.routers import RouterConfig, VolumeAwarePixelRouterConfig


def expert_model() -> Any:
    """A single expert."""
    model = _set_up(ExpertModelConfig(expert=STGExpertConfig(near=0.0)))
    model.expert = expert(0, 40)
    return model.eval()


def mixture_model(router: RouterConfig | None = None) -> Any:
    """Two experts, called `a` and `b`, and their router."""
    router = router or VolumeAwarePixelRouterConfig()
    one = ExpertModelConfig(expert=STGExpertConfig(near=0.0))
    config = MixtureModelConfig(expert_models=(one, one), expert_names=("a", "b"), router=router)
    model = _set_up(config)
    model.mixture = mixture(40, 30, router=router)
    return model.eval()


def camera(time: float | None = 0.5, kind: CameraType = CameraType.PERSPECTIVE) -> Cameras:
    """A camera of nerfstudio at the origin that looks at the clouds, 24 x 18 pixels."""
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None, :3]
    times = None if time is None else torch.tensor([[time]])
    return Cameras(pose, 20.0, 20.0, 12.0, 9.0, 24, 18, camera_type=kind, times=times)


def _set_up(config: Any) -> Any:
    return config.setup(
        scene_box=SceneBox(torch.zeros(2, 3)), num_train_data=0, metadata={"scene": SCENE}
    )
