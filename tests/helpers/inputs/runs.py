"""Runs that are damaged, foreign or of something else, opened by every command."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from inputs.case import Case, Change
from inputs.changes import DAMAGE, at, content, remove, renamed, several

STARTS = "(training starts)"
CONFIG = "expert/config.yml"
NEWEST = "expert/nerfstudio_models/step-000000003.ckpt"
EARLIER = "expert/nerfstudio_models/step-000000002.ckpt"
MEANS = "_model.expert.gauss_params.means"
RESUME = (
    "ns-train moegs-stg --load-dir expert/nerfstudio_models --max-num-iterations 6 --budget 1 "
    "--data photos n3v-data"
)
OPEN = {
    "moegs report": "moegs report expert",
    "moegs info": "moegs info expert",
    "moegs view": "moegs view expert",
    "moegs analyse": "moegs analyse expert --output out",
    "moegs benchmark": "moegs benchmark expert --times 1 --steps 0",
    "moegs fuse": "moegs fuse expert --output out.ply",
    "moegs render": "moegs render --load-config expert/config.yml --seconds 0.1",
    "moegs export": "moegs export expert --compact --output out",
    "moegs train": "moegs train --experts expert --data photos --dry-run n3v-data",
    "ns-train --experts": "ns-train moegs-router --experts expert other --data photos n3v-data",
    "ns-train --load-dir": RESUME,
    "ns-train teacher": "ns-train moegs-stg --pipeline.model.distillation.teacher expert --data photos n3v-data",
    "ns-train mixture": "ns-train moegs-router --pipeline.model.mixture-run router --pipeline.model.prune.ratio 0.5 --data photos n3v-data",
    "ns-train windows": "ns-train moegs-router --experts expert+other other --data photos n3v-data",
    "ns-train --load-config": "ns-train moegs-stg --load-config expert/config.yml",
    "ns-eval": "ns-eval --load-config expert/config.yml",
    "ns-render": "ns-render interpolate --load-config expert/config.yml",
    "ns-viewer": "ns-viewer --load-config expert/config.yml",
    "ns-export": "ns-export gaussian-splat --load-config expert/config.yml --output-dir out",
}
"""Commands that open a run."""
ALL = ("expert", "other", "router", "photos")


def flip(path: Path) -> None:
    """Change one bit of the largest entry."""
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda each: each.file_size)
    whole = bytearray(path.read_bytes())
    whole[entry.header_offset + 200 + entry.file_size // 2] ^= 64
    path.write_bytes(whole)


def linked(path: Path) -> None:
    """The held-out camera is a link to one that is trained on."""
    remove(path)
    path.symlink_to("cam01")


def state(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Change what the newest checkpoint holds."""

    def apply(path: Path) -> None:
        value = torch.load(path, weights_only=True)
        other = change(value)
        torch.save(value if other is None else other, path)

    return at(NEWEST, apply)


class Malicious:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch MARK",)


def opened(name: str, change: Change, says: str, *commands: str, status: int = 1) -> list[Case]:
    """One fault, met by some commands."""
    return [
        Case(f"{name}, by {command}", OPEN[command], says, status, change, ALL)
        for command in commands or ("moegs report", "ns-eval")
    ]


CONFIG_FAULTS = {
    "a missing": remove,
    "an empty": DAMAGE["an empty"],
    "a truncated": DAMAGE["a truncated"],
    "text as": DAMAGE["text as"],
    "a folder as": DAMAGE["a folder as"],
    "a pipe as": DAMAGE["a pipe as"],
    "a device as": DAMAGE["a device as"],
    "a dangling link as": DAMAGE["a dangling link as"],
    "a link in a circle as": DAMAGE["a link in a circle as"],
    "bytes that are not UTF-8 as": content(b"\xff\xfe\x81"),
    "a list as": content("- 1\n- 2\n"),
    "deeply nested": content("[" * 5000),
    "five megabytes as": content("a: " + "b" * 5_000_000),
    "an anchor without end as": content("&a [*a, *a]"),
    "nerfstudio's own": content("!!python/object:nerfstudio.engine.trainer.TrainerConfig {}"),
    "one of a method that is not installed as": content("!!python/object:elsewhere.Config {}"),
    "one of version 0.1 as": content(
        "!!python/object:moegs_ns.models.trainer.MoegsTrainerConfig {}"
    ),
}
CHECKPOINT_FAULTS: dict[str, Callable[[Path], object]] = {
    **{name: change for name, change in DAMAGE.items() if name != "a missing"},
    "a flipped bit in the": flip,
    "a picture as": content(b"\x89PNG\r\n\x1a\n" + bytes(500)),
    "pickled code as": lambda path: torch.save({"pipeline": Malicious()}, path),
    "bare pickled code as": content(b"cposix\nsystem\n(S'touch MARK'\ntR."),
}
STATES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a list": (lambda c: [1, 2], "Expected a checkpoint of a training"),
    "a tensor": (lambda c: torch.zeros(3), "Expected a checkpoint of a training"),
    "no state": (lambda c: {"pipeline": torch.zeros(3)}, "Expected a checkpoint of a training"),
    "an empty state": (lambda c: {**c, "pipeline": {}}, ""),
    "NaN in the means": (
        lambda c: c["pipeline"][MEANS][3].fill_(float("nan")) is None,
        "finite numbers",
    ),
    "infinite means": (
        lambda c: c["pipeline"][MEANS].fill_(float("inf")) is None,
        "finite numbers",
    ),
    "means of text": (lambda c: c["pipeline"].update({MEANS: "x"}), ""),
    "means of two numbers": (
        lambda c: c["pipeline"].update({MEANS: c["pipeline"][MEANS][:, :2].clone()}),
        "",
    ),
    "fewer means than colours": (
        lambda c: c["pipeline"].update({MEANS: c["pipeline"][MEANS][:5].clone()}),
        "",
    ),
    "integers as means": (
        lambda c: c["pipeline"].update({MEANS: c["pipeline"][MEANS].long()}),
        "finite numbers",
    ),
    "no means": (lambda c: c["pipeline"].pop(MEANS) is None, ""),
    "a parameter that no expert has": (
        lambda c: c["pipeline"].update({"_model.expert.magic": torch.zeros(1)}),
        "",
    ),
    "a tensor without storage": (
        lambda c: c["pipeline"].update({MEANS: torch.zeros(10**13, device="meta")}),
        "Expected a checkpoint of a training",
    ),
    "an expanded tensor": (
        lambda c: c["pipeline"].update({MEANS: torch.zeros(1).expand(10**13)}),
        "Expected a checkpoint of a training",
    ),
}


