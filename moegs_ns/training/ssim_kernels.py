"""Triton kernels of SSIM, forward and backward.

The window is separable: rows are blurred by one kernel, columns by the next. Images are read as
they lie in memory, so a row is a line of numbers in which the same colour of the next pixel is
three further. Beyond the image everything is 0, as in `losses.plain_similarity`, which is the
reference of the tests.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false

import triton
import triton.language as tl

COLORS = tl.constexpr(3)


@triton.jit
def moments_kernel(
    pred, target, window, moments, length, numbers, WINDOW: tl.constexpr, BLOCK: tl.constexpr
):
    """Blur both images, their squares and their product along rows of `length` numbers."""
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64) * length
    p_sum = tl.zeros((BLOCK,), tl.float32)
    t_sum, pp_sum, tt_sum, pt_sum = p_sum, p_sum, p_sum, p_sum
    for k in tl.static_range(WINDOW):
        at = column + COLORS * (k - WINDOW // 2)
        inside = (at >= 0) & (at < length)
        weight = tl.load(window + k)
        p = tl.load(pred + row + at, mask=inside, other=0.0)
        t = tl.load(target + row + at, mask=inside, other=0.0)
        p_sum += weight * p
        t_sum += weight * t
        pp_sum += weight * p * p
        tt_sum += weight * t * t
        pt_sum += weight * p * t
    own, here = column < length, moments + row + column
    tl.store(here, p_sum, mask=own)
    tl.store(here + numbers, t_sum, mask=own)
    tl.store(here + 2 * numbers, pp_sum, mask=own)
    tl.store(here + 3 * numbers, tt_sum, mask=own)
    tl.store(here + 4 * numbers, pt_sum, mask=own)


@triton.jit
def similarity_kernel(
    moments, window, similarity, partials, length, height, numbers, c1, c2,
    WINDOW: tl.constexpr, BLOCK: tl.constexpr, HAS_GRADIENT: tl.constexpr,
):  # fmt: skip
    """Blur the moments along columns, and combine them; with a gradient also write how SSIM changes
    with the mean of the first image, the mean of its square, and that of the product."""
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    own, line = column < length, tl.program_id(0)
    p_mean = tl.zeros((BLOCK,), tl.float32)
    t_mean, pp_mean, tt_mean, pt_mean = p_mean, p_mean, p_mean, p_mean
    for k in tl.static_range(WINDOW):
        y = line % height + k - WINDOW // 2
        inside = own & (y >= 0) & (y < height)
        weight = tl.load(window + k)
        there = moments + (line + k - WINDOW // 2).to(tl.int64) * length + column
        p_mean += weight * tl.load(there, mask=inside, other=0.0)
        t_mean += weight * tl.load(there + numbers, mask=inside, other=0.0)
        pp_mean += weight * tl.load(there + 2 * numbers, mask=inside, other=0.0)
        tt_mean += weight * tl.load(there + 3 * numbers, mask=inside, other=0.0)
        pt_mean += weight * tl.load(there + 4 * numbers, mask=inside, other=0.0)
    luminance = 2 * p_mean * t_mean + c1
    structure = 2 * (pt_mean - p_mean * t_mean) + c2
    squares = p_mean * p_mean + t_mean * t_mean + c1
    variances = pp_mean + tt_mean - p_mean * p_mean - t_mean * t_mean + c2
    scale = 1.0 / (squares * variances)
    found = luminance * structure * scale
    here = line.to(tl.int64) * length + column
    tl.store(similarity + here, found, mask=own)
    if HAS_GRADIENT:
        of_mean = 2 * t_mean * (structure - luminance) * scale
        of_mean += 2 * p_mean * found * (1.0 / variances - 1.0 / squares)
        tl.store(partials + here, of_mean, mask=own)
        tl.store(partials + numbers + here, -found / variances, mask=own)
        tl.store(partials + 2 * numbers + here, 2 * luminance * scale, mask=own)


@triton.jit
def gradient_rows_kernel(
    gradient, partials, window, blurred, length, numbers,
    WINDOW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Multiply the partial derivatives with the gradient of SSIM and blur them along rows."""
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64) * length
    of_mean = tl.zeros((BLOCK,), tl.float32)
    of_square, of_product = of_mean, of_mean
    for k in tl.static_range(WINDOW):
        at = column + COLORS * (k - WINDOW // 2)
        inside = (at >= 0) & (at < length)
        there = row + at
        weight = tl.load(window + k) * tl.load(gradient + there, mask=inside, other=0.0)
        of_mean += weight * tl.load(partials + there, mask=inside, other=0.0)
        of_square += weight * tl.load(partials + numbers + there, mask=inside, other=0.0)
        of_product += weight * tl.load(partials + 2 * numbers + there, mask=inside, other=0.0)
    own, here = column < length, blurred + row + column
    tl.store(here, of_mean, mask=own)
    tl.store(here + numbers, of_square, mask=own)
    tl.store(here + 2 * numbers, of_product, mask=own)


@triton.jit
def gradient_kernel(
    pred, target, blurred, window, gradient, length, height, numbers,
    WINDOW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Blur along columns, and collect what reaches a number of the first image by all three."""
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    own, line = column < length, tl.program_id(0)
    of_mean = tl.zeros((BLOCK,), tl.float32)
    of_square, of_product = of_mean, of_mean
    for k in tl.static_range(WINDOW):
        y = line % height + k - WINDOW // 2
        inside = own & (y >= 0) & (y < height)
        weight = tl.load(window + k)
        there = blurred + (line + k - WINDOW // 2).to(tl.int64) * length + column
        of_mean += weight * tl.load(there, mask=inside, other=0.0)
        of_square += weight * tl.load(there + numbers, mask=inside, other=0.0)
        of_product += weight * tl.load(there + 2 * numbers, mask=inside, other=0.0)
    here = line.to(tl.int64) * length + column
    p = tl.load(pred + here, mask=own, other=0.0)
    t = tl.load(target + here, mask=own, other=0.0)
    tl.store(gradient + here, of_mean + 2 * p * of_square + t * of_product, mask=own)
