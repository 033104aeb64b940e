"""Experts: parameters and a time give Gaussians. No rendering, no training, no files."""

from moegs_ns.experts.base import Expert, ExpertConfig

__all__ = ["Expert", "ExpertConfig"]
