"""Controls of the live viewer: where it starts, what it shows and in which range, how it ends."""

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer_elements import ViewerControl

if TYPE_CHECKING:
    from nerfstudio.viewer.render_state_machine import RenderStateMachine
    from nerfstudio.viewer.viewer import Viewer

JOIN_TIMEOUT = 10.0
"""Seconds that a command waits for an image that is being rendered before it exits."""


class TrainingCameras(ViewerControl):
    """Puts each new client at the first training camera; shows one training image per pose.

    Scenes keep the coordinates of their data set, so that the viewer's default pose may be inside a
    wall or look away from everything. Clients start just in front of the image that the viewer
    shows in the camera's frustum: from the camera's own position it would hide the scene.

    nerfstudio shows 512 images, evenly over the data set. The frames of a fixed camera share one
    frustum, where all but one are hidden or flicker; each costs time and traffic when the viewer
    opens. Images are in the order of their cameras, so that as many images as there are poses,
    evenly over the data set, are one of each. Fewer, or all (-1), stay as requested.
    """

    def __init__(self, cameras: Cameras) -> None:
        self.camera_to_world: Float[np.ndarray, "3 4"] = cameras.camera_to_worlds[0].cpu().numpy()
        self.field_of_view = 2.0 * np.arctan(float(cameras.height[0]) / 2 / float(cameras.fy[0]))
        self.image_distance = _image_distance(cameras)
        self.num_poses = len(torch.unique(cameras.camera_to_worlds.flatten(1), dim=0))

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        config = viewer.config
        config.max_num_display_images = min(config.max_num_display_images, self.num_poses)
        viewer.viser_server.on_client_connect(self.move_camera)

    def move_camera(self, client: Any) -> None:
        """Move the camera of a client, given as viser's handle."""
        import viser.transforms
        from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO

        rotation, position = self.camera_to_world[:, :3], self.camera_to_world[:, 3]
        # viser's cameras look along z with y down, nerfstudio's along -z with y up.
        turned = rotation * np.array([1.0, -1.0, -1.0])
        ahead = 1.1 * self.image_distance * self.viewer.config.camera_frustum_scale
        with client.atomic():
            client.camera.up_direction = rotation[:, 1]
            client.camera.position = position * VISER_NERFSTUDIO_SCALE_RATIO + ahead * turned[:, 2]
            client.camera.wxyz = viser.transforms.SO3.from_matrix(turned).wxyz
            client.camera.fov = self.field_of_view


class OutputRanges(ViewerControl):
    """Shows gates and opacity from 0 to 1, as `ns-render` does, and depth over its own range.

    nerfstudio stretches every image to its own minimum and maximum, so that colours mean nothing.
    Its way to let the scene hide frustums takes depths for distances from the camera, which ours
    are not, and offers them as an output; that is switched off.
    """

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        panel: Any = viewer.control_panel
        pairs = (
            (panel._output_render, panel._normalize),
            (panel._split_output_render, panel._split_normalize),
        )
        for output, normalize in pairs:
            normalize.value = False
            # Its hook and no second callback: viser 0.2.7 would call that one alone.
            output.cb_hook = partial(_follow, normalize, output.cb_hook)
        panel._layer_depth.value = False
        panel._layer_depth.set_hidden(True)


def _follow(normalize: Any, before: Callable[[Any], object], output: Any) -> None:
    """Stretch an output's values to the whole range of colours only if it is depth."""
    normalize.value = "depth" in output.value
    before(output)


class RenderThreads(ViewerControl):
    """Joins the viewer's render threads before Python exits, which aborts while one renders: the
    exit status of a training that is finished and saved would tell of a failure."""

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        weakref.finalize(viewer, _join_all, viewer.render_statemachines)


def _join_all(machines: "Mapping[int, RenderStateMachine]") -> None:
    threads = list(machines.values())
    for thread in threads:
        thread.running = False
    for thread in threads:
        thread.join(JOIN_TIMEOUT)


def _image_distance(cameras: Cameras) -> float:
    """Distance of a training image from its camera in the viewer, at a frustum scale of one.

    viser gives all frustums of a scale the same volume; nerfstudio hands it the tangent of the
    horizontal half angle as the vertical one.
    """
    half_height = float(cameras.cx[0] / cameras.fx[0])
    half_width = half_height * float(cameras.cx[0] / cameras.cy[0])
    return float(np.cbrt(3.0 / (half_height * half_width)))
