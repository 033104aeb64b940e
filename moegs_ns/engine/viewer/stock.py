"""What is changed in nerfstudio's own part of the viewer: where it starts, what is left of its
controls, how it ends."""

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer_elements import ViewerControl

from moegs_ns.data.datamanager import MoegsDataManager
from moegs_ns.engine.viewer.cameras import look_through, pose_of

if TYPE_CHECKING:
    from nerfstudio.viewer.render_state_machine import RenderStateMachine
    from nerfstudio.viewer.viewer import Viewer

JOIN_TIMEOUT = 10.0
"""Seconds that a command waits for an image that is being rendered before it exits."""


class TrainingCameras(ViewerControl):
    """Puts each new client at the first training camera; shows one training image per camera.

    Scenes keep the coordinates of their data set, so that the viewer's default pose may be inside a
    wall or look away from everything. Clients start just in front of the image that the viewer
    shows in the camera's frustum: from the camera's own position it would hide the scene.

    nerfstudio shows 512 images, evenly over the data set. The frames of a camera share one
    frustum, where all but one are hidden or flicker; each costs time and traffic when the viewer
    opens. Images are in the order of their cameras, so that as many images as there are cameras,
    evenly over the data set, are one of each. Fewer, or all (-1), stay as requested.
    """

    def __init__(self, datamanager: MoegsDataManager) -> None:
        cameras = datamanager.train_dataset.cameras
        self.pose = pose_of(cameras, 0)
        self.image_distance = _image_distance(cameras)
        self.num_cameras = len(datamanager.frame_table.camera_ids.unique())

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        config = viewer.config
        config.max_num_display_images = min(config.max_num_display_images, self.num_cameras)
        viewer.viser_server.on_client_connect(self.move_camera)

    def move_camera(self, client: Any) -> None:
        """Move the camera of a client, given as viser's handle."""
        look_through(
            client, self.pose, 1.1 * self.image_distance * self.viewer.config.camera_frustum_scale
        )


def hide_replaced(viewer: "Viewer") -> None:
    """Hide those of nerfstudio's controls that ours replace.

    There is one output, the picture, so that nothing is left of its lists of outputs, its colour
    maps, which it would stretch to the range of every single image, and its second output. Its
    way to let the scene hide frustums takes depths for distances from the camera, which ours are
    not; that is switched off. The controls of a training are hidden where there is none.
    """
    panel: Any = viewer.control_panel
    panel._layer_depth.value = False
    panel._layer_depth.set_hidden(True)
    panel._output_render.set_hidden(True)
    for element in panel._elements_by_tag["colormap"]:
        element.set_hidden(True)
    panel._colormap.set_hidden(True)
    _hide_folder_of(panel._split)
    if viewer.trainer is None:  # A finished run has no training to pause or to slow down.
        viewer.pause_train.visible = viewer.resume_train.visible = False
        panel._train_speed.set_hidden(True)
        panel._train_util.set_hidden(True)


def _hide_folder_of(element: Any) -> None:
    """Hide the folder of a control; viser 0.2.7 has folders that are hidden, but no way to do so
    once they are there."""
    from viser._messages import GuiUpdateMessage

    state = element.gui_handle._impl
    message = GuiUpdateMessage(state.parent_container_id, {"visible": False})
    state.gui_api._websock_interface.queue_message(message)


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
