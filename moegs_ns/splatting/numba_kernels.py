"""Compiled kernels of the CPU rasteriser; importing this file imports Numba.

Every kernel works on NumPy arrays of one floating type, float32 or float64. The constants arrive in
the array `limits`, so that its type decides the precision of the arithmetic and so that compiled
code kept on disk never holds an outdated value.

A tile is one (image, tile) pair. Its Gaussians are composited one after the other, and of each only
the pixels are visited where its opacity can reach the smallest visible one.
"""

import math

import numpy as np
from numba import njit, prange

from moegs_ns.splatting.kernel_cache import find_kernel_cache
from moegs_ns.splatting.projection import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE

DISTANCE_MARGIN = 0.05
"""Added to the distance at which a Gaussian fades, so that rounding never hides a pixel."""


def limits_for(dtype: np.dtype) -> np.ndarray:
    """Constants of the kernels: largest and smallest opacity, least transmittance, 1/2 and 1.

    One half is the offset of pixel centres, a factor, and the transmittance at the median depth.
    """
    return np.array([MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE, 0.5, 1.0], dtype=dtype)


find_kernel_cache(limits_for)


@njit(cache=True)
def _tile_bounds(means2d, extents, grid_width, grid_height, tile_size):
    """First and last (exclusive) tile column and row of every Gaussian, [n, 4]."""
    bounds = np.zeros((len(extents), 4), dtype=np.int64)
    size = (grid_width, grid_height)
    for gaussian in range(len(extents)):
        if extents[gaussian] <= 0:
            continue
        for axis in range(2):
            extent = means2d.dtype.type(extents[gaussian])
            first = math.floor((means2d[gaussian, axis] - extent) / tile_size)
            last = math.ceil((means2d[gaussian, axis] + extent) / tile_size)
            bounds[gaussian, 2 * axis] = min(max(first, 0), size[axis])
            bounds[gaussian, 2 * axis + 1] = min(max(last, 0), size[axis])
    return bounds