def fix(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Changes in place tell nothing back."""

    def apply(value: dict[str, Any]) -> Any:
        other = change(value)
        return None if isinstance(other, bool) else other

    return apply


RECORDS: dict[str, str] = {
    "empty": "",
    "text": "seconds",
    "a list": "[]",
    "deep": "[" * 100_000,
    "without steps": '{"seconds": 1}',
    "of 0 steps": '{"device": "cpu", "seconds": 8.0, "steps": 0}',
    "of NaN seconds": '{"device": "cpu", "seconds": NaN, "steps": 4}',
    "of seconds in words": '{"device": "cpu", "seconds": "long", "steps": 4}',
}

GOOD = {
    "moegs report": "Held-out views",
    "moegs benchmark": "whole frame",
    "moegs fuse": "out.ply",
    "moegs render": "3 frames: renders/video.mp4",
    "moegs export": "out/config.yml",
    "moegs train": "Plan",
    "ns-train --experts": STARTS,
    "ns-train --load-dir": STARTS,
    "ns-train mixture": STARTS,
    "ns-train --load-config": "Finished already",
    "ns-eval": "Saved results",
}
"""Commands that open a good run."""

DAMAGED = ("empty", "text", "a list", "deep", "of NaN seconds", "of seconds in words")

CASES = [
    *(Case(f"a run, by {name}", OPEN[name], says, 0, needs=ALL) for name, says in GOOD.items()),
    *(case for kind, change in CONFIG_FAULTS.items() for case in opened(f"{kind} config.yml", at(CONFIG, change), "config.yml", "moegs report", "ns-eval")),
    *opened("a missing config.yml", at(CONFIG, remove), "config.yml", "moegs analyse", "moegs benchmark", "moegs fuse", "moegs render", "moegs export", "moegs train", "ns-train --experts", "ns-render", "ns-viewer", "ns-export"),
    *(case for kind, change in CHECKPOINT_FAULTS.items() for case in opened(f"{kind} checkpoint", at(NEWEST, change), "step-000000003.ckpt", "moegs fuse", "ns-eval", "ns-train --load-dir")),
    *opened("a flipped bit in the checkpoint", at(NEWEST, flip), "is damaged", "moegs analyse", "moegs report", "moegs export", "moegs render", "ns-train --experts", "ns-render", "ns-viewer"),
    *opened("both checkpoints cut", several(at(NEWEST, DAMAGE["a truncated"]), at(EARLIER, DAMAGE["a truncated"])), "restore it from a copy", "moegs report", "ns-eval"),
    *opened("no checkpoint", several(at(NEWEST, remove), at(EARLIER, remove)), "Expected checkpoints in", "moegs report", "moegs train", "ns-eval", "ns-train --load-dir", "ns-viewer"),
    *opened("no folder of checkpoints", at("expert/nerfstudio_models", remove), "", "moegs report", "ns-eval", "ns-train --load-dir"),
    *opened("the newest checkpoint gone", at(NEWEST, remove), "", "moegs fuse", status=0),
    *opened("a copied checkpoint beside others", at(NEWEST, lambda p: (p.parent / "step-000000009 (copy).ckpt").write_text("x")), "", "moegs fuse", status=0),
    *opened(".DS_Store among checkpoints", at(NEWEST, lambda p: (p.parent / ".DS_Store").write_text("x")), "", "moegs fuse", "ns-eval", status=0),
    *(case for kind, (change, says) in STATES.items() for case in opened(f"a checkpoint that holds {kind}", state(fix(change)), says, "moegs fuse", "ns-eval")),
    *(
        Case(f"a checkpoint without '{name}'", RESUME, f"no '{name}'", 1, state(fix(lambda c, n=name: c.pop(n) is None)), ALL)
        for name in ("step", "optimizers", "scalers")
    ),
    Case("a finished run", RESUME.replace("iterations 6", "iterations 4"), "Finished already", 0, needs=ALL),
    Case("a finished run with fewer steps", RESUME.replace("iterations 6", "iterations 2"), "Finished already", 0, needs=ALL),
    Case("a run that goes on", RESUME, STARTS, 0, needs=ALL),
    Case("a run that goes on as another method", RESUME.replace("moegs-stg", "moegs-4dgaussians"), "does not fit the method", 1, needs=ALL),
    Case("a run that goes on on other frames", f"{RESUME} --frames 0 2", "this clip", 1, needs=ALL),
    Case("a run that goes on on another scene", RESUME.replace("--data photos n3v", "--data dome panoptic"), "", 1, needs=(*ALL, "dome")),
    Case("a step that was not saved", RESUME.replace("--max", "--load-step 1 --max"), "step-000000001.ckpt", 1, needs=ALL),
    Case("a negative step", RESUME.replace("--max", "--load-step -1 --max"), "", 1, needs=ALL),
    *(Case(f"a record of a training that is {name}", OPEN["moegs report"], "the file is damaged" if name in DAMAGED else "Held-out", int(name in DAMAGED), at("expert/training.json", content(text)), ALL) for name, text in RECORDS.items()),
    *(Case(f"a record as {kind[2:-3] if kind.endswith(' as') else kind[2:]}", OPEN["moegs report"], "the file is damaged", 1, at("expert/training.json", DAMAGE[kind]), ALL) for kind in ("a folder as", "a pipe as", "a link in a circle as")),
    *(Case(f"a run of which nothing is held out, {name}", f"moegs report {name} --output t.json", "There is nothing to score: all evaluation images of the data (4) are training images", 0, at("photos/cam00", linked), ALL) for name in ("expert", "router")),
    Case("a run without its record", OPEN["moegs report"], "", 0, at("expert/training.json", remove), ALL),
    Case("a run whose scene is gone", OPEN["moegs report"], "photos", 1, at("photos", remove), ALL),
    Case("a run whose scene is gone, by ns-eval", OPEN["ns-eval"], "photos", 1, at("photos", remove), ALL),
    Case("a run whose scene is gone, by moegs render", OPEN["moegs render"], "photos", 1, at("photos", remove), ALL),
    Case("a run whose scene lost a camera", OPEN["moegs report"], "", 1, at("photos/cam02", remove), ALL),
    Case("a run whose scene has fewer frames", OPEN["moegs report"], "its data have 3", 1, at("photos/cam*/images/0003.png", remove), ALL),
    Case("a run in a folder with blanks", "moegs report 'my run'", "Held-out", 0, at("expert", renamed("my run")), ALL),
    Case("a run that was moved", "ns-eval --load-config moved/config.yml", "", 0, at("expert", renamed("moved")), ALL),
    Case("a folder that is no run", "moegs report photos", "photos/config.yml", 1, needs=ALL),
    Case("a checkpoint in the place of a run", f"moegs report {NEWEST}", "config.yml", 1, needs=ALL),
    Case("the same run twice", "moegs report expert expert", "Held-out", 0, needs=ALL),
    Case("a mixture as an expert", "ns-train moegs-router --experts router expert --data photos n3v-data", "", 1, needs=ALL),
    Case("the same expert twice", "ns-train moegs-router --experts expert expert --data photos n3v-data", STARTS, 0, needs=ALL),
    Case("a router without experts", "ns-train moegs-router --data photos n3v-data", "", 1, needs=ALL),
    Case("experts of another scene", "ns-train moegs-router --experts expert other --data dome panoptic-data", "", 1, needs=(*ALL, "dome")),
    Case("experts of other frames", "ns-train moegs-router --experts expert other --data photos n3v-data --frames 0 2", "this clip", 1, needs=ALL),
    Case("an expert as a router", "moegs fuse expert --output x.ply --keep", "", 1, needs=ALL),
    Case("a compact run of a compact run", "moegs export expert --compact --output photos", "holds something", 1, needs=ALL),
    Case("a training into a folder that holds a run", "ns-train moegs-stg --output-dir . --experiment-name e --timestamp t --data photos n3v-data", "holds a run", 1,
         lambda f: (f / "e" / "moegs-stg").mkdir(parents=True) or (f / "expert").rename(f / "e" / "moegs-stg" / "t"), ALL),
    Case("broken records of neighbours", "moegs train --experts stg --data photos --dry-run n3v-data", "Passed over for the estimate", 0,
         lambda f: [(f / "outputs/photos/moegs-stg" / n).mkdir(parents=True) or (f / "outputs/photos/moegs-stg" / n / "training.json").write_text(t) for n, t in RECORDS.items()], ALL),
]  # fmt: skip
