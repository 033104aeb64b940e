"""nerfstudio's viewer over small models, with a client that needs no browser."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from data_helpers import image_scene, open_scene
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.viewer.viewer import Viewer

from benchmarks.viser_client import ViserClient
from moegs_ns.cameras import View, view_from_cameras
from moegs_ns.engine.viewer import LiveViewer
from moegs_ns.engine.viewer.pruning import experts_of

NUM_FRAMES = 5


def data(folder: Path) -> Any:
    """The datamanager of 4 cameras beside each other, of which camera 0 is held out, 5 frames."""
    return open_scene(image_scene(folder, num_cameras=4, num_frames=NUM_FRAMES))


def in_front(model: Any) -> Any:
    """A model whose clouds are in front of the cameras of `data`, which look along -z."""
    for expert in experts_of(model):
        for name in ("means", "motion"):
            rows = expert.gauss_params[name].data
            rows *= torch.tensor([1.0, -1.0, -1.0]).repeat(rows.shape[1] // 3)
    return model


def training_view(datamanager: Any, index: int = 0) -> View:
    """The camera of a training image."""
    return view_from_cameras(datamanager.train_dataset.cameras[index : index + 1])


@dataclass
class Opened:
    """A viewer that somebody looks at."""

    viewer: Viewer
    live: Any
    client: ViserClient
    model: Any
    datamanager: Any

    def picture(self, index: int = 0) -> torch.Tensor:
        """What the controls make of the camera of a training image, at the present time."""
        view = training_view(self.datamanager, index)
        view.times.fill_(float(self.viewer.control_panel.time))
        with torch.no_grad():
            return self.live.picture(view, self.live.choices())[0]

    def set(self, label: str, value: Any) -> None:
        """Set a control, and wait until the viewer has drawn anew because of it."""
        self.become_quiet()
        seen = len(self.client.pictures)
        self.client.set(label, value)
        handle = self.viewer.viser_server.gui._gui_input_handle_from_id[
            self.client.control(label)["id"]
        ]
        if not handle._impl.is_button:
            self.wait(lambda: handle.value == value, f"{label} is not taken over")
        self.wait(lambda: len(self.client.pictures) > seen, f"{label} draws nothing anew")

    def become_quiet(self) -> None:
        """Wait until the viewer has drawn everything that it was asked for."""
        [thread] = self.viewer.render_statemachines.values()
        count, since = len(self.client.pictures), time.monotonic()
        deadline = since + 100.0
        while thread.state != "high" or time.monotonic() < since + 0.3:
            assert time.monotonic() < deadline, "it draws on and on"
            if count != len(self.client.pictures):
                count, since = len(self.client.pictures), time.monotonic()
            time.sleep(0.01)

    def wait(self, is_so: Callable[[], bool], what_is_wrong: str) -> None:
        """Wait until something is the case."""
        deadline = time.monotonic() + 100.0
        while not is_so():
            assert time.monotonic() < deadline, what_is_wrong
            time.sleep(0.01)


@contextmanager
def opened(model: Any, datamanager: Any, folder: Path, port: int) -> Iterator[Opened]:
    """The viewer of a model, seen by a client from the first training camera."""
    live = LiveViewer(model, datamanager)
    pipeline: Any = SimpleNamespace(model=model, datamanager=datamanager, live_viewer=live)
    config = ViewerConfig(websocket_port=port, image_format="png")
    viewer = Viewer(config, folder / "log", folder, pipeline, train_lock=threading.Lock())
    viewer.control_panel._max_res.value = 64
    viewer.init_scene(datamanager.train_dataset, "completed", datamanager.eval_dataset)
    try:
        with ViserClient(viewer.viser_server.get_port(), aspect=1.5) as client:
            seen = Opened(viewer, live, client, model, datamanager)
            # As nerfstudio's cameras of `data` stand: OpenCV's axes are turned about x.
            place = 10.0 * training_view(datamanager).positions[0].numpy()
            client.move(
                wxyz=(0.0, 1.0, 0.0, 0.0), position=tuple(place.tolist()), fov=0.8,
                look_at=(float(place[0]), float(place[1]), -10.0), up_direction=(0.0, 1.0, 0.0),
            )  # fmt: skip
            seen.wait(lambda: len(client.pictures) > 0, "there is no first picture")
            yield seen
    finally:
        if live.playback is not None:
            live.playback.player.pause()
        for thread in list(viewer.render_statemachines.values()):
            thread.running = False
        viewer.viser_server.stop()
