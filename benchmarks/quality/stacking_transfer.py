"""How are numbers that copies teach carried over to the experts? (docs/mixture.md, stacking)

    python -m benchmarks.quality.stacking_transfer --run RUN --copies RUN --pixels pixels.pt
    python -m benchmarks.quality.stacking_transfer --pixels pixels.pt

RUN is a mixture whose gates are not corrected, `--copies` that of its copies. Pixels are sampled of
four kinds and kept in a file, of which the second command makes the table again, without runs. Keep
validation cameras back from the experts (`--val-cameras`): the choice is made on held-out images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from benchmarks.tables import Table
from moegs_ns.cameras import View
from moegs_ns.engine.trainer import MoegsPipeline, load_pipeline
from moegs_ns.evaluation.image_metrics import decibels
from moegs_ns.evaluation.tables import Row
from moegs_ns.mixture.mixture import GateConfig
from moegs_ns.mixture.stacking import (
    FORMS,
    LOGIT,
    Correction,
    Gates,
    SampledPixels,
    fit,
    gates_of,
    squared_errors,
    stack,
    with_own_biases,
)
from moegs_ns.models.base import scene_of
from moegs_ns.models.gate_correction import (
    COPIES,
    FITTED_IMAGES,
    evidence_of,
    images_of,
    sampled_pixels,
    unseen_by,
)
from moegs_ns.models.trained_mixture import open_mixture
from moegs_ns.reports.held_out import evenly_spaced, held_out
from moegs_ns.runs.checkpoint import open_run


@dataclass(frozen=True, eq=False)
class Samples:
    """Pixels of four kinds, and the numbers of the gates."""

    copies_unseen: SampledPixels
    """Drawn by the copies, of images that they have not seen."""
    copies_seen: SampledPixels
    """Drawn by the copies, of images that they were trained on."""
    seen: SampledPixels
    """Drawn by the experts, of images that they were trained on."""
    held_out: SampledPixels
    """Drawn by the experts, of held-out images."""
    temperature: float
    uniform: float

    @property
    def config(self) -> GateConfig:
        """Columns are blurred already, if gates are."""
        return GateConfig(uniform=self.uniform)

    def save(self, path: Path) -> None:
        """Write a file that `load` reads."""
        values = {
            name: vars(value) if isinstance(value, SampledPixels) else value
            for name, value in vars(self).items()
        }
        torch.save(values, path)

    @staticmethod
    def load(path: Path) -> "Samples":
        """Samples of a file, on the CPU."""
        values = torch.load(path, map_location="cpu", weights_only=True)
        read: dict[str, Any] = {
            n: SampledPixels(**v) if isinstance(v, dict) else v for n, v in values.items()
        }
        return Samples(**read)


@dataclass(frozen=True, kw_only=True)
class StackingTransfer(Table):
    """Rules by which what is known of copies and experts corrects the experts' gates."""

    run: Path | None = None
    """A mixture whose gates are not corrected."""
    copies: Path | None = None
    """The mixture of copies of its experts, trained without some of its cameras."""
    pixels: Path
    """File of the sampled pixels; made if it is missing."""
    name: str = "stacking_transfer"

    def rows(self) -> Iterator[Row]:
        """A row of each rule and form."""
        if not self.pixels.is_file():
            if self.run is None or self.copies is None:
                raise SystemExit(
                    f"Expected the file {self.pixels}, or --run and --copies to sample it from."
                )
            sample(self.run, self.copies).save(self.pixels)
        samples = Samples.load(self.pixels)
        gates = gates_of(samples.temperature, samples.config)
        chosen = stack(
            samples.copies_unseen, samples.seen, samples.temperature, samples.config
        ).form
        for rule, form, correction in corrections(samples, gates):
            yield {
                "rule": rule, "form": form, "is_chosen": form == chosen,
                "psnr_seen": psnr(samples.seen, correction, gates),
                "psnr": psnr(samples.held_out, correction, gates),
                "experts": len(samples.seen.images), "pixels": len(samples.held_out.targets),
            }  # fmt: skip


