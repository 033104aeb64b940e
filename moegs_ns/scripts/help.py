"""First-level help: examples first, and no more lines than a screen has."""

import inspect
import io
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

import tyro

EXAMPLES = {
    "analyse": ("moegs analyse RUN --output analysis",),
    "benchmark": (
        "moegs benchmark RUN --output speed",
        "moegs benchmark --synthetic 150000 --experts stg ex4dgs --output speed",
    ),
    "data": ("moegs data list DATA", "moegs data clean DATA --dry-run"),
    "demo": ("moegs demo", "moegs demo --output DIR --no-open"),
    "export": (
        "moegs export RUN --html --output clip.html",
        "moegs export RUN --ply-sequence --output FOLDER",
        "moegs export RUN --compact --output SMALL",
    ),
    "fuse": ("moegs fuse RUN --time 0.4 --output fused.ply",),
    "info": ("moegs info RUN",),
    "paper": (
        "moegs paper 1 --data SCENE_A SCENE_B n3v-data",
        "moegs paper 4 12 --set n2 --budget 0.2 --data SCENE --output paper.html n3v-data",
    ),
    "prepare": (
        "moegs prepare rig RECORDINGS/*.mp4 --data DATA",
        "moegs prepare calibrate --data DATA",
        "moegs prepare check --data DATA rig-data",
        "moegs prepare points --data DATA rig-data",
    ),
    "render": (
        "moegs render RUN --output orbit.mp4 --outputs mixture stg gates depth --fps 30",
        "moegs render RUN --outputs truth mixture error --output held_out.mp4 path:dataset",
        "moegs render RUN --output slow.mp4 --speed 0.25 path:interpolate --path.cameras 0 3",
    ),
    "report": ("moegs report RUN_A RUN_B RUN_ROUTER --output report.html",),
    "train": (
        "moegs train --experts stg 4dgaussians --data DATA n3v-data",
        "moegs train --experts stg ex4dgs --data DATA --expert-budget 0.2 n3v-data",
    ),
    "view": ("moegs view RUN",),
}
"""How commands are used most often."""
MANY_OPTIONS = ("paper", "render", "train")
"""Commands whose `--help` names options without explaining them, which `--help-verbose` does."""
BEHIND = {
    "paper": "--help-verbose explains the options; docs/benchmarks.md says what a table trains.",
    "render": "--help-verbose explains the options. Those of a path follow its name, at the end.",
    "train": "--help-verbose explains the options; those of nerfstudio, for --train-options, are "
    "in\n`ns-train METHOD --help`.",
}
"""Where more is said."""
BARE = re.compile(r"^.\s+[•*] (\S+)\s+.$")
"""A line of a subcommand without an explanation."""


def help_options(args: Sequence[str]) -> dict[str, bool]:
    """How tyro is to explain a command; earlier versions of it know one way."""
    knows = "compact_help" in inspect.signature(tyro.cli).parameters
    return {"compact_help": True} if knows and args[:1] and args[0] in MANY_OPTIONS else {}


@contextmanager
def shortened_help(args: Sequence[str]) -> Iterator[None]:
    """Put examples before the help of a command that tyro prints in this block and ends with."""
    is_asked = len(args) == 2 and args[0] in EXAMPLES and args[1] in ("-h", "--help")
    if not is_asked:
        yield
        return
    # With an encoding, from which the characters of boxes are chosen.
    stream = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding)
    try:
        with redirect_stdout(stream):
            yield
    finally:
        stream.seek(0)
        shown = stream.read()
        lines = [f"  {example}" for example in EXAMPLES[args[0]]]
        sys.stdout.write("\n".join(["Examples:", *lines, "", joined(shown)]))
        if args[0] in BEHIND:
            sys.stdout.write(f"{BEHIND[args[0]]}\n")


def joined(text: str) -> str:
    """The help with subcommands that are only named beside each other."""
    lines: list[str] = []
    names: list[str] = []
    width, edge = 0, ""
    for line in text.splitlines():
        found = BARE.match(line)
        if found:
            names.append(found[1])
            width, edge = len(line) - 6, line[0]
            continue
        if names:
            rows = textwrap.wrap("  ".join(names), width, break_on_hyphens=False)
            lines += [f"{edge}   {row:<{width}} {edge}" for row in rows]
            names = []
        lines.append(line)
    return "\n".join(lines) + "\n"
