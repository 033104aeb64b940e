"""What a set of cameras sees in common; where random initial points belong."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

MAX_CAMERAS = 100
_ROUNDS = 200


@dataclass(frozen=True, eq=False)
class Frustums:
    """C pinhole cameras of one image size, camera to world in OpenGL axes."""

    camera_to_worlds: Float[np.ndarray, "C 3 4"]
    Ks: Float[np.ndarray, "C 3 3"]
    width: int
    height: int
    bounds: Float[np.ndarray, "C 2"] | None = None
    """Nearest and farthest depth of the scene per camera; None where unknown."""

    def distinct(self) -> "Frustums":
        """Every pose once, at most `MAX_CAMERAS` evenly spaced ones of them."""
        flat = np.round(self.camera_to_worlds.reshape(len(self.Ks), -1), 6)
        rows = np.sort(np.unique(flat, axis=0, return_index=True)[1])
        if len(rows) > MAX_CAMERAS:
            rows = rows[np.linspace(0, len(rows) - 1, MAX_CAMERAS).astype(int)]
        bounds = None if self.bounds is None else self.bounds[rows]
        camera_to_worlds, Ks = self.camera_to_worlds[rows], self.Ks[rows]
        return Frustums(camera_to_worlds, Ks, self.width, self.height, bounds)

    def depth_range(self) -> Float[np.ndarray, "C 2"]:
        """Per camera the known bounds, else half to one and a half times the depth of the point
        nearest to all optical axes, else a range from the spread of the cameras."""
        if self.bounds is not None:
            return self.bounds
        positions, forward = self.camera_to_worlds[:, :, 3], -self.camera_to_worlds[:, :, 2]
        projectors = np.eye(3) - forward[:, :, None] * forward[:, None, :]
        total = projectors.sum(0)
        if np.linalg.cond(total) < 1e4:
            target = np.linalg.solve(total, np.einsum("cij,cj->i", projectors, positions))
            depths = np.einsum("ci,ci->c", target - positions, forward)
            if (depths > 0).mean() > 0.5:
                typical = np.median(depths[depths > 0])
                depths = np.where(depths > 0, depths, typical)
                return np.stack([0.5 * depths, 1.5 * depths], axis=1)
        # One camera, or parallel axes: nothing tells the depth but the size of the rig.
        spread = float(np.linalg.norm(positions - positions.mean(0), axis=1).max()) or 1.0
        return np.tile(np.array([1.0, 10.0]) * spread, (len(positions), 1))

    def see(
        self, points: Float[np.ndarray, "N 3"], depth_range: Float[np.ndarray, "C 2"]
    ) -> Bool[np.ndarray, "C N"]:
        """Whether a camera has a point inside its image and depth range."""
        local = np.einsum(
            "cji,cnj->cni",
            self.camera_to_worlds[:, :, :3],
            points[None] - self.camera_to_worlds[:, None, :, 3],
        )
        depth = -local[:, :, 2]
        safe = np.where(depth > 0, depth, 1.0)
        fx, fy, cx, cy = (self.Ks[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        u, v = fx * local[:, :, 0] / safe + cx, cy - fy * local[:, :, 1] / safe
        inside = (u >= 0) & (u < self.width) & (v >= 0) & (v < self.height)
        near, far = depth_range[:, :1], depth_range[:, 1:]
        return inside & (depth >= near) & (depth <= far) & (depth > 0)


def points_in_common_view(
    frustums: Frustums, count: int, random: np.random.Generator
) -> Float[np.ndarray, "N 3"]:
    """Random points seen by at least two cameras (one, if there is only one) and by at least half
    as many cameras as the best seen points."""
    frustums = frustums.distinct()
    depth_range = frustums.depth_range()
    # The best count is measured once, so that the answer does not depend on how rounds are cut.
    probe = _candidates(frustums, depth_range, 4096, random)
    best = int(frustums.see(probe, depth_range).sum(0).max())
    needed = max(min(2, len(frustums.Ks)), (best + 1) // 2)
    accepted: list[np.ndarray] = []
    total = 0
    for _ in range(_ROUNDS):
        points = _candidates(frustums, depth_range, min(max(2 * count, 1024), 20_000), random)
        good = points[frustums.see(points, depth_range).sum(0) >= needed]
        accepted.append(good)
        total += len(good)
        if total >= count:
            break
    else:
        # Cameras that share no view (or hardly any): what one camera sees must do.
        accepted.append(_candidates(frustums, depth_range, count - total, random))
    return np.concatenate(accepted)[:count]


def points_in_box(
    frustums: Frustums,
    lower: Float[np.ndarray, "3"],
    upper: Float[np.ndarray, "3"],
    count: int,
    random: np.random.Generator,
) -> Float[np.ndarray, "N 3"]:
    """Random points of a box that at least two cameras see (any, where hardly any are seen)."""
    frustums = frustums.distinct()
    anywhere = np.tile(np.array([0.0, np.inf]), (len(frustums.Ks), 1))
    accepted: list[np.ndarray] = []
    for _ in range(_ROUNDS):
        points = random.uniform(lower, upper, size=(min(max(2 * count, 1024), 20_000), 3))
        seen_by = frustums.see(points, anywhere).sum(0)
        accepted.append(points[seen_by >= min(2, len(frustums.Ks))])
        if sum(len(part) for part in accepted) >= count:
            break
    else:
        accepted.append(random.uniform(lower, upper, size=(count, 3)))
    return np.concatenate(accepted)[:count]


def _candidates(
    frustums: Frustums,
    depth_range: Float[np.ndarray, "C 2"],
    count: int,
    random: np.random.Generator,
) -> Float[np.ndarray, "N 3"]:
    """Points behind uniform pixels of random cameras, uniform in volume between the bounds."""
    camera = random.integers(len(frustums.Ks), size=count)
    near, far = np.maximum(depth_range[camera], 1e-6).T
    depth = np.cbrt(near**3 + (far**3 - near**3) * random.random(count))
    K = frustums.Ks[camera]
    x = (random.random(count) * frustums.width - K[:, 0, 2]) / K[:, 0, 0]
    y = (random.random(count) * frustums.height - K[:, 1, 2]) / K[:, 1, 1]
    local = np.stack([x, -y, -np.ones(count)], axis=1) * depth[:, None]
    pose = frustums.camera_to_worlds[camera]
    return np.einsum("nij,nj->ni", pose[:, :, :3], local) + pose[:, :, 3]
