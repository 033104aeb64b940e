"""The teacher of a distillation: a trained mixture, opened when its first image is wanted."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.evaluation.image_metrics import quantize
from moegs_ns.experts.base import ExpertConfig
from moegs_ns.experts.windows import WindowedExpertConfig
from moegs_ns.mixture.distill import DistillationConfig, TeacherTargets
from moegs_ns.models.base import is_mixture
from moegs_ns.models.trained_mixture import open_mixture
from moegs_ns.runs.checkpoint import (
    Run,
    find_config,
    run_of,
    training_record,
)
from moegs_ns.scene import SceneInfo
from moegs_ns.training.losses import TrainingRender


def prepare_distillation(
    config: DistillationConfig, student: ExpertConfig, *, changes_views: bool
) -> None:
    """Check the options of a distillation, complete its path and name the gate; before training.

    Raises:
        FileNotFoundError: there is no such teacher.
        ValueError: it is no mixture, it has no gate for the student, or options are wrong.
    """
    if config.teacher is None:
        if config.gate is not None:
            raise ValueError(
                f"--teacher-gate {config.gate} names a gate of a teacher, but there is none; add "
                "--teacher RUN/config.yml."
            )
        return
    config.check()
    # Colours may be corrected: images of truth, teacher and student are as the camera records them.
    if changes_views:
        raise ValueError(
            "A teacher renders cameras where and when its experts have learned them to be, but "
            "this training corrects that anew; switch --pipeline.model.camera-optimizer.mode and "
            "--pipeline.model.time-offsets off, or train without --teacher."
        )
    run = open_teacher(config.teacher)
    config.teacher = run.config_path.resolve()
    if config.weighting == "gate-weighted":
        config.gate = find_gate(run, student, config.gate)
    elif config.gate is not None:
        raise ValueError(
            f"--teacher-gate {config.gate} expects a loss that is weighted by gates, but the "
            "weighting is unweighted; leave one of the two options out."
        )


def open_teacher(path: Path) -> Run:
    """The run of a mixture.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is a run of something else.
    """
    try:
        find_config(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Expected a trained mixture to distil from, but there is no {path}; check --teacher. "
            "A student needs its teacher until its training is finished, not afterwards."
        ) from None
    remedy = "name a run of moegs-router"
    return run_of(is_mixture, path, "the run of a mixture in --teacher", remedy)


def find_gate(teacher: Run, student: ExpertConfig, wanted: str | None) -> str:
    """Name of the teacher's expert that stands for the student.

    Raises:
        ValueError: none or several are of the student's family, or the wanted one does not exist.
    """
    model = teacher.config.pipeline.model
    names = ", ".join(model.expert_names)
    if wanted is not None:
        if wanted not in model.expert_names:
            raise ValueError(
                f"--teacher-gate expects one of the teacher's experts ({names}), got '{wanted}'; "
                "name one of these."
            )
        return wanted
    family = type(student)
    matching = [
        name
        for name, expert in zip(model.expert_names, model.expert_models, strict=True)
        if families(expert.expert) == {family}
    ]
    if len(matching) > 1:
        raise ValueError(
            f"The teacher {teacher.config_path} has several experts of the student's family "
            f"({', '.join(matching)}); say whose gate to use with --teacher-gate."
        )
    if not matching:
        kind = family.__name__.removesuffix("Config")
        raise ValueError(
            f"Expected a teacher with an expert of the student's family ({kind}), but "
            f"{teacher.config_path} mixes {names}; name the gate to use with --teacher-gate, or do "
            "without gates (--pipeline.model.distillation.weighting unweighted)."
        )
    return matching[0]


def families(expert: ExpertConfig) -> set[type[ExpertConfig]]:
    """The families that an expert is of; that of its windows where it is made of several."""
    members = expert.members if isinstance(expert, WindowedExpertConfig) else (expert,)
    return {type(member) for member in members}


class Teacher:
    """Renders training images of the teacher, each once as long as there is memory to keep it.

    Images and gates are rounded to 8 bits whether they are kept or not, as the training images are.
    It is no module, so that the student's checkpoint holds nothing of it.
    """

    def __init__(self, config: DistillationConfig, scene: SceneInfo) -> None:
        self.config = config
        self.scene = scene
        self._kept: dict[int, UInt8[Tensor, "H W D"]] = {}
        self._bytes_left = config.cache_gb * 1e9

    def __call__(self, part: TrainingRender) -> TeacherTargets:
        """What the teacher shows in the images that the student has just rendered."""
        device = part.target.device
        shown = [
            self._image(index, part.view.select(torch.tensor([row]))).to(device)
            for row, index in enumerate(part.indices.tolist())
        ]
        channels = torch.stack(shown).float() / 255.0
        has_gate = self.config.gate is not None
        return TeacherTargets(channels[..., :3], channels[..., 3:] if has_gate else None)

    def _image(self, index: int, view: View) -> UInt8[Tensor, "H W D"]:
        """Colour, and the gate if there is one, of the training image number `index`."""
        if index in self._kept:
            return self._kept[index]
        image = self._render(view)
        if image.numel() <= self._bytes_left:
            self._bytes_left -= image.numel()
            self._kept[index] = image.cpu()
        return image

    @torch.no_grad()
    def _render(self, view: View) -> UInt8[Tensor, "H W D"]:
        self._check_size(view)
        # As this camera records it, like the ground truth that it is mixed with.
        outputs = self.model.to(view.viewmats.device).recorded_outputs(view)
        names = ["rgb"] + ([] if self.config.gate is None else [f"gate_{self.config.gate}"])
        channels = torch.cat([outputs[name] for name in names], dim=-1)
        return (255.0 * quantize(channels)).round().to(torch.uint8)

    @cached_property
    def run(self) -> Run:
        """The teacher's run."""
        assert self.config.teacher is not None
        return open_teacher(self.config.teacher)

    @cached_property
    def model(self) -> Any:
        """The teacher with its weights.

        Raises:
            ValueError: it was trained on another scene or time range.
        """
        return open_mixture(self.run, self.scene, role="a teacher")

    def _check_size(self, view: View) -> None:
        """Raise ValueError unless the teacher was trained on images of this size."""
        size = training_record(self.run.config_path).get("image_size")
        if size is not None and size != [view.width, view.height]:
            raise ValueError(
                f"Expected a teacher of images of {view.width}x{view.height} pixels, but "
                f"{self.run.config_path} was trained on {size[0]}x{size[1]}; use the same data and "
                "parser options for both."
            )
