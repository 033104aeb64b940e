"""Our controls in nerfstudio's viewer, and the picture that they make."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import Tensor

from moegs_ns.cameras import View, single_views
from moegs_ns.data.datamanager import MoegsDataManager
from moegs_ns.engine.viewer.cameras import CameraControls, RecordedCameras
from moegs_ns.engine.viewer.click_controls import ClickControls, Seen
from moegs_ns.engine.viewer.expert_controls import ExpertControls
from moegs_ns.engine.viewer.look_controls import LookControls
from moegs_ns.engine.viewer.nearest import (
    ERROR,
    TRAINING_IMAGE,
    Comparison,
    NearestImages,
    outputs_of,
)
from moegs_ns.engine.viewer.outputs import Output, subject_of
from moegs_ns.engine.viewer.picture import compose
from moegs_ns.engine.viewer.pruning import NUM_VIEWS, PruningPreview
from moegs_ns.engine.viewer.stock import hide_replaced
from moegs_ns.engine.viewer.time_controls import TimeControls
from moegs_ns.mixture.live import LiveChoices
from moegs_ns.models.base import scene_of
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.models.viewing import Crop

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

RECENT = 20
"""Pictures over which the rate is averaged."""


class LiveViewer(ViewerControl):
    """Folders and tabs of our own beside nerfstudio's, and the one picture that they ask for.

    The model hands the viewer's threads to `draw`; every other caller gets all outputs as before.
    """

    def __init__(self, model: ExpertModel | MixtureModel, datamanager: MoegsDataManager) -> None:
        self._model, self._data = model, datamanager
        self._subject = subject_of(model)
        self._nearest: NearestImages | None = None
        self._pruning = PruningPreview(model, self._views)
        self._seen: dict[int, Seen] = {}
        self._seconds: deque[float] = deque(maxlen=RECENT)

    def _views(self) -> Iterator[View]:
        cameras = self._data.train_dataset.cameras
        return single_views(cameras, self._model.device, NUM_VIEWS)

    # ---- controls ----

    def _setup(self, viewer: "Viewer") -> None:
        super()._setup(viewer)
        hide_replaced(viewer)
        scene, gui = scene_of(self._model.kwargs), viewer.viser_server.gui
        # Between nerfstudio's figures and its tabs.
        order: float = viewer.stats_markdown.order
        self.status: Any = gui.add_markdown("", order=order + 0.1)
        self.playback: TimeControls | None = None
        if viewer.include_time and scene.num_frames > 1:
            self.playback = TimeControls(viewer, scene.num_frames, scene.fps, order + 0.2)
        tabs = gui.add_tab_group(order=order + 0.3)
        mixture = self._subject.mixture
        outputs = [*self._subject.outputs, TRAINING_IMAGE, ERROR]
        with tabs.add_tab("Show"):
            self.look = LookControls(
                gui, outputs, self._subject.names, self._changed, has_gates=mixture is not None
            )
        with tabs.add_tab("Gaussians" if mixture is None else "Experts"):
            temperature = None if mixture is None else mixture.temperature
            self.experts = ExpertControls(gui, self._subject.names, temperature, self._changed)
        with tabs.add_tab("Cameras"):
            cameras = RecordedCameras(self._data)
            self.cameras = CameraControls(viewer, cameras, self._time)
        with tabs.add_tab("Click"):
            self.click = ClickControls(viewer, self._subject, self._seen.get, self._while_idle)
        self._model.draw_live = self.draw

    def _time(self) -> float:
        return float(self.viewer.control_panel.time) if self.viewer.include_time else 0.0

    def _changed(self, _: Any) -> None:
        self.viewer._trigger_rerender()

    @contextlib.contextmanager
    def _while_idle(self) -> Iterator[None]:
        """The model as nerfstudio draws it: no training step runs, and it is in evaluation mode."""
        lock, model = self.viewer.train_lock, self._model
        with lock if lock is not None else contextlib.nullcontext():
            was_training = model.training
            model.eval()
            try:
                yield
            finally:
                model.train(was_training)

    # ---- the picture ----

    def draw(self, view: View, crop: Crop | None) -> dict[str, Tensor]:
        """The picture of one camera that the controls ask for, under nerfstudio's name of it."""
        started = time.perf_counter()
        choices = self.choices(crop)
        picture, comparison = self.picture(view, choices)
        # Wait for a GPU, whose work would else count as that of the next picture.
        if picture.is_cuda:
            torch.cuda.synchronize(picture.device)
        self._seconds.append(time.perf_counter() - started)
        client = getattr(getattr(threading.current_thread(), "client", None), "client_id", 0)
        self._seen[client] = view, choices
        self._tell(view, choices, comparison)
        return {"rgb": picture}

    def choices(self, crop: Crop | None = None) -> LiveChoices:
        """What is drawn of the experts, as the controls say."""
        return LiveChoices(
            is_on=self.experts.is_on(),
            temperature=self.experts.gate_temperature(),
            keep=self._pruning.keep(self.experts.prune.value),
            box=None if crop is None else crop.box,
            background=None if crop is None else crop.background,
        )

    def picture(
        self, view: View, choices: LiveChoices
    ) -> tuple[Float[Tensor, "H W 3"], Comparison | None]:
        """The picture in [0, 1], and the training image beside it if one is shown."""
        look = self.look.look()
        drawing = self._subject.draw(view, choices)
        others: dict[str, Output] = {}
        comparison = None
        if {TRAINING_IMAGE, ERROR} & {look.left, look.right}:
            if self._nearest is None:
                self._nearest = NearestImages(self._data)
            comparison = self._nearest.compare(self._subject, view, choices)
            others = outputs_of(comparison, view)

        def output(name: str) -> Output:
            return others[name] if name in others else drawing.output(name)

        return compose(look, output, lambda: drawing.gates), comparison

    def _tell(self, view: View, choices: LiveChoices, comparison: Comparison | None) -> None:
        seconds = sum(self._seconds) / len(self._seconds)
        rate = f"{1 / seconds:.1f} pictures/s ({1000 * seconds:.0f} ms)"
        counts = [expert.num_gaussians for expert in self._subject.experts]
        is_on = choices.is_on or (True,) * len(counts)
        left = counts if choices.keep is None else [int(mask.sum()) for mask in choices.keep]
        shown = sum(count for count, on in zip(left, is_on, strict=True) if on)
        self.experts.count.content = f"{shown:,} of {sum(counts):,} Gaussians, {rate}"
        parts = [rate]
        num_frames = scene_of(self._model.kwargs).num_frames
        if num_frames > 1:
            frame = round(float(view.time) * (num_frames - 1))
            parts.insert(0, f"Frame {frame} (0 to {num_frames - 1})")
        if comparison is not None:
            parts.append(comparison.describe())
        self.status.content = "  \n".join(parts)
