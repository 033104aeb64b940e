"""Pictures on disk."""

from pathlib import Path

from matplotlib.figure import Figure

from moegs_ns.atomic_files import atomic_write


def save_picture(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure (PNG); see `atomic_write` for errors."""
    with atomic_write(path, "picture", "name another place for it") as file:
        figure.savefig(file, dpi=dpi, format="png")
