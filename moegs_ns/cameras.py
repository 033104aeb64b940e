"""Cameras: the only place that knows coordinate conventions.

Inside the project a camera is a `View`: world to camera in OpenCV axes (x right, y down,
z forward), pixel centres at half-integers. nerfstudio stores camera to world in OpenGL axes
(x right, y up, z back); LLFF files store columns (down, right, back).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

UNKNOWN_ID = -1
"""Camera or frame number of a view that belongs to no recorded camera or frame."""


@dataclass(frozen=True, eq=False)
class View:
    """C pinhole cameras of one image size.

    `times` lie in [0, 1] over the clip; `camera_ids` are physical cameras and `frame_ids` integer
    frames, both -1 where unknown. Ids stay on the CPU, where they decide things without
    synchronising with a GPU.
    """

    viewmats: Float[Tensor, "C 4 4"]
    Ks: Float[Tensor, "C 3 3"]
    width: int
    height: int
    times: Float[Tensor, "C"]
    camera_ids: Int[Tensor, "C"]
    frame_ids: Int[Tensor, "C"]

    def __len__(self) -> int:
        return self.viewmats.shape[0]

    @property
    def time(self) -> Float[Tensor, ""]:
        """The time that all cameras of this view share."""
        self.assert_one_time()
        return self.times[0]

    @property
    def training_camera(self) -> Int[Tensor, ""] | None:
        """The physical camera of a view of one known camera, for experts that treat cameras apart;
        None of all others."""
        if len(self) != 1 or bool(self.camera_ids[0] == UNKNOWN_ID):
            return None
        return self.camera_ids[0]

    def assert_one_time(self) -> None:
        """Raise unless all cameras look at the same time (compared by frame where known)."""
        if len(self) == 1:
            return
        frames_known = bool((self.frame_ids != UNKNOWN_ID).all())
        stamps = self.frame_ids if frames_known else self.times
        if not bool((stamps == stamps[0]).all()):
            raise ValueError(
                "A view that is rendered at once must show one time, but its cameras have times "
                f"{self.times.tolist()}; group the batch by frame."
            )

    @property
    def positions(self) -> Float[Tensor, "C 3"]:
        """Camera centres in the world."""
        rotation, translation = self.viewmats[:, :3, :3], self.viewmats[:, :3, 3]
        return -(rotation * translation[..., None]).sum(1)

    def select(self, rows: Int[Tensor, "V"] | slice) -> "View":
        """The cameras at these indices; a slice launches nothing and copies nothing."""
        tensors = {
            name: value[rows] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **tensors)

    def take(self, rows: Int[Tensor, "V"]) -> "View":
        """`select`, without sending the indices to a GPU, which would synchronise with it."""
        return View.cat([self.select(slice(row, row + 1)) for row in rows.tolist()])

    @staticmethod
    def cat(views: Sequence["View"]) -> "View":
        """The cameras of several views whose images have one size."""
        if len(views) == 1:
            return views[0]
        tensors = {
            name: torch.cat([getattr(view, name) for view in views])
            for name, value in vars(views[0]).items()
            if isinstance(value, Tensor)
        }
        return replace(views[0], **tensors)

    def to(self, device: torch.device | str) -> "View":
        """The same view with its geometry and times on another device."""
        if self.viewmats.device == torch.device(device):
            return self
        names = ("viewmats", "Ks", "times")
        shapes = [getattr(self, name).shape for name in names]
        # In one piece, since each that is sent takes as long as all together.
        packed = torch.cat([getattr(self, name).flatten() for name in names])
        parts = packed.to(device, non_blocking=True).split([shape.numel() for shape in shapes])
        tensors = {
            name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)
        }
        return replace(self, **tensors)

    def rays(self) -> tuple[Float[Tensor, "C H W 3"], Float[Tensor, "C H W 3"]]:
        """Origin and unit direction, in the world, of the ray through every pixel centre."""
        device, dtype = self.viewmats.device, self.viewmats.dtype
        x = torch.arange(self.width, device=device, dtype=dtype) + 0.5
        y = torch.arange(self.height, device=device, dtype=dtype) + 0.5
        fx, fy, cx, cy = (self.Ks[:, i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        in_camera = torch.stack(
            torch.broadcast_tensors(
                (x[None, None, :] - cx) / fx,
                (y[None, :, None] - cy) / fy,
                torch.ones((), device=device, dtype=dtype),
            ),
            dim=-1,
        )
        directions = torch.einsum("cji,chwj->chwi", self.viewmats[:, :3, :3], in_camera)
        directions = torch.nn.functional.normalize(directions, dim=-1)
        return self.positions[:, None, None, :].expand_as(directions), directions


def apply_pose_delta(
    view: View, rotations: Float[Tensor, "C 3 3"], translations: Float[Tensor, "C 3"]
) -> View:
    """Cameras turned about their own centres and shifted, both in world axes; differentiable."""
    turned = view.viewmats[:, :3, :3] @ rotations.transpose(1, 2)
    centers = view.positions + translations
    offsets = -torch.einsum("cij,cj->ci", turned, centers)
    upper = torch.cat([turned, offsets[..., None]], dim=-1)
    return replace(view, viewmats=torch.cat([upper, view.viewmats[:, 3:]], dim=1))


def one_frame_apart(view: View, num_frames: int) -> View:
    """The same cameras at the next frame of a clip, or at the one before if that was the last."""
    frame = 1.0 / (num_frames - 1)
    shift = frame if float(view.time) + 0.5 * frame < 1.0 else -frame
    unknown = torch.full_like(view.frame_ids, UNKNOWN_ID)
    return replace(view, times=(view.times + shift).clamp(0.0, 1.0), frame_ids=unknown)


def view_from_cameras(cameras: Cameras) -> View:
    """nerfstudio cameras of shape [C] (or one of shape []) as a `View`.

    Physical camera and frame numbers are read from the metadata keys `camera_id` and `frame_id`;
    cameras without times show time 0.

    Raises:
        ValueError: the cameras differ in image size, or one is no pinhole camera.
    """
    if cameras.ndim == 0:
        cameras = cameras.reshape((1,))
    floats, ids = _numbers(cameras)
    others = sorted({kind for kind in ids[:, 4].tolist() if kind != CameraType.PERSPECTIVE.value})
    if others:
        raise ValueError(
            f"Expected pinhole cameras, got cameras of the type {_names_of_kinds(others)}, which "
            "Gaussians are not rendered for here; choose the camera type Perspective."
        )
    sizes = sorted({(width, height) for width, height in ids[:, :2].tolist()})
    if len(sizes) != 1:
        raise ValueError(
            f"All cameras of a batch must have one image size, got {sizes}; "
            "render cameras of different sizes one after the other."
        )
    Ks = np.zeros((len(floats), 3, 3), floats.dtype)
    Ks[:, [0, 1, 0, 1], [0, 1, 2, 2]], Ks[:, 2, 2] = floats[:, :4], 1.0
    camera_ids, frame_ids = torch.from_numpy(ids[:, 2:4].T.copy()).unbind(0)
    return View(
        viewmats=torch.from_numpy(viewmats_from_opengl(floats[:, 5:].reshape(-1, 3, 4))),
        Ks=torch.from_numpy(Ks),
        width=sizes[0][0],
        height=sizes[0][1],
        times=torch.from_numpy(floats[:, 4].copy()),
        camera_ids=camera_ids,
        frame_ids=frame_ids,
    ).to(cameras.device)


def check_undistorted(cameras: Cameras) -> None:
    """Raise unless all cameras are pinholes without distortion, the only kind rendered here.

    Raises:
        ValueError: some camera is of another kind, or its lens distorts.
    """
    is_pinhole = cameras.camera_type.reshape(-1) == CameraType.PERSPECTIVE.value
    lenses = cameras.distortion_params
    if not bool(is_pinhole.all()):
        kinds = cameras.camera_type.reshape(-1)[~is_pinhole].unique().tolist()
        found = f"cameras of the type {_names_of_kinds(kinds)}"
    elif lenses is not None and bool((lenses != 0).any()):
        lenses = lenses.reshape(-1, lenses.shape[-1])
        worst = lenses[(lenses != 0).any(dim=1)][0]
        found = f"lenses with the distortion {' '.join(f'{value:g}' for value in worst.tolist())}"
    else:
        return
    raise ValueError(
        f"Expected pinhole cameras without distortion, got {found}; undistort the images first "
        "(for example with COLMAP's image_undistorter) and use the undistorted set."
    )


def _names_of_kinds(kinds: Sequence[int]) -> str:
    return " and ".join(CameraType(kind).name for kind in kinds)


def _numbers(cameras: Cameras) -> tuple[Float[np.ndarray, "C 17"], Int[np.ndarray, "C 5"]]:
    """fx, fy, cx, cy, time and camera to world of each camera; width, height, camera, frame, kind.

    They are copied from a GPU in two pieces, and the view goes back in one: dozens of small
    operations there, or with tensors here, would take as long as rendering.
    """
    poses = cameras.camera_to_worlds.flatten(1)
    count, metadata = len(poses), cameras.metadata or {}
    times = torch.zeros_like(poses[:, :1]) if cameras.times is None else cameras.times
    floats = [cameras.fx, cameras.fy, cameras.cx, cameras.cy, times, poses]
    ids = [cameras.width, cameras.height]
    for value in (metadata.get("camera_id"), metadata.get("frame_id")):
        known = torch.full((count,), UNKNOWN_ID, device=poses.device) if value is None else value
        ids.append(torch.as_tensor(known, device=poses.device))
    ids.append(cameras.camera_type)
    all_floats = torch.cat([each.to(poses.dtype) for each in floats], dim=1)
    all_ids = torch.cat([each.reshape(count, 1) for each in ids], dim=1)
    return all_floats.cpu().numpy(), all_ids.cpu().numpy()


def single_views(
    cameras: Cameras, device: torch.device | str, limit: int | None = None
) -> Iterator[View]:
    """Each camera by itself on a device; at most `limit` of them, spread evenly over all."""
    count = cameras.shape[0]
    chosen = count if limit is None else min(count, limit)
    for row in torch.linspace(0, count - 1, chosen).round().long().tolist():
        yield view_from_cameras(cameras[row : row + 1]).to(device)


def viewmats_from_opengl(
    camera_to_worlds: Float[np.ndarray, "C 3 4"],
) -> Float[np.ndarray, "C 4 4"]:
    """World to camera (OpenCV) from camera to world (OpenGL)."""
    rotations = camera_to_worlds[:, :, :3] * np.array([1.0, -1.0, -1.0], camera_to_worlds.dtype)
    viewmats = np.zeros((len(rotations), 4, 4), camera_to_worlds.dtype)
    viewmats[:, :3, :3] = rotations.transpose(0, 2, 1)
    viewmats[:, :3, 3:] = -viewmats[:, :3, :3] @ camera_to_worlds[:, :, 3:]
    viewmats[:, 3, 3] = 1.0
    return viewmats


def opengl_from_viewmats(viewmats: Float[np.ndarray, "C 4 4"]) -> Float[np.ndarray, "C 3 4"]:
    """Camera to world (OpenGL) from world to camera (OpenCV)."""
    camera_to_worlds = np.linalg.inv(viewmats)[:, :3, :]
    camera_to_worlds[:, :, 1:3] *= -1.0
    return camera_to_worlds


def opengl_from_llff(poses: Float[np.ndarray, "C 3 4"]) -> Float[np.ndarray, "C 3 4"]:
    """Camera to world (OpenGL) from LLFF rows, whose columns are (down, right, back, centre)."""
    down, right, back, centre = (poses[:, :, i] for i in range(4))
    return np.stack([right, -down, back, centre], axis=-1)


def llff_from_opengl(camera_to_worlds: Float[np.ndarray, "C 3 4"]) -> Float[np.ndarray, "C 3 4"]:
    """The inverse of `opengl_from_llff`."""
    right, up, back, centre = (camera_to_worlds[:, :, i] for i in range(4))
    return np.stack([-up, right, back, centre], axis=-1)
