"""What a benchmark measures: a trained run, or random Gaussians in its place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from moegs_ns.cameras import View
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.models.expert_sources import unique_names
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.reports.benchmark.frames import cameras_apart
from moegs_ns.reports.benchmark.steps import Training, training_of_run
from moegs_ns.reports.benchmark.synthetic import SyntheticModels
from moegs_ns.reports.benchmark.ways import OneExpert, Subject, WholeMixture
from moegs_ns.runs.checkpoint import Run


@dataclass(frozen=True)
class Measured:
    """Something that draws frames and can be trained."""

    subject: Subject
    cameras: Sequence[View]
    """Those that it is drawn for, on the device."""
    trainings: Mapping[str, Callable[[], Training]]
    """What sets up each training, by name; it changes what is drawn."""


def of_run(run: Run) -> Measured:
    """A run, its held-out cameras (training cameras where none is held out) and its training."""
    pipeline, name = load_pipeline(run), unique_names([run.config.method_name])[0]
    model, data = pipeline.model, pipeline.datamanager
    if isinstance(model, MixtureModel):
        subject: Subject = WholeMixture(model.config.expert_names, model.mixture)
    else:
        subject = OneExpert(name, model.expert)
    dataset = data.eval_dataset if len(data.eval_dataset) else data.train_dataset
    cameras = cameras_apart(dataset.cameras, pipeline.device)
    return Measured(subject, cameras, {name: partial(training_of_run, name, run.config, pipeline)})


def of_random_gaussians(
    methods: Sequence[str], count: int, size: tuple[int, int], seed: int
) -> Measured:
    """`count` random Gaussians of each method before cameras of a width and height."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = SyntheticModels.of(methods, count, size, seed, device)
    return Measured(models.subject, models.images.cameras, models.trainings())
