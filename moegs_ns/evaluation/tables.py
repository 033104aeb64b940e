"""Files of measured results: JSON for programs, a Markdown table beside it for people."""

import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from moegs_ns.atomic_files import atomic_write_text

Row = dict[str, Any]
"""Figures of one row of a table by column."""

PACKAGES = ("moegs-ns", "nerfstudio", "gsplat", "torch", "numpy", "numba")


def write_results(path: Path, rows: Sequence[dict[str, Any]], command: str) -> dict[str, Any]:
    """Write `path` (JSON) and a table of the same name ending in .md, each under a temporary name.

    A figure that is None or NaN is written as null.

    Returns:
        What the JSON holds: `rows`, and command, hardware, commit, date and versions.

    Raises:
        ValueError: a figure is missing and its row does not say why under `reason`.
    """
    content = results_content(rows, command)
    remedy = "name another place for it"
    atomic_write_text(path, json.dumps(content, indent=1) + "\n", "table", remedy)
    heading = f"`{command}`  \n{content['hardware']}, commit {content['commit']}, {content['date']}"
    text = f"{heading}\n\n{markdown_table(content['rows'])}\n"
    atomic_write_text(path.with_suffix(".md"), text, "table", remedy)
    return content


def results_content(rows: Sequence[dict[str, Any]], command: str) -> dict[str, Any]:
    """What a file of results holds: `rows`, and command, hardware, commit, date and versions.

    Raises:
        ValueError: a figure is missing and its row does not say why under `reason`.
    """
    rows = [{name: _finite(value) for name, value in row.items()} for row in rows]
    for row in rows:
        missing = [name for name, value in row.items() if value is None and name != "reason"]
        if missing and not row.get("reason"):
            raise ValueError(f"The figures {missing} of {row} are missing; say why under 'reason'.")
    return {
        "command": command,
        "hardware": hardware(),
        "commit": commit(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": {name: _version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "rows": rows,
    }


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(name)) for name in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def hardware() -> str:
    """Name of the device that computes, and the number of CPU cores."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        found = re.search(r"^model name\s*:(.*)", info.read_text() if info.is_file() else "", re.M)
        device = found[1].strip() if found else platform.processor() or platform.machine()
    return f"{device}, {os.cpu_count()} CPU cores"


def commit() -> str:
    """Short hash of the checkout, with + for uncommitted changes; 'unknown' outside one."""
    if "MOEGS_COMMIT" in os.environ:
        return os.environ["MOEGS_COMMIT"]
    git = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.check_output(
            git, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL, text=True
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
