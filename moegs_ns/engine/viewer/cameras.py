"""The recorded cameras in the viewer: where it starts, one frustum each, looking through one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras

from moegs_ns.data.datamanager import MoegsDataManager
from moegs_ns.data.frames.dataset import FrameDataset

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

HELD_OUT_COLOR = (255, 127, 14)
MOST_FRUSTUMS = 100
"""Held-out cameras that are drawn; where each image is a camera of its own there are more."""


@dataclass(frozen=True, eq=False)
class Pose:
    """Where a camera stands and how it looks."""

    camera_to_world: Float[np.ndarray, "3 4"]
    """OpenGL axes, in the world."""
    field_of_view: float
    """Vertical, in radians."""

    @property
    def wxyz(self) -> Float[np.ndarray, "4"]:
        """Orientation as viser has it, whose cameras look along z with y down."""
        import viser.transforms

        turned = self.camera_to_world[:, :3] * np.array([1.0, -1.0, -1.0])
        return viser.transforms.SO3.from_matrix(turned).wxyz

    @property
    def position(self) -> Float[np.ndarray, "3"]:
        """Place in viser's units."""
        from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO

        return self.camera_to_world[:, 3] * VISER_NERFSTUDIO_SCALE_RATIO

    @property
    def forward(self) -> Float[np.ndarray, "3"]:
        """The direction of view."""
        return -self.camera_to_world[:, 2]


def pose_of(cameras: Cameras, index: int) -> Pose:
    """The pose of one of nerfstudio's cameras."""
    height, focal = float(cameras.height[index]), float(cameras.fy[index])
    pose = cameras.camera_to_worlds[index].cpu().numpy()
    return Pose(pose, 2.0 * float(np.arctan(height / 2 / focal)))


def look_through(client: Any, pose: Pose, ahead: float = 0.0) -> None:
    """Move the camera of a client, viser's handle, to a pose or some of viser's units before it."""
    with client.atomic():
        client.camera.up_direction = pose.camera_to_world[:, 1]
        client.camera.position = pose.position + ahead * pose.forward
        client.camera.wxyz = pose.wxyz
        client.camera.fov = pose.field_of_view


class RecordedCameras:
    """The physical cameras of a data set, held-out ones included, by names for people."""

    def __init__(self, datamanager: MoegsDataManager) -> None:
        self._sets: dict[str, tuple[FrameDataset, int]] = {}
        self.held_out: list[str] = []
        for dataset, note in (
            (datamanager.train_dataset, ""),
            (datamanager.eval_dataset, " (held out)"),
        ):
            for camera in dataset.frame_table.camera_ids.unique().tolist():
                name = f"Camera {camera}{note}"
                self._sets[name] = dataset, camera
                if note:
                    self.held_out.append(name)

    @property
    def names(self) -> list[str]:
        """Of all cameras."""
        return list(self._sets)

    def pose(self, name: str, time: float) -> Pose:
        """Where a camera stands at a time from 0 to 1, or at its nearest recorded one."""
        dataset, camera = self._sets[name]
        table = dataset.frame_table
        rows = torch.nonzero(table.camera_ids == camera)[:, 0]
        return pose_of(dataset.cameras, int(rows[int((table.times[rows] - time).abs().argmin())]))


class CameraControls:
    """A tab `Cameras`: look through one of them; and the frustums of those that are held out,
    which nerfstudio does not draw."""

    def __init__(
        self, viewer: "Viewer", cameras: RecordedCameras, time: Callable[[], float]
    ) -> None:
        gui = viewer.viser_server.gui
        self._cameras, self._time = cameras, time
        self.choice = gui.add_dropdown("Camera", cameras.names, cameras.names[0])
        self.jump = gui.add_button(
            "Look through it", hint="Its pose and vertical field of view, at this frame."
        )
        self.jump.on_click(lambda event: self._jump(event.client))
        for index, name in enumerate(cameras.held_out[:MOST_FRUSTUMS]):
            pose = cameras.pose(name, 0.0)
            frustum = viewer.viser_server.scene.add_camera_frustum(
                f"/held_out/camera_{index:03d}", fov=pose.field_of_view, aspect=4 / 3,
                scale=viewer.config.camera_frustum_scale, color=HELD_OUT_COLOR,
                wxyz=pose.wxyz, position=pose.position,
            )  # fmt: skip
            frustum.on_click(lambda event, name=name: self._jump(event.client, name))

    def _jump(self, client: Any, name: str | None = None) -> None:
        if client is not None:
            look_through(client, self._cameras.pose(name or self.choice.value, self._time()))
