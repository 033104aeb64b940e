"""Calibrations of other tools: known points are where the known cameras see them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rig_helpers import DISTORTION, POINTS, KnownCamera, centred, known_cameras

from moegs_ns.data.calibrations.formats import read_calibration_file
from moegs_ns.data.rig_files import Rig

EXACT = 0.01
"""Pixels; a convention that is off by half a pixel is off by 50 times as much."""


def check(rig: Rig, cameras: Sequence[KnownCamera], *, unit: str = "unknown") -> None:
    """Every camera of the file sees the known points where the known one does."""
    assert rig.unit == unit
    assert len(rig.cameras) == len(cameras)
    for found, camera in zip(rig.cameras, cameras, strict=True):
        assert found.name == camera.name
        assert found.lens is not None and found.world_to_camera is not None
        pose = found.world_to_camera
        pixels = found.lens.project(POINTS @ pose[:, :3].T + pose[:, 3])
        np.testing.assert_allclose(pixels, camera.pixels(), atol=EXACT)
        np.testing.assert_allclose(found.position, camera.position, atol=1e-5)
        if found.width is not None:
            assert (found.width, found.height) == (camera.width, camera.height)


# ---- files as the tools write them ----


def write_qualisys(folder: Path, cameras: Sequence[KnownCamera], left: int = 0, **options) -> Path:
    """64ths of a pixel, millimetres, camera axes with y up and z back."""
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<calibration calibrated="2022.07.14 13:04:29" source="poses.qca" created="2022.07.15" '
        'qtm-version="2022.1 (build 7710)" type="regular" wandLength="601.3">\n <cameras>\n'
    )
    for camera in cameras:
        M, centre = np.diag([1.0, -1.0, -1.0]) @ camera.R, 1000.0 * camera.position
        cells = " ".join(f'r{a + 1}{b + 1}="{M[a, b]:.12f}"' for a in range(3) for b in range(3))
        x, y, z = centre
        right, bottom = left + camera.width - 1, camera.height - 1
        k1, k2, p1, p2, k3 = camera.distortion
        K = 64.0 * camera.K
        text += (
            f'  <camera active="1" calibrated="true" avg-residual="0.51" serial="{camera.name}" '
            f'model="Miqus Video" viewrotation="{options.get("viewrotation", 0)}">\n'
            f'   <fov_marker left="0" top="0" right="1919" bottom="1087"/>\n'
            f'   <fov_video left="{left}" top="0" right="{right}" bottom="{bottom}"/>\n'
            f'   <transform x="{x:.9f}" y="{y:.9f}" z="{z:.9f}" {cells}/>\n'
            f'   <intrinsic focallength="9.27" sensorMinU="0.0" sensorMaxU="122879.0" '
            f'focalLengthU="{K[0, 0]:.9f}" focalLengthV="{K[1, 1]:.9f}" '
            f'centerPointU="{K[0, 2] + 64 * left:.9f}" centerPointV="{K[1, 2]:.9f}" skew="0.0" '
            f'radialDistortion1="{k1}" radialDistortion2="{k2}" radialDistortion3="{k3}" '
            f'tangentalDistortion1="{p1}" tangentalDistortion2="{p2}"/>\n  </camera>\n'
        )
    path = folder / "calibration.qca.txt"
    path.write_text(text + " </cameras>\n</calibration>\n")
    return path


def write_anipose(folder: Path, cameras: Sequence[KnownCamera]) -> Path:
    text = ""
    for number, camera in enumerate(cameras):
        text += f'[cam_{number}]\nname = "{camera.name}"\n'
        text += f"size = [ {camera.width}, {camera.height},]\nmatrix = {camera.K.tolist()}\n"
        text += f"distortions = {list(camera.distortion)}\nrotation = {camera.vector.tolist()}\n"
        text += f"translation = {camera.t.tolist()}\n"
        text += f"{'fisheye = true' if camera.is_fisheye else ''}\n\n"
    path = folder / "calibration.toml"
    path.write_text(text + "[metadata]\nadjusted = false\nerror = 0.38\n")
    return path


def matrix_text(key: str, matrix: np.ndarray) -> str:
    """As OpenCV's FileStorage writes it."""
    rows = matrix.reshape(len(matrix), -1)
    data = ", ".join(f"{value:.12g}" for value in rows.ravel())
    return (
        f"{key}: !!opencv-matrix\n   rows: {rows.shape[0]}\n   cols: {rows.shape[1]}\n"
        f"   dt: d\n   data: [ {data} ]\n"
    )


