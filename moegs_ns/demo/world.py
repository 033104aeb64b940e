"""The content of the demo scene: still and moving shapes, and their textures."""

import numpy as np

from moegs_ns.demo.tracing import (
    Box,
    Hits,
    Rays,
    Shape,
    Sphere,
    Texture,
    Wall,
    trace_room,
    trace_shapes,
    with_shadows,
)


def _waves(points: np.ndarray, frequency: float) -> np.ndarray:
    """A smooth irregular pattern in [-1, 1] that several views agree on."""
    x, y, z = (frequency * points[:, i] for i in range(3))
    first = np.sin(x + 1.7 * np.sin(0.6 * y + z)) * np.cos(1.1 * y - 0.8 * z)
    return 0.6 * first + 0.4 * np.sin(2.3 * z + 1.9 * x - 1.3 * y)


def _mix(weight: np.ndarray, one: tuple[float, ...], two: tuple[float, ...]) -> np.ndarray:
    return np.asarray(one) * weight[:, None] + np.asarray(two) * (1 - weight[:, None])


def _floor(points: np.ndarray, _normal: np.ndarray) -> np.ndarray:
    tiles = (np.floor(points[:, 0] / 0.4) + np.floor(points[:, 1] / 0.4)) % 2
    color = _mix(tiles, (0.78, 0.72, 0.62), (0.38, 0.33, 0.32))
    return color * (0.9 + 0.14 * _waves(points, 9.0))[:, None]


def _bricks(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """1 inside a brick, 0 in the joints."""
    row = np.floor(up / 0.22)
    shifted = across / 0.5 + 0.5 * (row % 2)
    in_row = np.abs(up / 0.22 - row - 0.5) < 0.42
    return (in_row & (np.abs(shifted - np.floor(shifted) - 0.5) < 0.46)).astype(np.float32)


def _back_wall(points: np.ndarray, _normal: np.ndarray) -> np.ndarray:
    brick = _bricks(points[:, 0], points[:, 2])
    tint = 0.85 + 0.15 * _waves(np.floor(points / np.array([0.5, 1.0, 0.22])), 2.0)
    wall = _mix(brick, (0.62, 0.34, 0.26), (0.75, 0.72, 0.68)) * tint[:, None]
    # A framed image of rings.
    x, z = points[:, 0] - 0.75, points[:, 2] - 1.75
    frame = np.maximum(np.abs(x) / 0.62, np.abs(z) / 0.45)
    rings = 0.5 + 0.5 * np.sin(16 * np.hypot(x, 1.3 * z))
    image = _mix(rings, (0.95, 0.8, 0.25), (0.1, 0.25, 0.55))
    wall = np.where((frame < 1)[:, None], 0.12, wall)
    return np.where((frame < 0.88)[:, None], image, wall)


def _left_wall(points: np.ndarray, _normal: np.ndarray) -> np.ndarray:
    stripes = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * points[:, 1] / 0.5))
    color = _mix(stripes, (0.3, 0.52, 0.5), (0.72, 0.8, 0.74))
    return color * (0.92 + 0.1 * _waves(points, 6.0))[:, None]


def _right_wall(points: np.ndarray, _normal: np.ndarray) -> np.ndarray:
    dots = np.cos(2 * np.pi * points[:, 1] / 0.6) * np.cos(2 * np.pi * points[:, 2] / 0.6)
    return _mix(np.clip(4 * (dots - 0.3), 0, 1), (0.9, 0.86, 0.7), (0.36, 0.4, 0.62))


def _ceiling(points: np.ndarray, _normal: np.ndarray) -> np.ndarray:
    return np.full(points.shape, 0.8) * (0.95 + 0.08 * _waves(points, 3.0))[:, None]


ROOM: tuple[Wall, ...] = (
    (2, 0.0, 1.0, _floor),
    (2, 3.2, -1.0, _ceiling),
    (1, 2.8, -1.0, _back_wall),
    (0, -2.9, 1.0, _left_wall),
    (0, 2.9, -1.0, _right_wall),
    (1, -6.0, 1.0, _ceiling),
)


