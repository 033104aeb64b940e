"""Compiled kernels of the CPU rasteriser; importing this file imports Numba.

Every kernel works on NumPy arrays of one floating type, float32 or float64. The constants arrive in
the array `limits`, so that its type decides the precision of the arithmetic and so that compiled
code kept on disk never holds an outdated value.

A tile is one (image, tile) pair. Its Gaussians are drawn one after the other, and of each only the
pixels where it can reach the smallest visible opacity are looked at.
"""

import math

import numpy as np
from numba import njit, prange

from moegs_ns.splatting.projection import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE

CUT_MARGIN = 0.05
"""Added to the squared distance at which a Gaussian fades, so that rounding never hides a pixel."""


def limits_for(dtype: np.dtype) -> np.ndarray:
    """Constants of the kernels: largest and smallest opacity, least transmittance, 1/2 and 1.

    One half is the offset of pixel centres, a factor, and the transmittance at the median depth.
    """
    return np.array([MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE, 0.5, 1.0], dtype=dtype)


@njit(cache=True)
def count_tiles(means2d, extents, grid_width, grid_height, tile_size):
    """First and last (exclusive) tile column and row of every Gaussian, [n, 4]."""
    bounds = np.zeros((len(extents), 4), dtype=np.int64)
    size = (grid_width, grid_height)
    for row in range(len(extents)):
        if extents[row] <= 0:
            continue
        for axis in range(2):
            edge = means2d.dtype.type(extents[row])
            first = math.floor((means2d[row, axis] - edge) / tile_size)
            last = math.ceil((means2d[row, axis] + edge) / tile_size)
            bounds[row, 2 * axis] = min(max(first, 0), size[axis])
            bounds[row, 2 * axis + 1] = min(max(last, 0), size[axis])
    return bounds


@njit(cache=True)
def sort_into_tiles(bounds, depth_order, image_ids, num_images, grid_width, grid_height):
    """Counting sort of all (Gaussian, tile) pairs by tile, near to far within each tile.

    Returns the Gaussian of every pair, where each tile's pairs start, the place of every pair when
    listed by Gaussian, and where each Gaussian's places start.
    """
    tiles_per_image = grid_width * grid_height
    tile_starts = np.zeros(num_images * tiles_per_image + 1, dtype=np.int64)
    place_starts = np.zeros(len(bounds) + 1, dtype=np.int64)
    for row in range(len(bounds)):
        x0, x1, y0, y1 = bounds[row]
        place_starts[row + 1] = place_starts[row] + (x1 - x0) * (y1 - y0)
        for y in range(y0, y1):
            for x in range(x0, x1):
                tile_starts[image_ids[row] * tiles_per_image + y * grid_width + x + 1] += 1
    tile_starts = np.cumsum(tile_starts)
    free = tile_starts[:-1].copy()
    pairs = np.empty(tile_starts[-1], dtype=np.int64)
    places = np.empty(tile_starts[-1], dtype=np.int64)
    for row in depth_order:
        x0, x1, y0, y1 = bounds[row]
        place = place_starts[row]
        for y in range(y0, y1):
            for x in range(x0, x1):
                tile = image_ids[row] * tiles_per_image + y * grid_width + x
                pairs[free[tile]] = row
                places[place] = free[tile]
                free[tile] += 1
                place += 1
    return pairs, tile_starts, places, place_starts


@njit(cache=True)
def _visible_rows(y_mean, conic, cut, top, bottom):
    """Pixel rows of a tile between which the Gaussian can be seen; all of them if it is flat."""
    a, b, c = float(conic[0]), float(conic[1]), float(conic[2])
    determinant = a * c - b * b
    if not (a > 0.0 and determinant > 0.0):
        return top, bottom
    reach = math.sqrt(2.0 * cut * a / determinant) + 1.0
    first, last = y_mean - 0.5 - reach, y_mean - 0.5 + reach
    return int(max(first, float(top))), int(min(max(last, -1.0), float(bottom - 1))) + 1


@njit(cache=True)
def _visible_columns(x_mean, dy, conic, cut, left, right):
    """Pixel columns of one row between which the Gaussian can be seen."""
    a, b, c = float(conic[0]), float(conic[1]), float(conic[2])
    if not (a > 0.0 and a * c - b * b > 0.0):
        return left, right
    root = math.sqrt(max((b * dy) ** 2 - a * (c * dy * dy - 2.0 * cut), 0.0)) / a
    middle = x_mean - 0.5 + b * dy / a
    first, last = middle - root - 1.0, middle + root + 1.0
    return int(max(first, float(left))), int(min(max(last, -1.0), float(right - 1))) + 1


@njit(cache=True)
def _cut(opacity, min_alpha):
    """Squared distance (halved) beyond which the opacity is invisible; negative if always."""
    if not opacity >= min_alpha:
        return -1.0
    return math.log(float(opacity) / float(min_alpha)) + CUT_MARGIN


@njit(cache=True)
def _distance(dx, dy, conic, half):
    """Half the squared Mahalanobis distance, rounded as the other implementations round it."""
    return half * (conic[0] * dx * dx + conic[2] * dy * dy) + conic[1] * dx * dy