def corrections(samples: Samples, gates: Gates) -> Iterator[tuple[str, str, Correction]]:
    """Every rule's corrections for the experts, with the names of rule and form.

    `absolute` takes what fits the copies' unseen images. `own biases`, which is what trainings do,
    takes slopes alone from them, and biases from the experts' own images. `relative` begins at what
    fits images that the experts have seen and adds by how much unseen images change the same of the
    copies: copies that were trained for a few steps may be worse beside each other than the experts
    are.
    """
    columns = samples.seen.columns
    as_trained, no_bias = columns.new_zeros(columns.shape[-1]), columns.new_zeros(len(columns))
    as_trained[LOGIT] = 1.0
    yield "router", "as it is trained", Correction(no_bias, as_trained)
    for name, form in FORMS.items():
        of_seen, of_copies, of_unseen, of_truth = (
            fit(pixels, form, gates)
            for pixels in (
                samples.seen, samples.copies_seen, samples.copies_unseen, samples.held_out
            )
        )  # fmt: skip
        yield "seen images alone", name, of_seen
        yield "absolute", name, of_unseen
        yield "own biases", name, with_own_biases(of_unseen, form, samples.seen, gates)
        relative = Correction(
            of_seen.bias + (of_unseen.bias - of_copies.bias),
            of_seen.slopes + (of_unseen.slopes - of_copies.slopes),
        )
        yield "relative", name, relative
        yield "held-out images themselves (a bound)", name, of_truth


def psnr(pixels: SampledPixels, correction: Correction, gates: Gates) -> float:
    """Of all pixels together, in dB."""
    return float(decibels(squared_errors(pixels, correction, gates).mean()))


# ---- pixels ----


def sample(run: Path, copies: Path) -> Samples:
    """Some pixels of every kind."""
    pipeline = load_pipeline(open_run(run))
    model: Any = pipeline.model
    data: Any = pipeline.datamanager
    of_copies = open_run(copies)
    unseen = unseen_by(of_copies, data.frame_table)
    if model.mixture.router.fitted_correction is not None:
        raise SystemExit(f"Expected a mixture whose gates are not corrected, got {run}.")
    opened = open_mixture(of_copies, scene_of(model.kwargs), COPIES).to(model.device)
    everything = torch.ones_like(unseen)
    draw = partial(_pixels, generator=torch.Generator().manual_seed(0))
    return Samples(
        copies_unseen=draw(opened, model, data, ~unseen, images_of(data, unseen, FITTED_IMAGES)),
        copies_seen=draw(opened, model, data, ~unseen, images_of(data, ~unseen, FITTED_IMAGES)),
        seen=draw(model, model, data, everything, images_of(data, everything, FITTED_IMAGES)),
        held_out=draw(model, model, data, everything, _held_out(pipeline)),
        temperature=model.mixture.temperature,
        uniform=model.mixture.gate_config.uniform,
    )


def _held_out(pipeline: MoegsPipeline) -> Iterator[tuple[int, View, Float[Tensor, "H W 3"]]]:
    length = len(pipeline.datamanager.eval_dataset)
    for index in evenly_spaced(length, FITTED_IMAGES):
        view, target, _ = held_out(pipeline, index)
        yield index, view, target


@torch.no_grad()
def _pixels(
    source: Any, model: Any, data: Any, measured: Tensor, images: Any, generator: torch.Generator
) -> SampledPixels:
    """Of images drawn by `source`, whose evidence is measured on the marked training images."""
    evidence = evidence_of(source, data, measured)
    parts = [
        sampled_pixels(source, evidence, model, view, target, int(view.camera_ids[0]), generator)
        for _, view, target in images
    ]
    return SampledPixels.cat(parts).double()


if __name__ == "__main__":
    tyro.cli(StackingTransfer, description=__doc__).main()