def _crate(points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    colors = np.array([[0.85, 0.3, 0.2], [0.2, 0.55, 0.85], [0.95, 0.75, 0.2]])
    side = np.abs(normal).argmax(1)
    base = colors[side] * np.where(normal[np.arange(len(side)), side] > 0, 1.0, 0.7)[:, None]
    cells = np.floor(points / 0.17 + 1e-4)
    cells[np.arange(len(side)), side] = 0
    checks = cells.sum(1) % 2
    return base * (0.55 + 0.45 * checks)[:, None]


def _marble(points: np.ndarray, _normal: np.ndarray) -> np.ndarray:
    veins = 0.5 + 0.5 * np.sin(14 * points[:, 2] + 2.5 * _waves(points, 7.0))
    return _mix(veins, (0.88, 0.88, 0.84), (0.3, 0.42, 0.36))


def _beach_ball(points: np.ndarray, _normal: np.ndarray) -> np.ndarray:
    slices = np.floor((np.arctan2(points[:, 1], points[:, 0]) / np.pi + 1) * 3) % 3
    colors = np.array([[0.95, 0.95, 0.92], [0.9, 0.15, 0.2], [0.15, 0.35, 0.9]])
    return colors[slices.astype(int)]


def _lamp(points: np.ndarray, _normal: np.ndarray) -> np.ndarray:
    stripes = 0.5 + 0.5 * np.sign(np.sin(22 * points[:, 2]))
    return _mix(stripes, (1.0, 0.85, 0.35), (0.95, 0.45, 0.15))


def _skin(number: int, count: int) -> Texture:
    base = np.array([0.25, 0.72, 0.35]) + np.array([0.55, -0.35, 0.35]) * (number / (count - 1))

    def paint(points: np.ndarray, _normal: np.ndarray) -> np.ndarray:
        return base * (0.8 + 0.25 * np.sign(np.sin(38 * points[:, 0] + 19 * number)))[:, None]

    return paint


def still_shapes() -> list[Shape]:
    """A glossy column with a marble ball on top, and a low chest."""
    corner = np.array([-1.75, 1.35, 0.0])
    half = np.array([0.28, 0.28, 0.4])
    chest = np.array([1.9, 1.7, 0.25])
    return [
        Box(center=corner + np.array([0, 0, 0.4]), half=half, texture=_marble, shine=0.6),
        Sphere(center=corner + np.array([0, 0, 1.12]), radius=0.32, texture=_marble, shine=0.8),
        Box(center=chest, half=np.array([0.5, 0.32, 0.25]), texture=_crate),
    ]


def _turned(angle: float, tilt: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    cos, sin = np.cos(tilt), np.sin(tilt)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return about_z @ about_x


def _tentacle(time: float, count: int = 11) -> list[Shape]:
    """A chain of overlapping spheres whose curvature swings to and fro."""
    bend = 1.5 * np.sin(2 * np.pi * time + 0.4)
    center, shapes = np.array([1.05, 0.55, 0.0]), []
    for number in range(count):
        angle = bend * number / (count - 1)
        radius = 0.17 - 0.09 * number / (count - 1)
        skin = _skin(number, count)
        shapes.append(Sphere(center=center.copy(), radius=radius, texture=skin, shine=0.3))
        center += 0.125 * np.array([np.sin(angle), 0.25 * np.sin(angle), np.cos(angle)])
    return shapes


def moving_shapes(time: float) -> list[Shape]:
    """Everything that moves, at a time in [0, 1]: crate, ball, tentacle and, for a while, lamp."""
    center, half = np.array([-0.55, 0.35, 0.55]), np.array([0.34, 0.34, 0.34])
    turned = _turned(0.3 + 1.9 * np.pi * time, 0.5)
    crate = Box(center=center, half=half, texture=_crate, rotation=turned)
    flight = np.array([-1.75 + 3.5 * time, -0.25 + 0.5 * time, 1.75 - 0.5 * time])
    turned = _turned(4 * time, 0.7)
    ball = Sphere(center=flight, radius=0.2, texture=_beach_ball, shine=0.6, rotation=turned)
    shapes: list[Shape] = [crate, ball, *_tentacle(time)]
    if 0.3 <= time <= 0.72:
        center = np.array([0.25, 0.1, 0.26])
        shapes.append(Sphere(center=center, radius=0.24, texture=_lamp, shine=0.2, glow=0.8))
    return shapes


def trace_still(rays: Rays) -> Hits:
    """First hits of all that stands still."""
    return trace_shapes(rays, trace_room(rays, ROOM), still_shapes(), moving=False)


def trace(rays: Rays, time: float, still: Hits) -> Hits:
    """First hits at a time, given those of `trace_still`, which are the same for every frame."""
    shapes = moving_shapes(time)
    return trace_shapes(rays, with_shadows(rays, still, shapes), shapes, moving=True)