@njit(cache=True)
def sort_into_tiles(means2d, extents, depth_order, image_ids, tile_size, shape):
    """Counting sort of all (Gaussian, tile) pairs by tile, near to far within each tile.

    Returns the Gaussian of every pair, the index of each tile's first pair, the pairs listed by
    Gaussian, and the index of each Gaussian's first pair in that list.
    """
    num_images, height, width = shape
    grid_width, grid_height = -(-width // tile_size), -(-height // tile_size)
    bounds = _tile_bounds(means2d, extents, grid_width, grid_height, tile_size)
    tiles_per_image = grid_width * grid_height
    tile_starts = np.zeros(num_images * tiles_per_image + 1, dtype=np.int64)
    gaussian_starts = np.zeros(len(bounds) + 1, dtype=np.int64)
    for gaussian in range(len(bounds)):
        x0, x1, y0, y1 = bounds[gaussian]
        gaussian_starts[gaussian + 1] = gaussian_starts[gaussian] + (x1 - x0) * (y1 - y0)
        for y in range(y0, y1):
            for x in range(x0, x1):
                tile_starts[image_ids[gaussian] * tiles_per_image + y * grid_width + x + 1] += 1
    tile_starts = np.cumsum(tile_starts)
    free = tile_starts[:-1].copy()
    flatten_ids = np.empty(tile_starts[-1], dtype=np.int64)
    pairs = np.empty(tile_starts[-1], dtype=np.int64)
    for gaussian in depth_order:
        x0, x1, y0, y1 = bounds[gaussian]
        index = gaussian_starts[gaussian]
        for y in range(y0, y1):
            for x in range(x0, x1):
                tile = image_ids[gaussian] * tiles_per_image + y * grid_width + x
                flatten_ids[free[tile]] = gaussian
                pairs[index] = free[tile]
                free[tile] += 1
                index += 1
    return flatten_ids, tile_starts, pairs, gaussian_starts


@njit(cache=True)
def _visible_rows(y_mean, conic, opacity, min_alpha, top, bottom):
    """First and last (exclusive) pixel row of a tile in which a Gaussian may be visible, all for a
    degenerate conic; and the distance, as in `_falloff`, beyond which it is invisible.
    """
    if not opacity >= min_alpha:
        return top, top, 0.0
    limit = math.log(float(opacity) / float(min_alpha)) + DISTANCE_MARGIN
    a, b, c = float(conic[0]), float(conic[1]), float(conic[2])
    determinant = a * c - b * b
    if not (a > 0.0 and determinant > 0.0):
        return top, bottom, limit
    reach = math.sqrt(2.0 * limit * a / determinant) + 1.0
    first, last = y_mean - 0.5 - reach, y_mean - 0.5 + reach
    y0, y1 = int(max(first, float(top))), int(min(max(last, -1.0), float(bottom - 1))) + 1
    return y0, y1, limit


@njit(cache=True)
def _visible_columns(x_mean, dy, conic, limit, left, right):
    """First and last (exclusive) pixel column of one row in which a Gaussian may be visible."""
    a, b, c = float(conic[0]), float(conic[1]), float(conic[2])
    if not (a > 0.0 and a * c - b * b > 0.0):
        return left, right
    root = math.sqrt(max((b * dy) ** 2 - a * (c * dy * dy - 2.0 * limit), 0.0)) / a
    middle = x_mean - 0.5 + b * dy / a
    first, last = middle - root - 1.0, middle + root + 1.0
    return int(max(first, float(left))), int(min(max(last, -1.0), float(right - 1))) + 1


@njit(cache=True)
def _falloff(dx, dy, conic, half):
    """exp(-distance) with half the squared Mahalanobis distance, rounded as the other backends
    round it; negative, and so invisible, where that is no distance."""
    distance = half * (conic[0] * dx * dx + conic[2] * dy * dy) + conic[1] * dx * dy
    return math.exp(-distance) if distance >= 0.0 else -half


@njit(cache=True)
def _tile_pixels(tile, shape, tile_size):
    """Image of a tile and its pixel borders (left, right, top, bottom), the ends exclusive."""
    _, height, width = shape
    grid_width, grid_height = -(-width // tile_size), -(-height // tile_size)
    image, index = divmod(np.int64(tile), grid_width * grid_height)
    row, column = divmod(index, grid_width)
    left, top = column * tile_size, row * tile_size
    return image, left, min(left + tile_size, width), top, min(top + tile_size, height)


@njit(cache=True, parallel=True)
def rasterize(
    means2d, conics, opacities, channels, flatten_ids, tile_starts, limits, tile_size, shape
):
    """Composite front to back (Eq. 5).

    Returns channels, remaining transmittance and the last composited pair of every pixel.
    """
    num_images, height, width = shape
    image = np.zeros((num_images, height, width, channels.shape[1]), dtype=channels.dtype)
    transmittance = np.ones(shape, dtype=channels.dtype)
    last_pairs = np.full(shape, -1, dtype=np.int64)
    max_alpha, min_alpha, min_transmittance, half, one = limits
    for tile in prange(len(tile_starts) - 1):
        i, left, right, top, bottom = _tile_pixels(tile, shape, tile_size)
        is_full = np.zeros((tile_size, tile_size), dtype=np.bool_)
        num_open = (right - left) * (bottom - top)
        for pair in range(tile_starts[tile], tile_starts[tile + 1]):
            gaussian = flatten_ids[pair]
            conic, opacity = conics[gaussian], opacities[gaussian]
            x_mean, y_mean = means2d[gaussian]
            y0, y1, limit = _visible_rows(y_mean, conic, opacity, min_alpha, top, bottom)
            for y in range(y0, y1):
                dy = y_mean - (channels.dtype.type(y) + half)
                x0, x1 = _visible_columns(x_mean, dy, conic, limit, left, right)
                for x in range(x0, x1):
                    if is_full[y - top, x - left]:
                        continue
                    dx = x_mean - (channels.dtype.type(x) + half)
                    alpha = min(opacity * _falloff(dx, dy, conic, half), max_alpha)
                    if alpha < min_alpha:
                        continue
                    before = transmittance[i, y, x]
                    after = before * (one - alpha)
                    if after <= min_transmittance:
                        is_full[y - top, x - left] = True
                        num_open -= 1
                        continue
                    weight = alpha * before
                    for d in range(channels.shape[1]):
                        image[i, y, x, d] += weight * channels[gaussian, d]
                    transmittance[i, y, x] = after
                    last_pairs[i, y, x] = pair
            if num_open == 0:
                break
    return image, transmittance, last_pairs


@njit(cache=True, parallel=True)
def rasterize_median(
    means2d, conics, opacities, depths, flatten_ids, tile_starts, limits, tile_size, shape
):
    """Depth of the first Gaussian at which transmittance is at most one half; 0 if none is.

    Pixel by pixel, since each stops at its own Gaussian and there is nothing to accumulate.
    """
    medians = np.zeros(shape, dtype=depths.dtype)
    max_alpha, min_alpha, _, half, one = limits
    for tile in prange(len(tile_starts) - 1):
        i, left, right, top, bottom = _tile_pixels(tile, shape, tile_size)
        for y in range(top, bottom):
            for x in range(left, right):
                transmittance = one
                for pair in range(tile_starts[tile], tile_starts[tile + 1]):
                    gaussian = flatten_ids[pair]
                    dx = means2d[gaussian, 0] - (depths.dtype.type(x) + half)
                    dy = means2d[gaussian, 1] - (depths.dtype.type(y) + half)
                    falloff = _falloff(dx, dy, conics[gaussian], half)
                    alpha = min(opacities[gaussian] * falloff, max_alpha)
                    if not alpha >= min_alpha:
                        continue
                    transmittance *= one - alpha
                    if transmittance <= half:
                        medians[i, y, x] = depths[gaussian]
                        break
    return medians


@njit(cache=True, parallel=True)
def channel_gradients(
    means2d, conics, opacities, flatten_ids, tile_starts, limits, tile_size, last_pairs, image_grad
):
    """Gradient of the channels alone, one row per pair: the weights of `rasterize` once more."""
    num_channels = image_grad.shape[-1]
    channel_parts = np.zeros((len(flatten_ids), num_channels), dtype=image_grad.dtype)
    transmittance = np.ones(last_pairs.shape, dtype=image_grad.dtype)
    max_alpha, min_alpha, _, half, one = limits
    for tile in prange(len(tile_starts) - 1):
        i, left, right, top, bottom = _tile_pixels(tile, last_pairs.shape, tile_size)
        last_of_tile = last_pairs[i, top:bottom, left:right].max()
        for pair in range(tile_starts[tile], last_of_tile + 1):
            gaussian = flatten_ids[pair]
            conic, opacity = conics[gaussian], opacities[gaussian]
            x_mean, y_mean = means2d[gaussian]
            y0, y1, limit = _visible_rows(y_mean, conic, opacity, min_alpha, top, bottom)
            for y in range(y0, y1):
                dy = y_mean - (image_grad.dtype.type(y) + half)
                x0, x1 = _visible_columns(x_mean, dy, conic, limit, left, right)
                for x in range(x0, x1):
                    if pair > last_pairs[i, y, x]:
                        continue
                    dx = x_mean - (image_grad.dtype.type(x) + half)
                    alpha = min(opacity * _falloff(dx, dy, conic, half), max_alpha)
                    if alpha < min_alpha:
                        continue
                    weight = alpha * transmittance[i, y, x]
                    transmittance[i, y, x] *= one - alpha
                    for d in range(num_channels):
                        channel_parts[pair, d] += weight * image_grad[i, y, x, d]
    return channel_parts


@njit(cache=True, inline="always")
def _add_geometry_gradient(part, slope, conic, dx, dy, half):
    """Add the gradients of mean and conic through the exponent of one pixel."""
    part[0] += slope * (conic[0] * dx + conic[1] * dy)
    part[1] += slope * (conic[1] * dx + conic[2] * dy)
    part[2] += half * slope * dx * dx
    part[3] += slope * dx * dy
    part[4] += half * slope * dy * dy


@njit(cache=True, parallel=True)
def all_gradients(
    means2d, conics, opacities, channels, flatten_ids, tile_starts, limits, tile_size,
    transmittance, last_pairs, image_grad, alpha_grad,
):  # fmt: skip
    """Gradients of geometry (mean 2, conic 3, opacity 1) and channels, one row per pair.

    Walks back to front. `behind` is what lies behind a pixel's current Gaussian, multiplied with
    the gradient of the pixel; it is one number however many channels there are.
    """
    num_channels = image_grad.shape[-1]
    geometry_parts = np.zeros((len(flatten_ids), 6), dtype=image_grad.dtype)
    channel_parts = np.zeros((len(flatten_ids), num_channels), dtype=image_grad.dtype)
    current, behind = transmittance.copy(), np.zeros_like(transmittance)
    max_alpha, min_alpha, _, half, one = limits
    for tile in prange(len(tile_starts) - 1):
        i, left, right, top, bottom = _tile_pixels(tile, last_pairs.shape, tile_size)
        last_of_tile = last_pairs[i, top:bottom, left:right].max()
        for pair in range(last_of_tile, tile_starts[tile] - 1, -1):
            gaussian = flatten_ids[pair]
            conic, opacity = conics[gaussian], opacities[gaussian]
            x_mean, y_mean = means2d[gaussian]
            y0, y1, limit = _visible_rows(y_mean, conic, opacity, min_alpha, top, bottom)
            for y in range(y0, y1):
                dy = y_mean - (image_grad.dtype.type(y) + half)
                x0, x1 = _visible_columns(x_mean, dy, conic, limit, left, right)
                for x in range(x0, x1):
                    if pair > last_pairs[i, y, x]:
                        continue
                    dx = x_mean - (image_grad.dtype.type(x) + half)
                    falloff = _falloff(dx, dy, conic, half)
                    alpha = min(opacity * falloff, max_alpha)
                    if alpha < min_alpha:
                        continue
                    before = current[i, y, x] / (one - alpha)
                    weight = alpha * before
                    # Gradient in this Gaussian's contribution to the pixel, then in its alpha.
                    inner = alpha_grad[i, y, x]
                    for d in range(num_channels):
                        grad = image_grad[i, y, x, d]
                        inner += channels[gaussian, d] * grad
                        channel_parts[pair, d] += weight * grad
                    of_alpha = before * inner - behind[i, y, x] / (one - alpha)
                    behind[i, y, x] += weight * inner
                    current[i, y, x] = before
                    if opacity * falloff > max_alpha:
                        continue
                    slope = -opacity * falloff * of_alpha
                    _add_geometry_gradient(geometry_parts[pair], slope, conic, dx, dy, half)
                    geometry_parts[pair, 5] += falloff * of_alpha
    return geometry_parts, channel_parts


@njit(cache=True, parallel=True)
def sum_parts(parts, pairs, gaussian_starts):
    """Sum over the pairs of each Gaussian, always in the same order."""
    total = np.zeros((len(gaussian_starts) - 1, parts.shape[1]), dtype=parts.dtype)
    for gaussian in prange(len(gaussian_starts) - 1):
        for index in range(gaussian_starts[gaussian], gaussian_starts[gaussian + 1]):
            for d in range(parts.shape[1]):
                total[gaussian, d] += parts[pairs[index], d]
    return total
