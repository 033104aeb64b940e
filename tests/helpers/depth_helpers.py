"""Consistency of depth maps by themselves."""

from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.evaluation.depth import DepthConsistency, consistency_of, pair_errors


def depth_consistency(depths: Tensor, view: View) -> DepthConsistency:
    """Over all pixels that can be compared."""
    return consistency_of(pair_errors(depths, view), depths)
