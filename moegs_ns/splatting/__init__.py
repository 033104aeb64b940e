"""Splatting: gsplat on CUDA, Numba on the CPU, plain torch as the oracle, behind one face."""

from moegs_ns.splatting.median import median_depth, median_depth_experts
from moegs_ns.splatting.splat import ExpertSplats, Splat, composite, splat, splat_experts

__all__ = [
    "ExpertSplats",
    "Splat",
    "composite",
    "median_depth",
    "median_depth_experts",
    "splat",
    "splat_experts",
]
