"""Splatting: gsplat on CUDA, Numba on the CPU, plain torch as the oracle, behind one face."""

from moegs_ns.splatting.median import median_depth, median_depth_experts
from moegs_ns.splatting.seen import Seen, see, see_all
from moegs_ns.splatting.splat import ExpertSplats, Splat, composite, draw, splat, splat_experts

__all__ = [
    "ExpertSplats",
    "Seen",
    "Splat",
    "composite",
    "draw",
    "median_depth",
    "median_depth_experts",
    "see",
    "see_all",
    "splat",
    "splat_experts",
]