@njit(cache=True)
def _tile_pixels(tile, grid_width, grid_height, width, height, tile_size):
    """Image of a tile and its pixel borders (left, right, top, bottom), the ends exclusive."""
    image, place = divmod(np.int64(tile), grid_width * grid_height)
    row, column = divmod(place, grid_width)
    left, top = column * tile_size, row * tile_size
    return image, left, min(left + tile_size, width), top, min(top + tile_size, height)


@njit(cache=True, parallel=True)
def draw(means2d, conics, opacities, channels, pairs, tile_starts, limits, tile_size, shape):
    """Composite front to back (Eq. 5).

    Returns channels, remaining transmittance and the last drawn pair of every pixel.
    """
    num_images, height, width = shape
    grid_width, grid_height = -(-width // tile_size), -(-height // tile_size)
    num_channels = channels.shape[1]
    image = np.zeros((num_images, height, width, num_channels), dtype=channels.dtype)
    transmittance = np.ones((num_images, height, width), dtype=channels.dtype)
    last_pairs = np.full((num_images, height, width), -1, dtype=np.int64)
    max_alpha, min_alpha, min_transmittance, half, one = limits
    for tile in prange(len(tile_starts) - 1):
        i, left, right, top, bottom = _tile_pixels(
            tile, grid_width, grid_height, width, height, tile_size
        )
        is_full = np.zeros((tile_size, tile_size), dtype=np.bool_)
        num_open = (right - left) * (bottom - top)
        for pair in range(tile_starts[tile], tile_starts[tile + 1]):
            row = pairs[pair]
            conic, opacity = conics[row], opacities[row]
            x_mean, y_mean = means2d[row]
            cut = _cut(opacity, min_alpha)
            if cut < 0.0:
                continue
            y0, y1 = _visible_rows(y_mean, conic, cut, top, bottom)
            for y in range(y0, y1):
                dy = y_mean - (channels.dtype.type(y) + half)
                x0, x1 = _visible_columns(x_mean, dy, conic, cut, left, right)
                for x in range(x0, x1):
                    if is_full[y - top, x - left]:
                        continue
                    dx = x_mean - (channels.dtype.type(x) + half)
                    distance = _distance(dx, dy, conic, half)
                    if not distance >= 0.0:
                        continue
                    alpha = min(opacity * math.exp(-distance), max_alpha)
                    if alpha < min_alpha:
                        continue
                    before = transmittance[i, y, x]
                    after = before * (one - alpha)
                    if after <= min_transmittance:
                        is_full[y - top, x - left] = True
                        num_open -= 1
                        continue
                    weight = alpha * before
                    for d in range(num_channels):
                        image[i, y, x, d] += weight * channels[row, d]
                    transmittance[i, y, x] = after
                    last_pairs[i, y, x] = pair
            if num_open == 0:
                break
    return image, transmittance, last_pairs


@njit(cache=True, parallel=True)
def draw_medians(means2d, conics, opacities, depths, pairs, tile_starts, limits, tile_size, shape):
    """Depth of the first Gaussian that leaves a pixel at most half of its light; 0 if none does.

    Pixel by pixel, since each stops at its own Gaussian and there is nothing to accumulate.
    """
    num_images, height, width = shape
    grid_width, grid_height = -(-width // tile_size), -(-height // tile_size)
    medians = np.zeros((num_images, height, width), dtype=depths.dtype)
    max_alpha, min_alpha, _, half, one = limits
    for tile in prange(len(tile_starts) - 1):
        i, left, right, top, bottom = _tile_pixels(
            tile, grid_width, grid_height, width, height, tile_size
        )
        for y in range(top, bottom):
            for x in range(left, right):
                transmittance = one
                for pair in range(tile_starts[tile], tile_starts[tile + 1]):
                    row = pairs[pair]
                    dx = means2d[row, 0] - (depths.dtype.type(x) + half)
                    dy = means2d[row, 1] - (depths.dtype.type(y) + half)
                    distance = _distance(dx, dy, conics[row], half)
                    if not distance >= 0.0:
                        continue
                    alpha = min(opacities[row] * math.exp(-distance), max_alpha)
                    if not alpha >= min_alpha:
                        continue
                    transmittance *= one - alpha
                    if transmittance <= half:
                        medians[i, y, x] = depths[row]
                        break
    return medians


@njit(cache=True, parallel=True)
def pull_channels(
    means2d, conics, opacities, pairs, tile_starts, limits, tile_size, last_pairs, image_grad
):
    """Gradient of the channels alone, one row per pair: the weights of `draw` once more."""
    num_images, height, width, num_channels = image_grad.shape
    grid_width, grid_height = -(-width // tile_size), -(-height // tile_size)
    channel_parts = np.zeros((len(pairs), num_channels), dtype=image_grad.dtype)
    transmittance = np.ones((num_images, height, width), dtype=image_grad.dtype)
    max_alpha, min_alpha, _, half, one = limits
    for tile in prange(len(tile_starts) - 1):
        i, left, right, top, bottom = _tile_pixels(
            tile, grid_width, grid_height, width, height, tile_size
        )
        if tile_starts[tile] == tile_starts[tile + 1]:
            continue
        last_of_tile = last_pairs[i, top:bottom, left:right].max()
        for pair in range(tile_starts[tile], last_of_tile + 1):
            row = pairs[pair]
            conic, opacity = conics[row], opacities[row]
            x_mean, y_mean = means2d[row]
            cut = _cut(opacity, min_alpha)
            if cut < 0.0:
                continue
            y0, y1 = _visible_rows(y_mean, conic, cut, top, bottom)
            for y in range(y0, y1):
                dy = y_mean - (image_grad.dtype.type(y) + half)
                x0, x1 = _visible_columns(x_mean, dy, conic, cut, left, right)
                for x in range(x0, x1):
                    if pair > last_pairs[i, y, x]:
                        continue
                    dx = x_mean - (image_grad.dtype.type(x) + half)
                    distance = _distance(dx, dy, conic, half)
                    if not distance >= 0.0:
                        continue
                    alpha = min(opacity * math.exp(-distance), max_alpha)
                    if alpha < min_alpha:
                        continue
                    weight = alpha * transmittance[i, y, x]
                    transmittance[i, y, x] *= one - alpha
                    for d in range(num_channels):
                        channel_parts[pair, d] += weight * image_grad[i, y, x, d]
    return channel_parts


@njit(cache=True, inline="always")
def _pull_geometry(part, slope, conic, dx, dy, half):
    """Add the gradients of mean and conic through the exponent of one pixel."""
    part[0] += slope * (conic[0] * dx + conic[1] * dy)
    part[1] += slope * (conic[1] * dx + conic[2] * dy)
    part[2] += half * slope * dx * dx
    part[3] += slope * dx * dy
    part[4] += half * slope * dy * dy


@njit(cache=True, parallel=True)
def pull_all(
    means2d, conics, opacities, channels, pairs, tile_starts, limits, tile_size,
    transmittance, last_pairs, image_grad, alpha_grad,
):  # fmt: skip
    """Gradients of geometry (mean 2, conic 3, opacity 1) and channels, one row per pair.

    Walks back to front. `behind` is what lies behind a pixel's current Gaussian, multiplied with
    the gradient of the pixel; it is one number however many channels there are.
    """
    height, width, num_channels = image_grad.shape[1:]
    grid_width, grid_height = -(-width // tile_size), -(-height // tile_size)
    geometry_parts = np.zeros((len(pairs), 6), dtype=image_grad.dtype)
    channel_parts = np.zeros((len(pairs), num_channels), dtype=image_grad.dtype)
    current, behind = transmittance.copy(), np.zeros_like(transmittance)
    max_alpha, min_alpha, _, half, one = limits
    for tile in prange(len(tile_starts) - 1):
        i, left, right, top, bottom = _tile_pixels(
            tile, grid_width, grid_height, width, height, tile_size
        )
        if tile_starts[tile] == tile_starts[tile + 1]:
            continue
        last_of_tile = last_pairs[i, top:bottom, left:right].max()
        for pair in range(last_of_tile, tile_starts[tile] - 1, -1):
            row = pairs[pair]
            conic, opacity = conics[row], opacities[row]
            x_mean, y_mean = means2d[row]
            cut = _cut(opacity, min_alpha)
            if cut < 0.0:
                continue
            y0, y1 = _visible_rows(y_mean, conic, cut, top, bottom)
            for y in range(y0, y1):
                dy = y_mean - (image_grad.dtype.type(y) + half)
                x0, x1 = _visible_columns(x_mean, dy, conic, cut, left, right)
                for x in range(x0, x1):
                    if pair > last_pairs[i, y, x]:
                        continue
                    dx = x_mean - (image_grad.dtype.type(x) + half)
                    distance = _distance(dx, dy, conic, half)
                    if not distance >= 0.0:
                        continue
                    falloff = math.exp(-distance)
                    alpha = min(opacity * falloff, max_alpha)
                    if alpha < min_alpha:
                        continue
                    before = current[i, y, x] / (one - alpha)
                    weight = alpha * before
                    pulled = alpha_grad[i, y, x]
                    for d in range(num_channels):
                        grad = image_grad[i, y, x, d]
                        pulled += channels[row, d] * grad
                        channel_parts[pair, d] += weight * grad
                    push = before * pulled - behind[i, y, x] / (one - alpha)
                    behind[i, y, x] += weight * pulled
                    current[i, y, x] = before
                    if opacity * falloff > max_alpha:
                        continue
                    slope = -opacity * falloff * push
                    _pull_geometry(geometry_parts[pair], slope, conic, dx, dy, half)
                    geometry_parts[pair, 5] += falloff * push
    return geometry_parts, channel_parts


@njit(cache=True, parallel=True)
def sum_parts(parts, places, place_starts):
    """Sum over the pairs of each Gaussian, always in the same order."""
    total = np.zeros((len(place_starts) - 1, parts.shape[1]), dtype=parts.dtype)
    for row in prange(len(place_starts) - 1):
        for place in range(place_starts[row], place_starts[row + 1]):
            for d in range(parts.shape[1]):
                total[row, d] += parts[places[place], d]
    return total
