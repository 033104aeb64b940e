"""What nerfstudio's viewer and renderer ask of a model: one camera at one time, perhaps cropped."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.model_components import renderers
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from moegs_ns.cameras import View, view_from_cameras
from moegs_ns.mixture.mixture import MixtureRender

RENDER_THREAD = "nerfstudio.viewer.render_state_machine"
"""Where the class of the viewer's threads is; imported only in a viewer."""


@dataclass(frozen=True, eq=False)
class Crop:
    """The part of the scene that is to be seen."""

    box: OrientedBox
    background: Float[Tensor, "3"] | None = None
    """What lies behind it; None for the model's own background."""


def named_images(
    render: MixtureRender, names: Sequence[str], *, experts_alone: bool = True
) -> dict[str, Tensor]:
    """A mixture's outputs: the only place where they are named.

    Args:
        names: of the experts.
        experts_alone: with each expert's own image, which some mixtures have to draw for it.
    """
    outputs = {
        "rgb": render.rgb,
        "depth": render.depth,
        "accumulation": render.accumulation,
        "argmax_gate": render.argmax_gate,
    }
    for k, name in enumerate(names):
        if experts_alone:
            outputs[f"rgb_{name}"] = render.images[k]
        outputs[f"gate_{name}"] = render.gates[k]
    return outputs


def cropped_to(box: OrientedBox | None, device: torch.device) -> Crop | None:
    """The crop to a box over the background colour that nerfstudio's tools set for it."""
    if box is None:
        return None
    color = renderers.BACKGROUND_COLOR_OVERRIDE
    return Crop(box, None if color is None else color.to(device))


def view_at_time(camera: Cameras, num_frames: int) -> View:
    """One camera as a view at a time within the clip.

    Times outside of it, such as those of a spline between key frames, are moved to its ends.

    Raises:
        ValueError: the camera has no time, though the clip has several frames, or is no pinhole
            camera.
    """
    view = view_from_cameras(camera)
    if camera.times is None and num_frames > 1:
        raise ValueError(
            "Expected a camera with a time from 0 to 1 over the clip, got one without; give every "
            "frame of a camera path its render_time, or use `moegs render RUN path:interpolate` "
            "(ns-render interpolate loses the times of the cameras)."
        )
    times = view.times.clamp(0.0, 1.0)
    if bool((times != view.times).any()):
        _tell_once(
            f"A camera has the time {float(view.times[0]):g}, but a clip lasts from 0 to 1; what "
            "lies outside is shown as its first or last instant."
        )
        view = replace(view, times=times)
    return view


def pictures_within_range(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs whose colours lie in [0, 1]: spherical harmonics exceed it, and more would wrap in
    the 8 bits of the viewer."""
    return {
        name: value.clamp(0.0, 1.0) if value.shape[-1] == 3 else value
        for name, value in outputs.items()
    }


@contextmanager
def viewer_kept_alive() -> Iterator[None]:
    """In a thread of the viewer tell of a mistake once and leave the last picture; it would end
    the thread, and the viewer would stand still."""
    try:
        yield
    except ValueError as error:
        if not in_viewer():
            raise
        _tell_once(str(error))
        raise sys.modules[RENDER_THREAD].viewer_utils.IOChangeException from error


def in_viewer() -> bool:
    """Whether this is one of the threads that draw for the viewer."""
    viewer = sys.modules.get(RENDER_THREAD)
    return viewer is not None and isinstance(threading.current_thread(), viewer.RenderStateMachine)


@contextmanager
def no_tracing() -> Iterator[None]:
    """No tracing within a render: nerfstudio's viewer aborts one by raising from a trace function,
    which must not happen during a CUDA graph's capture, in a kernel or in a first import."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


@cache
def _tell_once(sentence: str) -> None:
    CONSOLE.print(sentence, soft_wrap=True)
