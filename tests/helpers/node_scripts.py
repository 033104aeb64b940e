"""The player page's scripts, run by node without a browser."""

import gzip
import json
import shutil
import subprocess
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from moegs_ns.reports.clip_frames import ClipSet
from moegs_ns.reports.player_codec import attributes, pack
from moegs_ns.reports.player_tracks import Tracks, bake, blends

SCRIPT = """
const header = JSON.parse(require("fs").readFileSync(process.argv[2]));
const clip = new Clip(header, new Uint8Array(require("fs").readFileSync(process.argv[3])));
const states = header.asked.map((frame) => { clip.seek(frame); return Array.from(clip.state); });
const found = { slopes: clip.slopes, features: clip.features, experts: clip.experts() };
for (const name in found) found[name] = Array.from(found[name]);
process.stdout.write(JSON.stringify({ states, ...found }));
"""
FOLDER = files("moegs_ns.reports") / "player"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def run_node(folder: Path, script: str, *args: str) -> dict:
    """What a script writes to its output as JSON."""
    (folder / "script.js").write_text(script)
    done = subprocess.run(
        ["node", str(folder / "script.js"), *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@dataclass(frozen=True, eq=False)
class Decoded:
    """What the page's script has of a clip, and the tracks in the same order."""

    states: np.ndarray
    """At each of some frames, of each Gaussian 16 numbers."""
    slopes: np.ndarray
    features: np.ndarray
    experts: np.ndarray
    tracks: Tracks


def decoded(clip: ClipSet, keys: list[int], asked: list[float], folder: Path) -> Decoded:
    """Pack a clip and have the page's script read it."""
    tracks = bake(clip, keys)
    packed, still = pack(tracks), tracks.is_still()
    header = {
        "frames": keys, "blend": blends(clip, keys), "asked": asked,
        "attributes": attributes(tracks), "kinds": tracks.kinds,
        "codes": {name: vars(codes) for name, codes in packed.codes.items()},
        "still": packed.num_still, "moving": packed.num_moving,
    }  # fmt: skip
    (folder / "header.json").write_text(json.dumps(header))
    (folder / "bytes").write_bytes(gzip.decompress(packed.content))
    source = (FOLDER / "clip.js").read_text() + SCRIPT
    found = run_node(folder, source, str(folder / "header.json"), str(folder / "bytes"))
    order = np.concatenate([np.flatnonzero(~still), np.flatnonzero(still)])
    return Decoded(
        states=np.array(found["states"]).reshape(len(asked), len(tracks), 16),
        slopes=np.array(found["slopes"]).reshape(len(tracks), 3, 4),
        features=np.array(found["features"]),
        experts=np.array(found["experts"]),
        tracks=tracks.select(order),
    )
