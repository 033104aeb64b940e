"""Triton kernels that read the planes of a HexPlane level, forward and backward.

A program takes a block of points through all six factors. Features of a cell lie side by side in
memory, so that a corner of a cell is one read, and in the backward pass one atomic sum, for all of
them. The equations are those of `HexPlaneLevel.read`, the reference of the tests.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false

import triton
import triton.language as tl


@triton.jit
def cells(position, point, own, axis: tl.constexpr, CELLS: tl.constexpr):
    """The cells before and after points along an axis, how far they are from the first, in cells,
    and how much that changes with their position, which is not at all beyond the border."""
    x = tl.load(position + 3 * point + axis, mask=own, other=0.0)
    x = 0.5 * (CELLS - 1) * (x + 1.0)
    slope = tl.where((x > 0.0) & (x < CELLS - 1), 0.5 * (CELLS - 1), 0.0)
    x = tl.minimum(tl.maximum(x, 0.0), CELLS - 1)
    first = tl.floor(x)
    second = tl.minimum(first + 1.0, CELLS - 1)
    return first.to(tl.int32), second.to(tl.int32), x - first, slope


@triton.jit
def read(table, cell, channel, own, CHANNELS: tl.constexpr):
    """The features of cells."""
    return tl.load(
        table + cell[:, None] * CHANNELS + channel[None, :], mask=own[:, None], other=0.0
    )


@triton.jit
def add(table, cell, channel, own, value, CHANNELS: tl.constexpr):
    """Add to the features of cells, which other programs may do as well."""
    there = table + cell[:, None] * CHANNELS + channel[None, :]
    tl.atomic_add(there, value, mask=own[:, None], sem="relaxed")


@triton.jit
def between(first, second, share):
    """Linear interpolation, `share` of the way."""
    return first + share[:, None] * (second - first)


@triton.jit
def corners(table, column, row, channel, own, CELLS: tl.constexpr, CHANNELS: tl.constexpr):
    """The features at the four corners of cells of a plane, row by row."""
    a = read(table, row[0] * CELLS + column[0], channel, own, CHANNELS)
    b = read(table, row[0] * CELLS + column[1], channel, own, CHANNELS)
    c = read(table, row[1] * CELLS + column[0], channel, own, CHANNELS)
    d = read(table, row[1] * CELLS + column[1], channel, own, CHANNELS)
    return a, b, c, d


@triton.jit
def interpolated(corner, column, row):
    """A plane's value from its corners."""
    upper = between(corner[0], corner[1], column[2])
    return between(upper, between(corner[2], corner[3], column[2]), row[2])


@triton.jit
def add_corners(
    table, column, row, channel, own, value, CELLS: tl.constexpr, CHANNELS: tl.constexpr
):
    """Add to the corners what reaches a plane's value, each its share."""
    lower = row[2][:, None] * value
    upper = value - lower
    right, below = column[2][:, None] * upper, column[2][:, None] * lower
    add(table, row[0] * CELLS + column[0], channel, own, upper - right, CHANNELS)
    add(table, row[0] * CELLS + column[1], channel, own, right, CHANNELS)
    add(table, row[1] * CELLS + column[0], channel, own, lower - below, CHANNELS)
    add(table, row[1] * CELLS + column[1], channel, own, below, CHANNELS)


@triton.jit
def ends(line, at, channel, own, CHANNELS: tl.constexpr):
    """A line's value, and how much it changes from one cell to the next."""
    before = read(line, at[0], channel, own, CHANNELS)
    after = read(line, at[1], channel, own, CHANNELS)
    return between(before, after, at[2]), after - before


@triton.jit
def add_ends(line, at, channel, own, value, CHANNELS: tl.constexpr):
    """Add to the cells of a line what reaches its value, each its share."""
    behind = at[2][:, None] * value
    add(line, at[0], channel, own, value - behind, CHANNELS)
    add(line, at[1], channel, own, behind, CHANNELS)


@triton.jit
def along_columns(corner, reaching, row):
    """What moving along the columns of a plane changes, summed over features."""
    change = between(corner[1] - corner[0], corner[3] - corner[2], row[2])
    return tl.sum(reaching * change, axis=1)


@triton.jit
def along_rows(corner, reaching, column):
    """What moving along the rows of a plane changes, summed over features."""
    change = between(corner[2] - corner[0], corner[3] - corner[1], column[2])
    return tl.sum(reaching * change, axis=1)


