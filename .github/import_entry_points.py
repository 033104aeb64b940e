"""Import everything that the installed distribution offers as an entry point."""

import sys
from importlib.metadata import distribution
from pathlib import Path

import moegs_ns

assert "site-packages" in Path(moegs_ns.__file__).parts, f"not the wheel: {moegs_ns.__file__}"
points = distribution("moegs-ns").entry_points
assert points, "the distribution has no entry points"
for point in points:
    point.load()
sys.stdout.write(f"{len(points)} entry points imported\n")