def write_easymocap(
    folder: Path, cameras: Sequence[KnownCamera], *, quoted: bool = True, only: str = ""
) -> Path:
    head = "%YAML:1.0\n---\nnames:\n"
    for camera in cameras:
        head += f'   - "{camera.name}"\n' if quoted else f"   - {camera.name}\n"
    intri = extri = head
    for camera in cameras:
        intri += matrix_text(f"K_{camera.name}", camera.K)
        distortion = np.array(camera.distortion)
        if only == "Rot":
            intri += matrix_text(f"D_{camera.name}", distortion[None])
            intri += f"H_{camera.name}: {camera.height}.\nW_{camera.name}: {camera.width}.\n"
        else:
            intri += matrix_text(f"dist_{camera.name}", distortion[:, None])
        if only in ("", "R"):
            extri += matrix_text(f"R_{camera.name}", camera.vector)
        if only in ("", "Rot"):
            extri += matrix_text(f"Rot_{camera.name}", camera.R)
        extri += matrix_text(f"T_{camera.name}", camera.t)
    (folder / "intri.yml").write_text(intri)
    (folder / "extri.yml").write_text(extri)
    return folder


def write_cmu(folder: Path, cameras: Sequence[KnownCamera]) -> Path:
    entries = [
        {
            "name": camera.name,
            "type": "hd",
            "resolution": [camera.width, camera.height],
            "panel": 0,
            "node": number,
            "K": camera.K.tolist(),
            "distCoef": list(camera.distortion),
            "R": camera.R.tolist(),
            "t": (100.0 * camera.t)[:, None].tolist(),
        }
        for number, camera in enumerate(cameras)
    ]
    path = folder / "calibration_161029_sports1.json"
    path.write_text(json.dumps({"calibDataSource": "160906_calib1_norm", "cameras": entries}))
    return path


def write_colmap(folder: Path, cameras: Sequence[KnownCamera], model: str = "FULL_OPENCV") -> Path:
    import pycolmap

    reconstruction = pycolmap.Reconstruction()
    for number, camera in enumerate(cameras, 1):
        fx, fy = camera.K[0, 0], camera.K[1, 1]
        k1, k2, p1, p2, *rest = (*camera.distortion, 0.0, 0.0, 0.0, 0.0)[:8]
        after = {
            "PINHOLE": [],
            "OPENCV": [k1, k2, p1, p2],
            "FULL_OPENCV": [k1, k2, p1, p2, *rest],
            "OPENCV_FISHEYE": [k1, k2, p1, p2],
        }.get(model)
        params = [fx, fy, *camera.center, *(after or [])]
        if after is None:
            params = [fx, *camera.center, *camera.distortion[: 2 if model[:6] == "RADIAL" else 1]]
        reconstruction.add_camera_with_trivial_rig(
            pycolmap.Camera(
                camera_id=number,
                model=model,
                width=camera.width,
                height=camera.height,
                params=params,
            )
        )
        image = pycolmap.Image(name=f"{camera.name}.jpg", camera_id=number, image_id=number)
        pose = pycolmap.Rigid3d(np.c_[camera.R, camera.t])
        reconstruction.add_image_with_trivial_frame(image, pose)
    path = folder / "sparse" / "0"
    path.mkdir(parents=True)
    reconstruction.write(str(path))
    return path


def write_transforms(
    folder: Path, cameras: Sequence[KnownCamera], *, num_frames: int = 1, **common
) -> Path:
    frames = []
    for camera in cameras:
        cx, cy = camera.center
        own = {"fl_x": camera.K[0, 0], "fl_y": camera.K[1, 1], "cx": cx, "cy": cy}
        own |= {"w": camera.width, "h": camera.height}
        names = "k1 k2 k3 k4" if camera.is_fisheye else "k1 k2 p1 p2 k3"
        own |= dict(zip(names.split(), camera.distortion, strict=False))
        for frame in range(num_frames):
            name = f"images/{camera.name}.png"
            if num_frames > 1:
                name = f"{camera.name}/images/{frame:04d}"
            pose = {"file_path": name, "transform_matrix": camera.opengl.tolist()}
            frames.append({**own, **pose, "time": frame / 30})
    path = folder / "transforms.json"
    path.write_text(json.dumps({"camera_model": "OPENCV", **common, "frames": frames}))
    return path