@triton.jit
def features_kernel(
    position, planes, lines, features, count,
    CELLS: tl.constexpr, CHANNELS: tl.constexpr, TIMES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Products of three planes [3, CELLS, CELLS, CHANNELS] and three lines [TIMES, 3, CELLS,
    CHANNELS] at points, as [TIMES, count, CHANNELS]."""
    point = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    own, channel = point < count, tl.arange(0, CHANNELS)
    x = cells(position, point, own, 0, CELLS)
    y = cells(position, point, own, 1, CELLS)
    z = cells(position, point, own, 2, CELLS)
    size: tl.constexpr = CELLS * CHANNELS
    square: tl.constexpr = CELLS * size
    xy = interpolated(corners(planes, x, y, channel, own, CELLS, CHANNELS), x, y)
    xz = interpolated(corners(planes + square, x, z, channel, own, CELLS, CHANNELS), x, z)
    yz = interpolated(corners(planes + 2 * square, y, z, channel, own, CELLS, CHANNELS), y, z)
    in_space = xy * xz * yz
    for time in tl.static_range(TIMES):
        line, product = lines + 3 * time * size, in_space
        for axis in tl.static_range(3):
            at = cells(position, point, own, axis, CELLS)
            product *= ends(line + axis * size, at, channel, own, CHANNELS)[0]
        row = time * count + point.to(tl.int64)
        here = features + row[:, None] * CHANNELS + channel[None, :]
        tl.store(here, product, mask=own[:, None])


@triton.jit
def gradient_kernel(
    position, planes, lines, gradient, of_position, of_planes, of_lines, count,
    CELLS: tl.constexpr, CHANNELS: tl.constexpr, TIMES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of positions, and sums of those of planes and lines, which begin at 0."""
    point = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    own, channel = point < count, tl.arange(0, CHANNELS)
    x = cells(position, point, own, 0, CELLS)
    y = cells(position, point, own, 1, CELLS)
    z = cells(position, point, own, 2, CELLS)
    size: tl.constexpr = CELLS * CHANNELS
    square: tl.constexpr = CELLS * size
    of_xy = corners(planes, x, y, channel, own, CELLS, CHANNELS)
    of_xz = corners(planes + square, x, z, channel, own, CELLS, CHANNELS)
    of_yz = corners(planes + 2 * square, y, z, channel, own, CELLS, CHANNELS)
    xy = interpolated(of_xy, x, y)
    xz = interpolated(of_xz, x, z)
    yz = interpolated(of_yz, y, z)
    in_space = xy * xz * yz
    # What reaches the product of the planes, over all times.
    reaching = tl.zeros((BLOCK, CHANNELS), tl.float32)
    by_x = tl.zeros((BLOCK,), tl.float32)
    by_y, by_z = by_x, by_x
    for time in tl.static_range(TIMES):
        line, of_line = lines + 3 * time * size, of_lines + 3 * time * size
        given = read(gradient, time * count + point.to(tl.int64), channel, own, CHANNELS)
        along_x = ends(line, x, channel, own, CHANNELS)
        along_y = ends(line + size, y, channel, own, CHANNELS)
        along_z = ends(line + 2 * size, z, channel, own, CHANNELS)
        reaching += given * along_x[0] * along_y[0] * along_z[0]
        given *= in_space
        one = given * along_y[0] * along_z[0]
        by_x += tl.sum(one * along_x[1], axis=1)
        add_ends(of_line, x, channel, own, one, CHANNELS)
        one = given * along_x[0] * along_z[0]
        by_y += tl.sum(one * along_y[1], axis=1)
        add_ends(of_line + size, y, channel, own, one, CHANNELS)
        one = given * along_x[0] * along_y[0]
        by_z += tl.sum(one * along_z[1], axis=1)
        add_ends(of_line + 2 * size, z, channel, own, one, CHANNELS)
    one = reaching * xz * yz
    by_x += along_columns(of_xy, one, y)
    by_y += along_rows(of_xy, one, x)
    add_corners(of_planes, x, y, channel, own, one, CELLS, CHANNELS)
    one = reaching * xy * yz
    by_x += along_columns(of_xz, one, z)
    by_z += along_rows(of_xz, one, x)
    add_corners(of_planes + square, x, z, channel, own, one, CELLS, CHANNELS)
    one = reaching * xy * xz
    by_y += along_columns(of_yz, one, z)
    by_z += along_rows(of_yz, one, y)
    add_corners(of_planes + 2 * square, y, z, channel, own, one, CELLS, CHANNELS)
    tl.store(of_position + 3 * point, by_x * x[3], mask=own)
    tl.store(of_position + 3 * point + 1, by_y * y[3], mask=own)
    tl.store(of_position + 3 * point + 2, by_z * z[3], mask=own)
