"""Small corrections of training cameras: pose, clock and colours, one each per physical camera.

A camera of a rig is corrected once, not at every frame. Held-out views are never corrected: they
show what the mean of the training cameras shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn
from torch.nn import Parameter

from moegs_ns.cameras import View, apply_pose_delta
from moegs_ns.cuda_graphs.graphed import GraphedCallable
from moegs_ns.gaussians import cat_or_single
from moegs_ns.mixture.mixture import MixtureRender
from moegs_ns.runs.checkpoint import without_prefix
from moegs_ns.scene import SceneInfo

POSE_GROUP, COLOR_GROUP, TIME_GROUP = "camera_opt", "color_correction", "camera_clock"
"""Names of the optimisers."""


class CameraCorrections(nn.Module):
    """Pose, clock and colour corrections of the training cameras; each may be off.

    Poses are nerfstudio's camera optimiser, with translations in units of the scene's extent. The
    colour of a camera is an affine map; the mean of all maps is the identity, so that they cannot
    change the colours of the scene itself. A camera whose clock is off by x frames shows at frame f
    what the scene shows at frame f + x; the mean of all offsets is 0, so that they cannot shift the
    scene's own clock.

    Wherever trained corrections are opened, they are those of the cameras that they were learned
    for, in units of the extent of these.
    """

    camera_ids: Int[Tensor, "M"]
    extent: Float[Tensor, ""]

    def __init__(
        self,
        poses: CameraOptimizerConfig,
        has_color_correction: bool,
        scene: SceneInfo,
        *,
        has_time_offsets: bool = False,
    ) -> None:
        super().__init__()
        count = len(scene.camera_ids)
        self._row_of: dict[int, int] = {}
        self._rows: dict[tuple[torch.device, int], Int[Tensor, "1"]] = {}
        """Rows on their device, as uploading one takes longer than all that is done with it."""
        self.poses: CameraOptimizer = poses.setup(num_cameras=count, device="cpu")
        self.color = Parameter(torch.zeros(count, 3, 4)) if has_color_correction else None
        self.has_time_offsets = has_time_offsets
        """Whether clocks are corrected."""
        self.times = Parameter(torch.zeros(count)) if has_time_offsets else None
        """Offsets of the clocks, in frames, up to a constant; see `time_offsets`."""
        self.last_frame = max(scene.num_frames - 1, 1)
        self.graphed_colors = GraphedCallable(self._recorded, self)
        self.is_on = has_color_correction or self.changes_views
        """Whether anything is corrected."""
        ids = torch.tensor(scene.camera_ids, dtype=torch.long)
        extent = torch.tensor(scene.extent, dtype=torch.float32)
        self.register_buffer("camera_ids", ids, persistent=self.is_on)
        self.register_buffer("extent", extent, persistent=self.is_on)
        self.set_cameras(ids)

    def set_cameras(self, ids: Int[Tensor, "M"]) -> None:
        """Have a row for each of these cameras, which changes nothing where the cameras are others
        than before."""
        if not torch.equal(ids, self.camera_ids.cpu()):
            self.camera_ids = ids.to(self.camera_ids.device)
            for parameter in self.parameters():
                # In place, so that an optimiser built before keeps pointing at what is trained.
                parameter.data = parameter.data.new_zeros(len(ids), *parameter.shape[1:])
        self._row_of = {camera: row for row, camera in enumerate(ids.tolist())}
        self._rows.clear()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if self.is_on:
            # Runs of 0.2 do not tell: they are opened with the cameras of their training.
            ids = state_dict.setdefault(f"{prefix}camera_ids", self.camera_ids)
            state_dict.setdefault(f"{prefix}extent", self.extent)
            self.set_cameras(ids.cpu())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @property
    def has_pose_correction(self) -> bool:
        """Whether poses are corrected."""
        return self.poses.config.mode != "off"

    @property
    def changes_views(self) -> bool:
        """Whether poses or clocks are corrected."""
        return self.has_pose_correction or self.has_time_offsets

    def time_offsets(self) -> Float[Tensor, "M"]:
        """Frames by which the scene is ahead of what each camera's own clock says; of mean 0."""
        times = cast(Tensor, self.times)
        return times - times.mean()

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """Groups of what is on."""
        groups: dict[str, list[Parameter]] = {}
        if self.has_pose_correction:
            groups[POSE_GROUP] = list(self.poses.parameters())
        if self.color is not None:
            groups[COLOR_GROUP] = [self.color]
        if self.times is not None:
            groups[TIME_GROUP] = [self.times]
        return groups

    def knows(self, view: View) -> bool:
        """Whether all cameras of a view have a row."""
        return self._row_of.keys() >= set(view.camera_ids.tolist())

    def rows(self, view: View) -> Int[Tensor, "C"]:
        """Row of each camera of a training view, on the device, without synchronising.

        Raises:
            ValueError: one of them is not a training camera.
        """
        ids, device = view.camera_ids.tolist(), view.viewmats.device
        if not self.knows(view):
            raise ValueError(
                f"Corrections are learned for training cameras {list(self._row_of)}, but the "
                f"batch shows cameras {ids}; switch the corrections off for this data set."
            )
        wanted = [(device, self._row_of[camera]) for camera in ids]
        for key in set(wanted) - self._rows.keys():
            self._rows[key] = torch.tensor([key[1]], device=device)
        return cat_or_single([self._rows[key] for key in wanted])

    def correct_poses(self, view: View) -> View:
        """The view from where its cameras are believed to stand."""
        if not self.has_pose_correction:
            return view
        change = self.poses(self.rows(view)).to(view.viewmats)
        return apply_pose_delta(view, change[:, :, :3], self.extent * change[:, :, 3])

    def correct_times(self, view: View) -> View:
        """The view at the time that its cameras are believed to show, within the clip.

        One time belongs to one camera here, so the view must have one.
        """
        if self.times is None:
            return view
        assert len(view) == 1, f"cameras have clocks of their own, got {len(view)}"
        change = self.time_offsets().index_select(0, self.rows(view)) / self.last_frame
        times = (view.times + change.to(view.times)).clamp(0.0, 1.0)
        return replace(view, times=times)

    def corrected(self, view: View) -> View:
        """The view from where, and at the time when, its cameras are believed to be."""
        return self.correct_times(self.correct_poses(view))

    def correct_colors(
        self, image: Float[Tensor, "C H W 3"], view: View
    ) -> Float[Tensor, "C H W 3"]:
        """The image as the view's cameras would record it."""
        if self.color is None:
            return image
        return self._recorded(image, self.rows(view))

    def correct_all_colors(
        self, images: Sequence[Float[Tensor, "_ H W 3"]], views: Sequence[View]
    ) -> Sequence[Float[Tensor, "_ H W 3"]]:
        """The images of a training step as the cameras of their views would record them, by a
        graphed callable: consume them before the next call."""
        if self.color is None:
            return images
        rows = cat_or_single([self.rows(view) for view in views])
        whole = self.graphed_colors(cat_or_single(images), rows)
        return [whole] if len(images) == 1 else whole.split([len(view) for view in views])

    def _recorded(
        self, images: Float[Tensor, "C H W 3"], rows: Int[Tensor, "C"]
    ) -> Float[Tensor, "C H W 3"]:
        color = cast(Tensor, self.color)
        changes = (color - color.mean(0)).index_select(0, rows).unbind()
        # Image by image: for one product of few numbers over many pixels, as the gradient of a map
        # is, a GPU splits the pixels up, for several at once it does not.
        shifts = [
            torch.addmm(change[:, 3], image.flatten(0, 1), change[:, :3].T)
            for image, change in zip(images, changes, strict=True)
        ]
        return images + torch.stack(shifts).view_as(images)

    def loss_terms(self) -> dict[str, Tensor]:
        """Penalties on large corrections of poses."""
        losses: dict[str, Tensor] = {}
        self.poses.get_loss_dict(losses)
        return losses

    def report(self) -> dict[str, Tensor]:
        """Sizes of the corrections for the log."""
        figures: dict[str, Tensor] = {}
        self.poses.get_metrics_dict(figures)
        if self.color is not None:
            change = cast(Tensor, self.color - self.color.mean(0))
            figures["color_correction_max"] = change.detach().abs().amax()
        if self.times is not None:
            figures["time_offset_max_frames"] = self.time_offsets().detach().abs().amax()
        return figures

    def record(self) -> dict[str, Any]:
        """What a training says of the clocks that it has learned: frames by camera."""
        if self.times is None:
            return {}
        offsets = self.time_offsets().detach().tolist()
        frames = {str(c): round(x, 4) for c, x in zip(self._row_of, offsets, strict=True)}
        return {"time_offsets_in_frames": frames}


