"""Experiments that measure speed and quality, and the tables that they wrote (see README.md)."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# An installed package must win over the checkout's folder of the same name, here and in processes
# that are started from here; the checkout itself comes last, for `benchmarks`.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != ROOT] + [str(ROOT)]
_paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
if str(ROOT) not in _paths:
    os.environ["PYTHONPATH"] = os.pathsep.join([*_paths, str(ROOT)])
os.environ["PYTHONSAFEPATH"] = "1"

import nerfstudio.configs.method_configs  # noqa: E402, F401  first: see moegs_ns/scripts/main.py
