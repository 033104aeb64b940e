"""Is an artificial shift of one camera's clock found by `--pipeline.model.time-offsets True`?

Of a PanopticSports scene every n-th frame is taken, of one camera those k frames later: its clock
is then off by k / n frames, in real footage. Each method is trained on that and its learned clocks
are compared with the truth.

python -m benchmarks.quality.time_offsets --data DATA/panoptic_basketball --camera 4
python -m benchmarks.quality.time_offsets --data DATA/room --camera 4 --stride 2 --shift 1
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import tyro

from benchmarks.tables import Table
from moegs_ns.evaluation.tables import Row
from moegs_ns.launch.jobs import LOG, UNWATCHED, TrainingJob, train
from moegs_ns.runs.checkpoint import training_record

SPLITS = ("train_meta.json", "test_meta.json")
METHODS = ("moegs-stg", "moegs-ex4dgs", "moegs-ed3dgs", "moegs-4dgaussians")


@dataclass(frozen=True, kw_only=True)
class TimeOffsets(Table):
    """Train with learned clocks on footage of which one camera's clock is off."""

    data: Path
    """Folder of a scene in the layout of PanopticSports."""
    camera: int
    """The training camera whose clock is off."""
    stride: int = 5
    """Every how many frames one is taken."""
    shift: int = 2
    """How many frames later it is taken of the camera."""
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0,)
    budget: float = 0.2
    """Fraction of the published steps."""
    train_options: tuple[str, ...] = ()
    """Further options of every training."""
    output_dir: Path = Path("outputs/benchmark")
    """Folder of the shifted scene and of the runs."""
    name: str = "time_offsets"

    def rows(self) -> Iterator[Row | None]:
        name = f"{self.data.name}_{self.camera}_{self.shift}_of_{self.stride}"
        scene = self.output_dir / "shifted" / name
        write_shifted(self.data, scene, self.camera, self.stride, self.shift)
        for index, (method, seed) in enumerate((m, s) for m in self.methods for s in self.seeds):
            job = TrainingJob(
                method=method,
                options=("--pipeline.model.time-offsets", "True", *self.train_options),
                data=scene,
                parser=("panoptic-data",),
                budget=self.budget,
                seed=seed,
                output_dir=self.output_dir,
                experiment=self.name,
                name=f"{name}-{seed}",
                without_effect=UNWATCHED,
            )
            try:
                train(job, index, job.folder / LOG)
            except RuntimeError as error:
                print(f"Left out of the table: {error}", flush=True)
                continue
            offsets = training_record(job.folder)["time_offsets_in_frames"]
            yield {
                "method": method,
                "seed": seed,
                "scene": self.data.name,
                "camera": self.camera,
            } | (compared(offsets, self.camera, self.shift / self.stride))


def compared(offsets: dict[str, float], camera: int, expected: float) -> Row:
    """What was found of the camera and of the others, in frames from the mean of the others."""
    others = [value for name, value in offsets.items() if name != str(camera)]
    found = offsets[str(camera)] - mean(others)
    return {
        "offset": expected,
        "offset_found": found,
        "error": abs(found - expected),
        "largest_of_others": max(abs(value - mean(others)) for value in others),
    }


def write_shifted(data: Path, folder: Path, camera: int, stride: int, shift: int) -> None:
    """A scene of links to every `stride`-th image, of one camera `shift` images later.

    Raises:
        ValueError: the camera is not trained on, or the shift leaves the clip.
    """
    metas = {name: json.loads((data / name).read_text()) for name in SPLITS}
    train_cameras = metas[SPLITS[0]]["cam_id"][0]
    if camera not in train_cameras or not 0 < shift < stride:
        raise ValueError(
            f"Expected a training camera of {sorted(train_cameras)} and a --shift between 0 and "
            f"--stride, got camera {camera}, shift {shift} and stride {stride}."
        )
    for name, meta in metas.items():
        count = (len(meta["fn"]) - 1 - shift) // stride + 1
        chosen = [stride * frame for frame in range(count)]
        for frame, recorded in enumerate(chosen):
            for number, cam in enumerate(meta["cam_id"][recorded]):
                source = recorded + (shift if cam == camera else 0)
                image = Path(meta["fn"][source][number])
                link = folder / "ims" / str(cam) / f"{frame:06d}{image.suffix}"
                _link(link, data / "ims" / image)
        changed = dict(meta) | {
            key: [meta[key][recorded] for recorded in chosen] for key in ("k", "w2c", "cam_id")
        }
        changed["fn"] = [_names(meta, frame, at) for frame, at in enumerate(chosen)]
        (folder / name).write_text(json.dumps(changed))
    for points in data.glob("init_*.npz"):
        _link(folder / points.name, points)


def _names(meta: dict, frame: int, recorded: int) -> Sequence[str]:
    pairs = zip(meta["cam_id"][recorded], meta["fn"][recorded], strict=True)
    return [f"{camera}/{frame:06d}{Path(name).suffix}" for camera, name in pairs]


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    os.symlink(target.resolve(), link)


if __name__ == "__main__":
    tyro.cli(TimeOffsets, description=__doc__).main()
