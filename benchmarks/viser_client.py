"""A client of viser's server without a browser: it looks, presses and clicks as a page does."""

import io
import threading
import time
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Message = dict[str, Any]


class ViserClient:
    """One connection; messages are read in a thread of its own.

    What the page of viser 0.2.7 would show is kept: all controls by their labels, the values that
    the server gave them, the pictures and the camera.
    """

    def __init__(self, port: int, aspect: float = 4.0 / 3.0) -> None:
        """Connect to a server on this machine; `aspect` is the window's width over its height."""
        self.aspect = aspect
        self.controls: dict[str, Message] = {}
        self.pictures: list[tuple[float, bytes]] = []
        """Moment of arrival, in seconds of the monotonic clock, and the file of each picture."""
        self.camera: dict[str, Any] = {
            "wxyz": (1.0, 0.0, 0.0, 0.0), "position": (0.0, 0.0, 0.0), "fov": 1.0,
            "look_at": (0.0, 0.0, 1.0), "up_direction": (0.0, -1.0, 0.0),
        }  # fmt: skip
        self.nodes: dict[str, Message] = {}
        """Nodes of the scene by their names."""
        self.clicks_are_wanted = False
        self._socket = connect(f"ws://localhost:{port}", max_size=None)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.move()

    def __enter__(self) -> "ViserClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._reader.join(10.0)

    # ---- what a person does ----

    def move(self, **camera: Any) -> None:
        """Tell the server where the camera is, as a page does after every change."""
        self.camera |= camera
        self._send("ViewerCameraMessage", aspect=self.aspect, **self.camera)

    def set(self, label: str, value: Any) -> None:
        """Set a control, press a button (True) or one of several (its text)."""
        control = self.control(label)
        control["value"] = value
        self._send("GuiUpdateMessage", id=control["id"], updates={"value": value})

    def click(self, across: float, down: float) -> None:
        """Click on the picture, at fractions of its width and height."""
        self._send(
            "ScenePointerMessage", event_type="click", ray_origin=(0.0, 0.0, 0.0),
            ray_direction=(0.0, 0.0, 1.0), screen_pos=((across, down),),
        )  # fmt: skip

    # ---- what a person sees ----

    def control(self, label: str, seconds: float = 20.0) -> Message:
        """The control with a label; waits until it is there."""
        deadline = time.monotonic() + seconds
        while True:
            found = [one for one in list(self.controls.values()) if one.get("label") == label]
            if found:
                return found[0]
            assert time.monotonic() < deadline, f"there is no control {label}"
            time.sleep(0.01)

    def texts(self) -> list[str]:
        """Of all texts between the controls."""
        return [one["markdown"] for one in list(self.controls.values()) if "markdown" in one]

    def picture(self) -> NDArray[np.uint8]:
        """The newest picture, [H, W, 3]."""
        return np.asarray(Image.open(io.BytesIO(self.pictures[-1][1])).convert("RGB"))

    # ---- the connection ----

    def _send(self, kind: str, **fields: Any) -> None:
        self._socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def _read(self) -> None:
        try:
            for raw in self._socket:
                assert isinstance(raw, bytes), "viser sends bytes"
                for message in msgspec.msgpack.decode(raw):
                    self._take(message)
        except ConnectionClosed:
            return

    def _take(self, message: Message) -> None:
        kind, name = message.pop("type"), message.get("name")
        camera = {
            "SetCameraPositionMessage": "position", "SetCameraLookAtMessage": "look_at",
            "SetCameraUpDirectionMessage": "up_direction", "SetCameraFovMessage": "fov",
        }  # fmt: skip
        if kind == "BackgroundImageMessage":
            self.pictures.append((time.monotonic(), message["rgb_bytes"]))
        elif kind in camera:
            self.camera[camera[kind]] = message[next(iter(message))]
        elif kind == "GuiUpdateMessage":
            self.controls.setdefault(message["id"], {}).update(message["updates"])
        elif kind.startswith("GuiAdd"):
            self.controls.setdefault(message["id"], {}).update(message)
        elif kind == "ScenePointerEnableMessage":
            self.clicks_are_wanted = message["enable"]
        elif kind == "RemoveSceneNodeMessage":
            self.nodes.pop(str(name), None)
        elif name is not None:
            self.nodes.setdefault(str(name), {}).update(message)
