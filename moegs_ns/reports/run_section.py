"""What the page of a report shows of one run: figures of its images, curves, pictures, settings."""

import base64
import io
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from moegs_ns.engine.run_folder import differences
from moegs_ns.engine.trainer import MoegsPipeline
from moegs_ns.evaluation.tables import Row
from moegs_ns.experts.names import readable
from moegs_ns.models.expert_sources import method_config
from moegs_ns.reports.held_out import evenly_spaced
from moegs_ns.reports.panels import ERROR, GATES, TRUTH, Picture, choose_panels, scaled
from moegs_ns.reports.rendering import Renderer, available_panels, shots_of_images
from moegs_ns.reports.scores import Score
from moegs_ns.reports.videos import FrameFolder, encode
from moegs_ns.runs.checkpoint import Run, training_record

VIEWS = 3
"""Held-out images that are shown."""
PICTURE_WIDTH = 960
"""Pixels that a picture is scaled down to."""
VIDEO_FRAMES, VIDEO_PANEL = 100, 400
"""Frames and width of a panel of the video, at most."""
VIDEO_MB = 6.0
"""Megabytes up to which a video is part of the page."""
JPEG_QUALITY = 88
CURVES = {
    "Train Metrics Dict/psnr": "PSNR of training images (dB)",
    "Train Loss": "loss",
    "Train Metrics Dict/gaussian_count": "Gaussians",
}
"""What is drawn of a training's log, and what it is called."""
UNTOLD = ("expert_models", "expert_names", "data")
"""Options that say nothing to a reader, or what is said elsewhere."""


@dataclass(frozen=True)
class View:
    """One held-out image and what is made of it."""

    title: str
    pictures: dict[str, str]
    """Addresses that hold the pictures themselves, by label."""


@dataclass(frozen=True)
class RunSection:
    """One run."""

    score: Score
    name: str
    """What it is called in plots."""
    experts: Sequence[str]
    """Names of a mixture's experts; empty for a single one."""
    images: Sequence[Row]
    """Figures of every held-out image, with its `camera` and `frame`."""
    curves: dict[str, list[tuple[int, float]]]
    """Values of the training's log by step; empty without a log."""
    views: Sequence[View]
    video: str
    """Address that holds the video itself; empty if it would be too large."""
    video_caption: str
    facts: dict[str, str]
    """How it was trained."""
    options: Sequence[tuple[str, str, str]]
    """Options that differ from the method's defaults: name, value, default."""

    def mean_by(self, key: str, figure: str = "psnr") -> list[tuple[float, float]]:
        """The mean of a figure over the images of each camera or frame."""
        groups = defaultdict(list)
        for row in self.images:
            if figure in row:
                groups[row[key]].append(row[figure])
        return [(value, fmean(found)) for value, found in sorted(groups.items())]


def run_section(run: Run, pipeline: MoegsPipeline, score: Score, name: str) -> RunSection:
    """Collect what is shown of a run that has just been scored by this pipeline."""
    table = pipeline.datamanager.eval_dataset.frame_table
    numbers = zip(table.camera_ids.tolist(), table.frame_ids.tolist(), strict=True)
    images = [
        {"camera": camera, "frame": frame} | figures
        for (camera, frame), figures in zip(numbers, pipeline.image_figures, strict=True)
    ]
    shots = shots_of_images(pipeline.datamanager, "held-out", (), None, any_size=True)
    panels = list(available_panels(run, with_truth=True).values())
    # Truth first, then what is to be compared with it.
    panels.sort(key=lambda panel: panel.output != TRUTH)
    video, caption = _video(run, pipeline)
    model: Any = run.config.pipeline.model
    return RunSection(
        score=score,
        name=name,
        experts=getattr(model, "expert_names", ()),
        images=images,
        curves=training_curves(run.config_path.parent),
        views=_views(Renderer(pipeline, shots, panels), table),
        video=video,
        video_caption=caption,
        facts=facts_of(run),
        options=changed_options(run),
    )


# ---- pictures ----


def _views(renderer: Renderer, table: Any) -> list[View]:
    views = []
    for index in evenly_spaced(len(renderer.shots), VIEWS):
        image_index = renderer.shots.indices[index]
        camera, frame = int(table.camera_ids[image_index]), int(table.frame_ids[image_index])
        pictures = {
            panel.label: jpeg(picture)
            for panel, picture in zip(renderer.panels, renderer.pictures(index), strict=True)
        }
        views.append(View(f"camera {camera}, frame {frame}", pictures))
    return views


