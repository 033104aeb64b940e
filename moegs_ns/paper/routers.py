"""The routers that the paper compares (Table 4, Figure 5)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RouterKind:
    """One of them."""

    name: str
    """In a word."""
    label: str
    """What the paper calls it."""
    method: str
    """What trains it, without prefix."""


KINDS = (
    RouterKind("pixel", "Pixel Router", "pixel-router"),
    RouterKind("volume", "Volume Router", "volume-router"),
    RouterKind("volume-aware", "Volume-aware Pixel Router", "router"),
)
"""In the paper's order; the last one is its own."""
