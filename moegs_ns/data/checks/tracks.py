"""Points that several cameras see, and how far from them their features lie."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from moegs_ns.data.checks.epipolar import Calibrated, PairMatches


@dataclass(frozen=True, eq=False)
class Tracks:
    """N points and M observations of them."""

    xyz: Float[np.ndarray, "N 3"]
    cameras: Int[np.ndarray, "M"]
    points: Int[np.ndarray, "M"]
    errors: Float[np.ndarray, "M"]
    """Pixels between each feature and its point as the camera should see it."""

    def count(self, camera: int) -> int:
        """Points that a camera sees."""
        return int((self.cameras == camera).sum())

    def error(self, camera: int) -> float:
        """Median reprojection error of a camera in pixels; NaN without points."""
        own = self.errors[self.cameras == camera]
        return float(np.median(own)) if len(own) else float("nan")


def build_tracks(pairs: Sequence[PairMatches], cameras: Calibrated, trusted: set[int]) -> Tracks:
    """Points of features that match, with positions from trusted cameras alone, so that the others
    are measured against these.

    A point needs two trusted cameras; a track that holds two features of one image is left out.
    """
    xy, groups = _linked(pairs)
    projections = cameras.projections()
    points, own_cameras, own_points, errors = [], [], [], []
    for nodes in groups:
        seen = [camera for camera, _, _ in nodes]
        by = [place for place, camera in enumerate(seen) if camera in trusted]
        if len(set(seen)) != len(seen) or len(by) < 2:
            continue
        pixels = np.array([xy[node] for node in nodes])
        point = _triangulated(projections[[seen[place] for place in by]], pixels[by])
        projected = projections[seen] @ np.append(point, 1.0)
        if (projected[by, 2] <= 0.0).any():
            continue
        depths = np.where(np.abs(projected[:, 2:]) < 1e-9, 1e-9, projected[:, 2:])
        errors += np.linalg.norm(projected[:, :2] / depths - pixels, axis=1).tolist()
        own_cameras += seen
        own_points += [len(points)] * len(seen)
        points.append(point)
    return Tracks(
        np.array(points, float).reshape(-1, 3),
        np.array(own_cameras, int),
        np.array(own_points, int),
        np.array(errors, float),
    )


Node = tuple[int, int, int]
"""Camera, instant and number of a feature."""


def _linked(pairs: Sequence[PairMatches]) -> tuple[dict[Node, np.ndarray], list[list[Node]]]:
    """Pixels of all features, and those that matches connect."""
    parent: dict[Node, Node] = {}
    xy: dict[Node, np.ndarray] = {}

    def root(node: Node) -> Node:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for pair in pairs:
        for instant, indices, pixels in zip(pair.instants, pair.indices, pair.xy, strict=True):
            ends = []
            for side in (0, 1):
                node = (pair.cameras[side], int(instant), int(indices[side]))
                parent.setdefault(node, node)
                xy[node] = pixels[side]
                ends.append(root(node))
            parent[ends[0]] = ends[1]
    groups: dict[Node, list[Node]] = defaultdict(list)
    for node in parent:
        groups[root(node)].append(node)
    return xy, list(groups.values())


def _triangulated(
    projections: Float[np.ndarray, "V 3 4"], pixels: Float[np.ndarray, "V 2"]
) -> Float[np.ndarray, "3"]:
    """The point whose projections are nearest, by the direct linear transform."""
    rows = pixels[:, :, None] * projections[:, 2:3] - projections[:, :2]
    rows = rows.reshape(-1, 4)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    point = np.linalg.svd(rows)[2][-1]
    scale = point[3] if abs(point[3]) > 1e-12 else 1e-12
    return point[:3] / scale