LEARNED = ("color", "times", "poses.pose_adjustment")
"""Names of what is learned, one row for each camera."""


class Learned(NamedTuple):
    """What an expert learns of its training cameras; nothing by default."""

    poses: CameraOptimizerConfig = CameraOptimizerConfig()
    has_colors: bool = False
    has_time_offsets: bool = False


UNCORRECTED = Learned()


class ExpertCorrections(nn.Module):
    """Poses, clocks and colours of training cameras as the frozen experts of a mixture know them.

    A router that compared uncorrected images with training images would learn whose colours happen
    to be near a camera's, or who happens to be shifted least, which says nothing about other
    cameras. A camera that an expert was not trained on is to it as the data set says.
    """

    def __init__(self, learned: Sequence[Learned], scene: SceneInfo) -> None:
        super().__init__()
        self.camera_ids = scene.camera_ids
        """Cameras that the router is trained on."""
        self.experts = nn.ModuleList(
            CameraCorrections(
                each.poses, each.has_colors, scene, has_time_offsets=each.has_time_offsets
            )
            for each in learned
        )
        self.requires_grad_(False)
        self.is_on = any(corrections.is_on for corrections in self.experts)
        """Whether anything is corrected."""

    def load(self, index: int, states: Sequence[Mapping[str, Tensor]], source: str) -> None:
        """Take the corrections of the expert number `index` from the states of its runs.

        Of runs of several windows the mean counts; one without corrections changes none.

        Raises:
            ValueError: they do not tell their cameras, which are not as many as those here.
        """
        corrections = cast(CameraCorrections, self.experts[index])
        if not corrections.is_on:
            return
        own = [without_prefix(dict(state), "corrections.") for state in states]
        learned = [state for state in own if any(name in state for name in LEARNED)]
        ids = [self._stored_cameras(state, source) for state in learned]
        if learned:
            corrections.set_cameras(torch.cat(ids).unique())
            # Windows share it.
            corrections.extent.copy_(learned[0].get("extent", corrections.extent))
        for value in corrections.parameters():
            value.zero_()
        for state, own_ids in zip(learned, ids, strict=True):
            rows = torch.searchsorted(corrections.camera_ids.cpu(), own_ids)
            for name, value in corrections.named_parameters():
                if name in state:
                    change = state[name].to(value)
                    if name in ("color", "times"):  # Each run's own mean changes nothing.
                        change = change - change.mean(0)
                    value[rows] += change / len(states)
        missing = sorted(set(self.camera_ids) - set(corrections.camera_ids.tolist()))
        if missing:
            CONSOLE.print(
                f"{source} was not trained on the cameras {', '.join(map(str, missing))}; there it "
                "is compared without corrections."
            )

    def _stored_cameras(self, state: Mapping[str, Tensor], source: str) -> Int[Tensor, "M"]:
        """Cameras of the rows in a run's state; those of this data set for runs of 0.2, which do
        not tell them."""
        if "camera_ids" in state:
            return state["camera_ids"]
        counts = {len(state[name]) for name in LEARNED if name in state}
        if counts != {len(self.camera_ids)}:
            raise ValueError(
                "Expected experts whose cameras were corrected for the "
                f"{len(self.camera_ids)} training cameras of this data set, but {source} knows "
                f"{sorted(counts)}; train it on the same cameras, or without "
                "--pipeline.model.color-correction, --pipeline.model.time-offsets and "
                "--pipeline.model.camera-optimizer.mode."
            )
        return torch.tensor(self.camera_ids, dtype=torch.long)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Mixtures of before were trained from where the data set puts cameras, and knew no poses.
        for name, value in self.named_parameters():
            if not name.endswith("color"):
                state_dict.setdefault(prefix + name, torch.zeros_like(value))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def views(self, view: View) -> list[View] | None:
        """A training view from where, and at the time when, each expert believes its camera to be;
        None if all believe the data set."""
        corrections = cast(list[CameraCorrections], list(self.experts))
        if not any(each.changes_views for each in corrections):
            return None
        return [each.corrected(view) if each.knows(view) else view for each in corrections]

    def recorded(self, images: Float[Tensor, "E H W 3"], view: View) -> Float[Tensor, "E H W 3"]:
        """The experts' images of a training view as its camera would record each."""
        seen = list(images)
        for k, corrections in self._with_colors(view):
            seen[k] = corrections.correct_colors(images[k][None], view)[0]
        return torch.stack(seen)

    def recolored(self, render: MixtureRender, view: View) -> Float[Tensor, "H W 3"]:
        """The blend of a training view, every expert as the view's camera would record it.

        The expert whose gate at a pixel is G changes it by G times the change of its own image.
        """
        image = render.rgb
        for k, corrections in self._with_colors(view):
            own = render.images[k]
            recorded = corrections.correct_colors(own[None], view)[0]
            image = image + render.gates[k] * (recorded - own)
        return image

    def _with_colors(self, view: View) -> list[tuple[int, CameraCorrections]]:
        """The experts that have learned the colours of the view's cameras, with their numbers."""
        experts = enumerate(cast(list[CameraCorrections], list(self.experts)))
        return [(k, one) for k, one in experts if one.color is not None and one.knows(view)]
