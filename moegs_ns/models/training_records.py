"""What runs say about their training, in the file beside their config."""

import json
from pathlib import Path
from typing import Any

from moegs_ns.models.expert_sources import split_windows
from moegs_ns.models.mixture_model import MixtureModelConfig
from moegs_ns.runs.checkpoint import TRAINING_RECORD


def record_of(run: Path) -> dict[str, Any]:
    """The record of a run, named by its config or its folder; empty if there is none."""
    path = (run if run.is_dir() else run.parent) / TRAINING_RECORD
    return json.loads(path.read_text()) if path.is_file() else {}


def expert_seconds(mixture: MixtureModelConfig) -> float | None:
    """Seconds that the experts of a mixture were trained for, one after the other; those of the
    mixture that it was pruned from; None if a record of one is missing."""
    if mixture.mixture_run is not None:
        return record_of(mixture.mixture_run).get("expert_seconds")
    runs = [run for path in mixture.experts for run in split_windows(str(path))]
    seconds = [record_of(run).get("seconds") for run in runs]
    known = [value for value in seconds if value is not None]
    return sum(known) if known and len(known) == len(seconds) else None
