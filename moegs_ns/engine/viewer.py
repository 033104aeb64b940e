"""The live viewer: what a browser sees at first, and how the threads that draw for it end."""

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer_elements import ViewerControl

if TYPE_CHECKING:
    from nerfstudio.viewer.render_state_machine import RenderStateMachine
    from nerfstudio.viewer.viewer import Viewer

LONGEST_PICTURE = 10.0
"""Seconds that a command which ends waits for a picture that is being drawn."""


class StartingView(ViewerControl):
    """Puts each new browser at the first training camera, just past its picture in the viewer.

    Scenes keep the frame of their data set, so that the viewer's own starting point may lie
    anywhere: inside a wall, or looking away from everything. From the camera's own place the
    training image that the viewer hangs in front of it would hide the scene.
    """

    def __init__(self, cameras: Cameras) -> None:
        self.camera_to_world: Float[np.ndarray, "3 4"] = cameras.camera_to_worlds[0].cpu().numpy()
        self.field_of_view = 2.0 * np.arctan(float(cameras.height[0]) / 2 / float(cameras.fy[0]))
        self.picture_distance = _picture_distance(cameras)

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        viewer.viser_server.on_client_connect(self.place)

    def place(self, client: Any) -> None:
        """Move the camera of a browser, given as viser's client handle."""
        import viser.transforms
        from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO

        rotation, position = self.camera_to_world[:, :3], self.camera_to_world[:, 3]
        # viser's cameras look along z with y down, nerfstudio's along -z with y up.
        turned = rotation * np.array([1.0, -1.0, -1.0])
        ahead = 1.1 * self.picture_distance * self.viewer.config.camera_frustum_scale
        with client.atomic():
            client.camera.up_direction = rotation[:, 1]
            client.camera.position = position * VISER_NERFSTUDIO_SCALE_RATIO + ahead * turned[:, 2]
            client.camera.wxyz = viser.transforms.SO3.from_matrix(turned).wxyz
            client.camera.fov = self.field_of_view


class OnePicturePerPose(ViewerControl):
    """Hangs one training picture at each place, not hundreds of a clip into each other.

    nerfstudio draws 512 pictures, evenly over the data set. The frames of a fixed camera all hang
    at one place, where all but one are hidden or flicker through; each costs time and traffic when
    the viewer opens. Images are in the order of their cameras, so that as many pictures as there
    are poses, evenly over the data set, are one of each. Fewer, or all (-1), stay as asked for.
    """

    def __init__(self, cameras: Cameras) -> None:
        poses = cameras.camera_to_worlds.reshape(len(cameras), -1)
        self.num_poses = len(torch.unique(poses, dim=0))

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        config = viewer.config
        config.max_num_display_images = min(config.max_num_display_images, self.num_poses)


class OrderlyEnd(ViewerControl):
    """Ends the viewer's threads before Python ends, which aborts if one of them is drawing: a
    training that is over and saved would not count as one, for scripts that look at the status."""

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        weakref.finalize(viewer, _end_drawing, viewer.render_statemachines)


def _end_drawing(machines: "Mapping[int, RenderStateMachine]") -> None:
    """Let every browser's thread finish its picture."""
    threads = list(machines.values())
    for thread in threads:
        thread.running = False
    for thread in threads:
        thread.join(LONGEST_PICTURE)


def _picture_distance(cameras: Cameras) -> float:
    """Distance of a training image from its camera in the viewer, at a frustum scale of one.

    viser gives all frustums of a scale the same volume; nerfstudio hands it the tangent of the
    horizontal half angle as the vertical one.
    """
    half_height = float(cameras.cx[0] / cameras.fx[0])
    half_width = half_height * float(cameras.cx[0] / cameras.cy[0])
    return float(np.cbrt(3.0 / (half_height * half_width)))
