"""Analytic ray tracing for the demo scene: planes, boxes and spheres with procedural textures."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Albedo [n, 3] from points in the object's own frame and its outward normals there."""
Wall = tuple[int, float, float, Texture]
"""A plane across an axis, seen from inside: axis, offset, inward sign and texture."""

_LIGHT = np.array([-1.6, -2.4, 2.9], dtype=np.float32)
_MISS = np.float32(np.inf)


@dataclass(frozen=True, eq=False)
class Rays:
    """Rays of one camera."""

    origin: Float[np.ndarray, "3"]
    directions: Float[np.ndarray, "R 3"]


@dataclass(frozen=True, eq=False)
class Hits:
    """The nearest surface along each ray."""

    depths: Float[np.ndarray, "R"]
    colors: Float[np.ndarray, "R 3"]
    is_moving: Bool[np.ndarray, "R"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Sphere:
    """A ball; `rotation` turns its texture."""

    center: np.ndarray
    radius: float
    texture: Texture
    shine: float = 0.35
    glow: float = 0.0
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))

    @property
    def reach(self) -> float:
        """Radius of the bounding sphere round the centre."""
        return self.radius

    def intersect(
        self, origin: np.ndarray, directions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depth (infinite for a miss) and normal in the world."""
        offset = origin - self.center
        along = directions @ offset
        root = along**2 - (offset @ offset - self.radius**2)
        depth = -along - np.sqrt(np.maximum(root, 0))
        depth = np.where((root > 0) & (depth > 0), depth, _MISS)
        safe = np.where(np.isfinite(depth), depth, 0)[:, None]
        return depth, (offset + directions * safe) / self.radius


@dataclass(frozen=True, eq=False, kw_only=True)
class Box:
    """A box with half sides `half`, turned by `rotation`."""

    center: np.ndarray
    half: np.ndarray
    texture: Texture
    shine: float = 0.5
    glow: float = 0.0
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))

    @property
    def reach(self) -> float:
        """Radius of the bounding sphere round the centre."""
        return float(np.linalg.norm(self.half))

    def intersect(
        self, origin: np.ndarray, directions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depth (infinite for a miss) and normal in the world."""
        local_origin = (origin - self.center) @ self.rotation
        local = directions @ self.rotation
        inverse = 1.0 / np.where(np.abs(local) < 1e-9, 1e-9, local)
        one, two = (-self.half - local_origin) * inverse, (self.half - local_origin) * inverse
        entry, leave = np.minimum(one, two), np.maximum(one, two)
        depth, axis = entry.max(1), entry.argmax(1)
        hit = (depth < leave.min(1)) & (depth > 0)
        normal = np.where(axis[:, None] == np.arange(3), -np.sign(local), 0.0)
        return np.where(hit, depth, _MISS), normal @ self.rotation.T


Shape = Sphere | Box


def trace_room(rays: Rays, room: tuple[Wall, ...]) -> Hits:
    """The walls alone."""
    count = len(rays.directions)
    depths = np.full(count, _MISS, dtype=np.float32)
    colors = np.zeros((count, 3), dtype=np.float32)
    for axis, offset, sign, texture in room:
        speed = rays.directions[:, axis]
        towards = speed * sign < -1e-6
        depth = (offset - rays.origin[axis]) / np.where(towards, speed, 1)
        rows = np.flatnonzero(towards & (depth > 0) & (depth < depths))
        depths[rows] = depth[rows]
        normal = np.zeros((len(rows), 3), dtype=np.float32)
        normal[:, axis] = sign
        points = rays.origin + rays.directions[rows] * depth[rows, None]
        albedo = texture(points, normal)
        shine = 0.25 if axis == 2 else 0.05
        colors[rows] = _shade(albedo, points, normal, rays.directions[rows], shine)
    return Hits(depths, colors, np.zeros(count, dtype=bool))


def trace_shapes(rays: Rays, hits: Hits, shapes: list[Shape], moving: bool) -> Hits:
    """Shapes in front of earlier hits."""
    depths, colors, is_moving = hits.depths.copy(), hits.colors.copy(), hits.is_moving.copy()
    for shape in shapes:
        # Test only the rays that pass through the bounding sphere.
        offset = (shape.center - rays.origin).astype(np.float32)
        along = rays.directions @ offset
        rows = np.flatnonzero((offset @ offset - along**2 < shape.reach**2) & (along > 0))
        if not len(rows):
            continue
        directions = rays.directions[rows]
        depth, normal = shape.intersect(rays.origin, directions)
        # Keep and shade the hits that are nearer than earlier ones.
        front = depth < depths[rows]
        rows, directions, normal, depth = (
            values[front] for values in (rows, directions, normal, depth)
        )
        points = rays.origin + directions * depth[:, None]
        albedo = shape.texture((points - shape.center) @ shape.rotation, normal @ shape.rotation)
        shaded = _shade(albedo, points, normal, directions, shape.shine)
        colors[rows] = shaded * (1 - shape.glow) + albedo * shape.glow
        depths[rows], is_moving[rows] = depth, moving
    return Hits(depths, colors, is_moving)


def with_shadows(rays: Rays, hits: Hits, shapes: list[Shape]) -> Hits:
    """Soft dark spots on the floor below shapes, which make their motion visible."""
    heights = rays.origin[2] + rays.directions[:, 2] * hits.depths
    floor = np.flatnonzero(heights < 0.01)
    points = rays.origin + rays.directions[floor] * hits.depths[floor, None]
    light = np.ones(len(floor), dtype=np.float32)
    for shape in shapes:
        distance = np.linalg.norm(points[:, :2] - shape.center[:2], axis=1)
        strength = 0.45 * (1 - shape.glow) / (1 + 1.5 * shape.center[2])
        light *= 1 - strength * np.exp(-((distance / (1.1 * shape.reach)) ** 2))
    colors = hits.colors.copy()
    colors[floor] *= light[:, None]
    return Hits(hits.depths, colors, hits.is_moving)


def _shade(
    albedo: np.ndarray, points: np.ndarray, normal: np.ndarray, view: np.ndarray, shine: float
) -> np.ndarray:
    """Ambient, diffuse and a highlight that moves with the viewer (Blinn-Phong)."""
    to_light = _LIGHT - points
    to_light /= np.linalg.norm(to_light, axis=1, keepdims=True)
    half = to_light - view
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    diffuse = np.maximum((normal * to_light).sum(1), 0)
    highlight = shine * np.maximum((normal * half).sum(1), 0) ** 40
    lit = albedo * (0.42 + 0.62 * diffuse)[:, None] + highlight[:, None]
    return np.clip(lit, 0, 1).astype(np.float32)
