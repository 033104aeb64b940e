from dataclasses import replace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from tolerances import EXACT, FORWARD
from toys import make_view

from moegs_ns.cameras import (
    UNKNOWN_ID,
    opengl_from_llff,
    opengl_from_viewmats,
    view_from_cameras,
    viewmats_from_opengl,
)


def test_position_is_where_the_camera_maps_to_its_origin():
    view = make_view(3)
    homogeneous = torch.cat([view.positions, torch.ones(3, 1)], dim=-1)
    in_camera = torch.einsum("cij,cj->ci", view.viewmats, homogeneous)[:, :3]
    FORWARD.assert_close(in_camera, torch.zeros(3, 3))


def test_rays_pass_through_their_pixel_centres():
    view = make_view(2, width=5, height=3, shift=1.5)
    origins, directions = view.rays()
    assert origins.shape == directions.shape == (2, 3, 5, 3)
    FORWARD.assert_close(directions.norm(dim=-1), torch.ones(2, 3, 5))
    points = origins + 4.0 * directions
    in_camera = (
        torch.einsum("cij,chwj->chwi", view.viewmats[:, :3, :3], points)
        + view.viewmats[:, None, None, :3, 3]
    )
    pixels = torch.einsum("cij,chwj->chwi", view.Ks, in_camera)
    assert (in_camera[..., 2] > 0).all()
    pixels = pixels[..., :2] / pixels[..., 2:]
    x, y = torch.meshgrid(torch.arange(5) + 0.5, torch.arange(3) + 0.5, indexing="xy")
    FORWARD.assert_close(pixels, torch.stack([x, y], dim=-1).expand(2, -1, -1, -1))


def test_opengl_round_trip():
    viewmats = make_view(3, dtype=torch.float64).viewmats
    camera_to_worlds = opengl_from_viewmats(viewmats.numpy())
    FORWARD.assert_close(torch.from_numpy(viewmats_from_opengl(camera_to_worlds)), viewmats)


def test_opengl_cameras_look_along_minus_z_with_y_up():
    viewmat = viewmats_from_opengl(np.eye(4, dtype=np.float32)[None, :3])[0]
    ahead_and_up = torch.from_numpy(viewmat) @ torch.tensor([0.0, 1.0, -2.0, 1.0])
    EXACT.assert_close(ahead_and_up, torch.tensor([0.0, -1.0, 2.0, 1.0]))


def test_llff_columns_are_down_right_back():
    pose = np.array([[[0.0, 1, 0, 7], [-1, 0, 0, 8], [0, 0, 1, 9]]])
    expected = np.array([[[1.0, 0, 0, 7], [0, 1, 0, 8], [0, 0, 1, 9]]])
    np.testing.assert_array_equal(opengl_from_llff(pose), expected)


def make_cameras(**options) -> Cameras:
    poses = torch.eye(4)[:3].repeat(2, 1, 1)
    poses[1, 0, 3] = 2.0
    return Cameras(
        poses, fx=50.0, fy=40.0, cx=9.0, cy=7.0, width=20, height=12,
        times=torch.tensor([[0.5], [0.5]]), **options,
    )  # fmt: skip


def test_view_from_nerfstudio_cameras():
    ids = {"camera_id": torch.tensor([[4], [6]]), "frame_id": torch.tensor([[2], [2]])}
    view = view_from_cameras(make_cameras(metadata=ids))
    assert (len(view), view.width, view.height) == (2, 20, 12)
    EXACT.assert_close(view.Ks[1], torch.tensor([[50.0, 0, 9], [0, 40, 7], [0, 0, 1]]))
    EXACT.assert_close(view.positions, torch.tensor([[0.0, 0, 0], [2, 0, 0]]))
    EXACT.assert_close(view.camera_ids, torch.tensor([4, 6]))
    EXACT.assert_close(view.frame_ids, torch.tensor([2, 2]))
    EXACT.assert_close(view.time, torch.tensor(0.5))


def test_doubles_among_the_numbers_do_not_make_a_view_of_doubles():
    cameras = make_cameras()
    assert cameras.times is not None
    cameras.times = cameras.times.double()
    view = view_from_cameras(cameras)
    assert view.viewmats.dtype == view.Ks.dtype == view.times.dtype == torch.float32


def test_a_single_camera_without_numbers_is_unknown():
    view = view_from_cameras(make_cameras()[1])
    assert len(view) == 1
    assert view.camera_ids.tolist() == view.frame_ids.tolist() == [UNKNOWN_ID]
    EXACT.assert_close(view.positions, torch.tensor([[2.0, 0, 0]]))


@pytest.mark.parametrize("rows", [[1], [2, 0], [0, 0, 1]])
def test_taking_some_cameras_equals_selecting_them(rows):
    view, indices = make_view(3), torch.tensor(rows)
    taken, selected = view.take(indices), view.select(indices)
    for name, value in vars(selected).items():
        EXACT.assert_close(torch.as_tensor(getattr(taken, name)), torch.as_tensor(value))


def test_cameras_of_different_sizes_are_refused():
    cameras = make_cameras()
    cameras.width = torch.tensor([[20], [24]])
    with pytest.raises(ValueError, match="one image size"):
        view_from_cameras(cameras)


def test_select_keeps_what_belongs_to_a_camera():
    view = make_view(3)
    picked = view.select(torch.tensor([2, 0]))
    EXACT.assert_close(picked.camera_ids, torch.tensor([2, 0]))
    EXACT.assert_close(picked.viewmats, view.viewmats[[2, 0]])
    assert picked.width == view.width


def test_one_instant_is_compared_by_frame_where_known():
    view = make_view(2)
    rounding = replace(view, times=torch.tensor([0.25, 0.25 + 1e-7]))
    rounding.assert_one_time()
    with pytest.raises(ValueError, match="one time"):
        replace(view, frame_ids=torch.tensor([3, 4])).assert_one_time()
    unknown = replace(rounding, frame_ids=torch.tensor([-1, -1]))
    with pytest.raises(ValueError, match="group the batch by frame"):
        unknown.assert_one_time()


@pytest.mark.parametrize(
    "kind",
    ["EQUIRECTANGULAR", "FISHEYE", "OMNIDIRECTIONALSTEREO_L", "VR180_R", "ORTHOPHOTO"],
)
def test_a_camera_that_is_no_pinhole_is_not_drawn_as_one(kind):
    cameras = Cameras(
        torch.eye(4)[None, :3], 30.0, 30.0, 8.0, 6.0, 16, 12, camera_type=CameraType[kind]
    )
    with pytest.raises(ValueError, match=rf"got cameras of the type {kind}.*Perspective"):
        view_from_cameras(cameras)