def write_llff(folder: Path, cameras: Sequence[KnownCamera]) -> Path:
    rows = []
    for camera in cameras:
        right, up, back = camera.opengl[:3, :3].T
        size = (camera.height, camera.width, camera.K[0, 0])
        pose = np.stack([-up, right, back, camera.position, size], axis=1)
        rows.append([*pose.ravel(), 0.5, 20.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return folder / "poses_bounds.npy"


def write_immersive(folder: Path, cameras: Sequence[KnownCamera]) -> Path:
    entries = [
        {
            "name": camera.name,
            "position": camera.position.tolist(),
            "orientation": camera.vector.tolist(),
            "focal_length": camera.K[0, 0],
            "pixel_aspect_ratio": camera.K[1, 1] / camera.K[0, 0],
            "principal_point": list(camera.center),
            "height": float(camera.height),
            "width": float(camera.width),
            "radial_distortion": [*camera.distortion[:2], 0.0],
            "projection_type": "fisheye",
        }
        for camera in cameras
    ]
    (folder / "models.json").write_text(json.dumps(entries))
    return folder / "models.json"


# ---- reading them ----

FISHEYE = (0.05, -0.02, 0.0, 0.0)


def fisheyes(names: tuple[str, ...] = ("camera_0001", "camera_0003")) -> list[KnownCamera]:
    return known_cameras(names, distortion=FISHEYE, is_fisheye=True)


@pytest.mark.parametrize("left", [0, 416])
def test_qualisys(tmp_path: Path, left: int):
    cameras = known_cameras(("28073", "28085", "28091"))
    rig, name = read_calibration_file(write_qualisys(tmp_path, cameras, left))
    assert name.startswith("Qualisys")
    check(rig, cameras, unit="m")


def test_a_turned_qualisys_camera_is_refused(tmp_path: Path):
    path = write_qualisys(tmp_path, known_cameras(("28073",)), viewrotation=90)
    with pytest.raises(ValueError, match=r"Qualisys.*28073 has the viewrotation 90"):
        read_calibration_file(path)


@pytest.mark.parametrize("is_fisheye", [False, True])
def test_anipose(tmp_path: Path, is_fisheye: bool):
    names = ("back", "mid", "side")
    cameras = fisheyes(names) if is_fisheye else known_cameras(names)
    rig, _ = read_calibration_file(write_anipose(tmp_path, cameras))
    check(rig, cameras)


@pytest.mark.parametrize("only", ["", "R", "Rot"])
@pytest.mark.parametrize("quoted", [True, False])
def test_easymocap(tmp_path: Path, only: str, quoted: bool):
    """Unquoted names lose their zeros in the list, and either rotation may be absent."""
    cameras = known_cameras(("00", "01", "10"))
    folder = write_easymocap(tmp_path, cameras, quoted=quoted, only=only)
    check(read_calibration_file(folder)[0], cameras)
    rig, _ = read_calibration_file(folder / "intri.yml")
    check(rig, cameras)
    assert (rig.cameras[0].width is not None) is (only == "Rot")


def test_cmu_panoptic(tmp_path: Path):
    cameras = known_cameras(("00_00", "00_05"))
    check(read_calibration_file(write_cmu(tmp_path, cameras))[0], cameras, unit="m")


@pytest.mark.colmap
@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("SIMPLE_PINHOLE", ()),
        ("PINHOLE", ()),
        ("SIMPLE_RADIAL", (0.1, 0.0, 0.0, 0.0)),
        ("RADIAL", (0.1, -0.04, 0.0, 0.0)),
        ("OPENCV", DISTORTION[:4]),
        ("FULL_OPENCV", (*DISTORTION, 0.1, 0.02, 0.01)),
        ("SIMPLE_RADIAL_FISHEYE", (0.05, 0.0, 0.0, 0.0)),
        ("RADIAL_FISHEYE", FISHEYE),
        ("OPENCV_FISHEYE", (0.05, -0.02, 0.01, 0.002)),
    ],
)
def test_colmap(tmp_path: Path, model: str, distortion: tuple[float, ...]):
    is_fisheye = model.endswith("FISHEYE")
    cameras = known_cameras(distortion=distortion, is_fisheye=is_fisheye)
    if model.startswith(("SIMPLE", "RADIAL")):
        same = [camera.K * ((1, 1, 1), (0, 0, 1), (0, 0, 1)) for camera in cameras]
        for K in same:
            K[1, 1] = K[0, 0]
        cameras = [replace(camera, K=K) for camera, K in zip(cameras, same, strict=True)]
    check(read_calibration_file(write_colmap(tmp_path, cameras, model))[0], cameras)