def jpeg(picture: Picture) -> str:
    """The address that holds a picture itself."""
    image = Image.fromarray(scaled(picture, PICTURE_WIDTH))
    stream = io.BytesIO()
    image.save(stream, "jpeg", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _video(run: Run, pipeline: MoegsPipeline) -> tuple[str, str]:
    """The first held-out camera, truth beside what the run makes of it."""
    datamanager = pipeline.datamanager
    table = datamanager.eval_dataset.frame_table
    camera = int(table.camera_ids.min())
    first = int(table.frame_ids[table.camera_ids == camera].min())
    frames = (first, first + VIDEO_FRAMES - 1)
    shots = shots_of_images(datamanager, "held-out", (camera,), frames)
    if len(shots) < 2:
        return "", ""
    available = available_panels(run, with_truth=True)
    last = GATES if GATES in available else ERROR
    panels = choose_panels((TRUTH, "rgb", last), available)
    fps = float(datamanager.train_dataset.metadata.get("fps") or 30.0)
    content = _encoded(Renderer(pipeline, shots, panels), fps)
    if len(content) > VIDEO_MB * 1e6:
        return "", ""
    caption = f"Camera {camera}, {len(shots)} frames: {', '.join(p.label for p in panels)}"
    return f"data:video/mp4;base64,{base64.b64encode(content).decode()}", caption


def _encoded(renderer: Renderer, fps: float) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = FrameFolder(Path(name))
        count = len(renderer.shots)
        for index in range(count):
            folder.write(index, renderer.picture(index, labels=True, width=VIDEO_PANEL))
        encode([folder.path(index) for index in range(count)], Path(name) / "v.mp4", fps)
        return (Path(name) / "v.mp4").read_bytes()


# ---- how it was trained ----


def training_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's log in a run's folder says, by step; later sessions replace earlier ones
    where both have a step."""
    # Takes a second to import, and only pages need it.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[int, float]] = defaultdict(dict)
    for path in sorted(folder.glob("events.out.tfevents.*")):
        log = EventAccumulator(str(path), size_guidance={"scalars": 1000})
        log.Reload()
        for tag in set(log.Tags()["scalars"]) & set(CURVES):
            found[tag] |= {event.step: event.value for event in log.Scalars(tag)}
    return {CURVES[tag]: sorted(found[tag].items()) for tag in CURVES if len(found[tag]) > 1}


def facts_of(run: Run) -> dict[str, str]:
    """What a run's record and configuration tell of its training."""
    record, config = training_record(run.config_path), run.config
    datamanager = config.pipeline.datamanager
    data = datamanager.data or datamanager.dataparser.data
    size = record.get("image_size")
    known = {
        "method": config.method_name,
        "scene": Path(data).name if data else None,
        "images": f"{size[0]} x {size[1]} pixels" if size else None,
        "steps": f"{record['steps']:,}" if "steps" in record else None,
        "seconds": f"{record['seconds']:.0f}" if "seconds" in record else None,
        "seconds of its experts": _rounded(record.get("expert_seconds")),
        "device": record.get("device"),
        "seed": f"{config.machine.seed}",
        "moegs_ns": record.get("version"),
        "initial points": record.get("initial_points"),
    }
    return {name: value for name, value in known.items() if value}


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def changed_options(run: Run) -> list[tuple[str, str, str]]:
    """Options of the model and its images that are not the method's defaults."""
    try:
        default = method_config(run.config.method_name)
    except KeyError:
        # A method that is not installed here.
        return []
    found = []
    for part in ("model", "datamanager"):
        own, other = getattr(run.config.pipeline, part), getattr(default.pipeline, part)
        for option, value, before in differences(own, other, f"pipeline.{part}."):
            if option.rpartition(".")[2].replace("-", "_") not in UNTOLD:
                found.append((f"--{option}", shown(value), shown(before)))
    return found


def shown(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, tuple | list):
        return " ".join(map(shown, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def names_of(scores: Sequence[Score]) -> list[str]:
    """What runs are called in plots: by method, and by seed or number where that is not enough."""
    names = [readable(score.method.removeprefix("moegs-").replace("-", "_")) for score in scores]
    names = [
        "mixture" if s.method == "moegs-router" else n for s, n in zip(scores, names, strict=True)
    ]
    seeds = [f"{n}, seed {s.seed}" for n, s in zip(names, scores, strict=True)]
    names = [s if names.count(n) > 1 else n for n, s in zip(names, seeds, strict=True)]
    return [
        f"{n} ({names[: k + 1].count(n)})" if names.count(n) > 1 else n for k, n in enumerate(names)
    ]
