"""How other programs describe lenses. All of these count pixels as we do."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from moegs_ns.data.frames.undistortion import Lens

_FISHEYE = "OPENCV_FISHEYE"
_PERSPECTIVE = ("OPENCV", "PERSPECTIVE", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
"""Values of nerfstudio's `camera_model` that k1, k2, p1, p2 and k3 belong to."""


def colmap_lens(model: str, params: Float[np.ndarray, "_"]) -> Lens:
    """A lens of COLMAP; its parameters are focal lengths, principal point, distortion.

    Raises:
        ValueError: the model has no counterpart here.
    """
    # Models called SIMPLE or RADIAL have one focal length.
    focals = 1 if model.startswith(("SIMPLE", "RADIAL")) else 2
    fx, fy, cx, cy, *k = (
        float(value) for value in (params[0], params[focals - 1], *params[focals:])
    )
    radial = (*k, 0.0, 0.0)[:2]
    distortions = {
        "SIMPLE_PINHOLE": (),
        "PINHOLE": (),
        "SIMPLE_RADIAL": (*radial, 0.0, 0.0),
        "RADIAL": (*radial, 0.0, 0.0),
        "OPENCV": tuple(k),
        "FULL_OPENCV": tuple(k),
        "SIMPLE_RADIAL_FISHEYE": (*radial, 0.0, 0.0),
        "RADIAL_FISHEYE": (*radial, 0.0, 0.0),
        "OPENCV_FISHEYE": tuple(k),
    }
    if model not in distortions:
        raise ValueError(f"a lens of the model {model}, not one of {', '.join(distortions)}")
    kind = "fisheye" if model.endswith("FISHEYE") else "opencv"
    return Lens(fx=fx, fy=fy, cx=cx, cy=cy, model=kind, distortion=distortions[model])


def transforms_lens(frame: Mapping[str, Any], width: int, height: int) -> Lens:
    """The lens of an image in nerfstudio's `transforms.json`: `fl_x` or `camera_angle_x`, and what
    else there is.

    Raises:
        KeyError: there is no focal length.
        ValueError: the model has no counterpart here.
    """
    if "fl_x" in frame:
        fx = float(frame["fl_x"])
    else:
        fx = 0.5 * width / float(np.tan(0.5 * float(frame["camera_angle_x"])))
    kind = str(frame.get("camera_model", "OPENCV"))
    names = ("k1", "k2", "k3", "k4", "p1", "p2")
    k1, k2, k3, k4, p1, p2 = (float(frame.get(name, 0.0)) for name in names)
    # nerfstudio's k4 of a perspective lens is none of OpenCV's.
    if kind != _FISHEYE and (kind not in _PERSPECTIVE or k4 != 0.0):
        raise ValueError(f"the camera_model {kind} with k4 = {k4:g}")
    distortion = (k1, k2, k3, k4) if kind == _FISHEYE else (k1, k2, p1, p2, k3)
    return Lens(
        fx=fx,
        fy=float(frame.get("fl_y", fx)),
        cx=float(frame.get("cx", 0.5 * width)),
        cy=float(frame.get("cy", 0.5 * height)),
        model="fisheye" if kind == _FISHEYE else "opencv",
        distortion=distortion if kind == _FISHEYE or any(distortion) else (),
    )


def centered_lens(focal: float, width: float, height: float) -> Lens:
    """A pinhole with its principal point in the middle, as LLFF's poses have it."""
    return Lens(fx=float(focal), fy=float(focal), cx=width / 2.0, cy=height / 2.0)