@pytest.mark.parametrize("num_frames", [1, 3])
@pytest.mark.parametrize("is_fisheye", [False, True])
def test_transforms(tmp_path: Path, num_frames: int, is_fisheye: bool):
    cameras = fisheyes(("cam00", "cam01")) if is_fisheye else known_cameras()
    model = "OPENCV_FISHEYE" if is_fisheye else "OPENCV"
    path = write_transforms(tmp_path, cameras, num_frames=num_frames, camera_model=model)
    check(read_calibration_file(path)[0], cameras)


def test_transforms_with_labels_and_common_values(tmp_path: Path):
    camera = known_cameras(("B", "A"), distortion=())[0]
    frames = [
        {
            "file_path": f"x/{frame}.jpg",
            "camera_label": "A",
            "transform_matrix": camera.opengl.tolist(),
        }
        for frame in range(2)
    ]
    angle = 2.0 * np.arctan(0.5 * 640 / 600.0)
    common = {"camera_angle_x": angle, "w": 640, "h": 480, "frames": frames}
    (tmp_path / "t.json").write_text(json.dumps(common))
    rig, _ = read_calibration_file(tmp_path / "t.json")
    check(rig, [centred(replace(camera, name="A"))])


def test_transforms_of_a_moving_camera_are_refused(tmp_path: Path):
    one, other, third = known_cameras(("A", "B", "C"))
    path = write_transforms(tmp_path, [one, replace(other, name="A"), third], num_frames=2)
    with pytest.raises(ValueError, match=r"camera A moves"):
        read_calibration_file(path)


def test_llff(tmp_path: Path):
    cameras = [replace(centred(camera), name="") for camera in known_cameras()]
    check(read_calibration_file(write_llff(tmp_path, cameras))[0], cameras)


def test_immersive(tmp_path: Path):
    cameras = fisheyes()
    check(read_calibration_file(write_immersive(tmp_path, cameras))[0], cameras, unit="m")


WRITERS: dict[str, Callable[[Path, Sequence[KnownCamera]], Path]] = {
    "calibration.qca.txt": write_qualisys,
    "calibration.toml": write_anipose,
    "intri.yml": write_easymocap,
    "calibration_161029_sports1.json": write_cmu,
    "transforms.json": write_transforms,
    "poses_bounds.npy": write_llff,
    "models.json": write_immersive,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kept", [0.0, 0.35, 0.8])
def test_cut_files_end_in_a_sentence(tmp_path: Path, name: str, kept: float):
    WRITERS[name](tmp_path, known_cameras())
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=rf"^Expected .*{name[:5]}") as error:
        read_calibration_file(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("calibration.qca.txt", "fov_video", "fov_other", "has no fov_video"),
        ("calibration.toml", "matrix", "matrices", "no table with a matrix"),
        ("calibration.toml", "rotation", "turn", "it lacks 'rotation'"),
        ("models.json", '"fisheye"', '"equirectangular"', "projection equirectangular"),
        ("transforms.json", "OPENCV", "OMNI", "camera_model OMNI"),
        ("transforms.json", '"time"', '"k4"', "k4 = 0.03"),
        ("intri.yml", "K_", "Q_", "no matrix K_"),
        ("calibration_161029_sports1.json", '"distCoef"', '"d"', "it lacks 'distCoef'"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, name: str, old: str, new: str, message: str):
    WRITERS[name](tmp_path, known_cameras())
    if name == "transforms.json":
        write_transforms(tmp_path, known_cameras(), num_frames=2)
    (tmp_path / name).write_text((tmp_path / name).read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_calibration_file(tmp_path / name)


def test_no_calibration_and_an_unknown_one(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nothing; set --from"):
        read_calibration_file(tmp_path / "none.toml")
    for name, text in (("a.json", "7"), ("b.json", "{}"), ("c.csv", ""), ("d.txt", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=r"one of the forms Qualisys .*; export it"):
            read_calibration_file(tmp_path / name)
    write_easymocap(tmp_path, known_cameras())
    (tmp_path / "extri.yml").unlink()
    with pytest.raises(FileNotFoundError, match=r"extri\.yml is missing"):
        read_calibration_file(tmp_path)
