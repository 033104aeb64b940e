"""Triton kernels of all that a mixture does after rasterisation, forward and backward.

A program handles a block of pixels for all experts: rays, Φ, softmax, backgrounds, and the sums of
colour, depth and opacity. Nothing in between is written to memory. Blocks are [experts, pixels],
with the experts padded to a power of two; a list of them is a tuple, which is unrolled.

The equations are those of `VolumeAwarePixelRouter.forward`, `mixture.blend` and
`Mixture.render`, which are the references of the tests.
"""

# Triton knows no unpacking into tuples.
# ruff: noqa: RUF005
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false

import triton
import triton.language as tl

from moegs_ns import routers

RAY = tl.constexpr(6)
MIN_ACCUMULATION = tl.constexpr(1e-6)
"""That of `mixture.mixture`."""
MIN_OPACITY = tl.constexpr(routers.MIN_OPACITY)


@triton.jit
def rays(pixels, width, intrinsics, viewmat, center, extent):
    """Origins relative to the centre in units of the extent, and unit directions, as six rows."""
    x = (pixels % width).to(tl.float32) + 0.5
    y = (pixels // width).to(tl.float32) + 0.5
    x = (x - tl.load(intrinsics + 2)) / tl.load(intrinsics)
    y = (y - tl.load(intrinsics + 5)) / tl.load(intrinsics + 4)
    direction, origin, square = (), (), 0.0 * x
    # The inverse of a rotation is its transpose.
    for axis in tl.static_range(3):
        a, b = tl.load(viewmat + axis), tl.load(viewmat + 4 + axis)
        c = tl.load(viewmat + 8 + axis)
        shift = a * tl.load(viewmat + 3) + b * tl.load(viewmat + 7) + c * tl.load(viewmat + 11)
        position = (-shift - tl.load(center + axis)) / tl.load(extent)
        one = a * x + b * y + c
        square += one * one
        origin = origin + (position + 0.0 * x,)
        direction = direction + (one,)
    length = tl.sqrt(square)
    unit = ()
    for axis in tl.static_range(3):
        unit = unit + (direction[axis] / length,)
    return origin + unit


@triton.jit
def phi_inputs(features, mask, ray, REFINED: tl.constexpr):
    """What Φ reads: the rasterised weights but the first, then the ray."""
    inputs, zero = (), tl.where(mask, 0.0, 0.0)
    for k in tl.static_range(REFINED):
        inputs = inputs + (tl.load(features + 1 + k, mask=mask, other=0.0),)
    for k in tl.static_range(RAY):
        inputs = inputs + (zero + ray[k][None, :],)
    return inputs


@triton.jit
def linear(inputs, weights, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr):
    """A layer without bias, whose weights are [OUTPUTS, INPUTS] in memory."""
    outputs = ()
    for row in tl.static_range(OUTPUTS):
        total = tl.load(weights + row * INPUTS) * inputs[0]
        for column in tl.static_range(1, INPUTS):
            total += tl.load(weights + row * INPUTS + column) * inputs[column]
        outputs = outputs + (total,)
    return outputs


@triton.jit
def rectified(inputs, COUNT: tl.constexpr):
    outputs = ()
    for k in tl.static_range(COUNT):
        outputs = outputs + (tl.maximum(inputs[k], 0.0),)
    return outputs


@triton.jit
def activations(inputs, weights, WIDTHS: tl.constexpr, LAYERS: tl.constexpr):
    """What enters each layer of Φ, and behind it what Φ yields."""
    found, offset = (inputs,), 0
    for layer in tl.static_range(LAYERS):
        outputs = linear(
            found[layer], weights + offset,
            tl.constexpr(WIDTHS[layer]), tl.constexpr(WIDTHS[layer + 1]),
        )  # fmt: skip
        offset += WIDTHS[layer] * WIDTHS[layer + 1]
        if layer < LAYERS - 1:
            outputs = rectified(outputs, tl.constexpr(WIDTHS[layer + 1]))
        found = found + (outputs,)
    return found


@triton.jit
def softmax(logits, is_expert):
    """Over the experts; 0 where there is none."""
    logits = tl.where(is_expert, logits, float("-inf"))
    powers = tl.exp(logits - tl.max(logits, axis=0)[None, :])
    return powers / tl.sum(powers, axis=0)[None, :]


@triton.jit
def shown(rgb, alpha, background, mask, channel: tl.constexpr):
    """A channel of the experts' images over their backgrounds."""
    behind = tl.load(background + channel)
    return tl.load(rgb + channel, mask=mask, other=0.0) + (1.0 - alpha) * behind


@triton.jit
def corrected(logits, rendered, mask, own_bias, slopes, CORRECTION: tl.constexpr):
    """`LogitCorrection`, from its rasterised features, of which there are none without one."""
    if CORRECTION > 0:
        opacity = tl.load(rendered, mask=mask, other=0.0)
        bias = tl.load(own_bias, mask=mask, other=0.0)
        total = tl.load(slopes) * logits + tl.load(slopes + 1) * opacity + bias
        for k in tl.static_range(1, CORRECTION):
            evidence = tl.load(rendered + k, mask=mask, other=0.0)
            total += tl.load(slopes + 1 + k) * evidence / tl.maximum(opacity, MIN_OPACITY)
        logits = total
    return logits


@triton.jit
def logits_of(
    features, weights, bias, slopes, pixel, expert, mask, ray, feature_expert, feature_pixel,
    REFINED: tl.constexpr, CORRECTION: tl.constexpr, WIDTHS: tl.constexpr, LAYERS: tl.constexpr,
):  # fmt: skip
    """Logits (Eq. 7) of a block of pixels, corrected if that was learned."""
    own = features + expert * feature_expert + pixel[None, :] * feature_pixel
    inputs = phi_inputs(own, mask, ray, REFINED)
    refined = activations(inputs, weights, WIDTHS, LAYERS)[LAYERS][0]
    logits = tl.load(own, mask=mask, other=0.0) + refined
    # As many as the mask has, the same for all pixels.
    own_bias = bias + expert + 0 * pixel[None, :]
    return corrected(logits, own + 1 + REFINED, mask, own_bias, slopes, CORRECTION)


@triton.jit
def blend_block(
    logits, rgb, alphas, depths, backgrounds, out_rgb, out_gates, out_depth, out_accumulation,
    pixels, pixel, expert, rgb_expert, rgb_pixel, temperature, uniform, EXPERTS: tl.constexpr,
):  # fmt: skip
    """`blend`, and the mean depth and accumulated opacity, of a block of pixels."""
    is_pixel, is_expert = pixel < pixels, expert < EXPERTS
    mask = is_expert & is_pixel[None, :]
    gates = (1.0 - uniform) * softmax(logits / temperature, is_expert) + uniform / EXPERTS
    gates = tl.where(is_expert, gates, 0.0)
    flat = expert * pixels + pixel[None, :]
    tl.store(out_gates + flat, gates, mask=mask)
    alpha = tl.load(alphas + flat, mask=mask, other=0.0)
    image, behind = rgb + expert * rgb_expert + pixel[None, :] * rgb_pixel, backgrounds + 3 * expert
    for channel in tl.static_range(3):
        one = shown(image, alpha, tl.where(is_expert, behind, backgrounds), mask, channel)
        tl.store(out_rgb + 3 * pixel + channel, tl.sum(gates * one, axis=0), mask=is_pixel)
    seen = gates * alpha
    accumulation = tl.sum(seen, axis=0)
    depth = tl.sum(seen * tl.load(depths + flat, mask=mask, other=0.0), axis=0)
    tl.store(out_accumulation + pixel, accumulation, mask=is_pixel)
    depth = depth / tl.maximum(accumulation, MIN_ACCUMULATION)
    tl.store(out_depth + pixel, depth, mask=is_pixel)


@triton.jit
def forward_kernel(
    rgb, alphas, depths, features, weights, bias, slopes, backgrounds,
    intrinsics, viewmat, center, extent, out_rgb, out_gates, out_depth, out_accumulation,
    pixels, width, rgb_expert, rgb_pixel, feature_expert, feature_pixel, temperature, uniform,
    EXPERTS: tl.constexpr, PADDED: tl.constexpr, REFINED: tl.constexpr, CORRECTION: tl.constexpr,
    WIDTHS: tl.constexpr, LAYERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Logits (Eq. 7) and everything that is blended by their gates (Eq. 8)."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    expert = tl.arange(0, PADDED).to(tl.int64)[:, None]
    mask = (expert < EXPERTS) & (pixel < pixels)[None, :]
    ray = rays(pixel, width, intrinsics, viewmat, center, extent)
    logits = logits_of(
        features, weights, bias, slopes, pixel, expert, mask, ray, feature_expert, feature_pixel,
        REFINED, CORRECTION, WIDTHS, LAYERS,
    )  # fmt: skip
    blend_block(
        logits, rgb, alphas, depths, backgrounds, out_rgb, out_gates, out_depth, out_accumulation,
        pixels, pixel, expert, rgb_expert, rgb_pixel, temperature, uniform, EXPERTS,
    )  # fmt: skip


@triton.jit
def logits_kernel(
    features, weights, bias, slopes, intrinsics, viewmat, center, extent, out_logits,
    pixels, width, feature_expert, feature_pixel,
    EXPERTS: tl.constexpr, PADDED: tl.constexpr, REFINED: tl.constexpr, CORRECTION: tl.constexpr,
    WIDTHS: tl.constexpr, LAYERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Logits (Eq. 7) alone, where something else comes between them and the gates."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    expert = tl.arange(0, PADDED).to(tl.int64)[:, None]
    mask = (expert < EXPERTS) & (pixel < pixels)[None, :]
    ray = rays(pixel, width, intrinsics, viewmat, center, extent)
    logits = logits_of(
        features, weights, bias, slopes, pixel, expert, mask, ray, feature_expert, feature_pixel,
        REFINED, CORRECTION, WIDTHS, LAYERS,
    )  # fmt: skip
    tl.store(out_logits + expert * pixels + pixel[None, :], logits, mask=mask)


@triton.jit
def blend_kernel(
    logits, rgb, alphas, depths, backgrounds, out_rgb, out_gates, out_depth, out_accumulation,
    pixels, rgb_expert, rgb_pixel, temperature, uniform,
    EXPERTS: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Everything that is blended by the gates (Eq. 8) of given logits."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    expert = tl.arange(0, PADDED).to(tl.int64)[:, None]
    mask = (expert < EXPERTS) & (pixel < pixels)[None, :]
    given = tl.load(logits + expert * pixels + pixel[None, :], mask=mask, other=0.0)
    blend_block(
        given, rgb, alphas, depths, backgrounds, out_rgb, out_gates, out_depth, out_accumulation,
        pixels, pixel, expert, rgb_expert, rgb_pixel, temperature, uniform, EXPERTS,
    )  # fmt: skip


@triton.jit
def phi_gradients(
    found, upper, weights, partials, WIDTHS: tl.constexpr, LAYERS: tl.constexpr, END: tl.constexpr
):
    """Gradients in what enters Φ; those in its weights, summed over the block, go to `partials`."""
    offset = END
    for layer in tl.static_range(LAYERS - 1, -1, -1):
        offset -= WIDTHS[layer] * WIDTHS[layer + 1]
        lower = ()
        for column in tl.static_range(tl.constexpr(WIDTHS[layer])):
            value = found[layer][column]
            total = 0.0 * value
            for row in tl.static_range(tl.constexpr(WIDTHS[layer + 1])):
                at = offset + row * WIDTHS[layer] + column
                total += tl.load(weights + at) * upper[row]
                tl.store(partials + at, tl.sum(tl.sum(upper[row] * value, axis=1), axis=0))
            if layer > 0:
                total = tl.where(value > 0.0, total, 0.0)
            lower = lower + (total,)
        upper = lower
    return upper


@triton.jit
def backward_kernel(
    rgb, alphas, features, weights, backgrounds, intrinsics, viewmat, center, extent,
    rgb_gradient, gate_gradient, out_features, out_partials, out_rgb, out_alphas,
    pixels, width, rgb_expert, rgb_pixel, feature_expert, feature_pixel, temperature, uniform,
    EXPERTS: tl.constexpr, PADDED: tl.constexpr, REFINED: tl.constexpr,
    WIDTHS: tl.constexpr, LAYERS: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
    OF_IMAGES: tl.constexpr,
):  # fmt: skip
    """Gradients in features and, with OF_IMAGES, in colours and opacities, of a block of pixels;
    and what the block adds to those in the COUNT weights of Φ."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    expert = tl.arange(0, PADDED).to(tl.int64)[:, None]
    is_pixel, is_expert = pixel < pixels, expert < EXPERTS
    mask = is_expert & is_pixel[None, :]
    # As in the forward pass.
    own = features + expert * feature_expert + pixel[None, :] * feature_pixel
    ray = rays(pixel, width, intrinsics, viewmat, center, extent)
    found = activations(phi_inputs(own, mask, ray, REFINED), weights, WIDTHS, LAYERS)
    logits = (tl.load(own, mask=mask, other=0.0) + found[LAYERS][0]) / temperature
    plain = softmax(logits, is_expert)
    gates = (1.0 - uniform) * plain + uniform / EXPERTS
    # From the mixture's colour to gates and images.
    flat = expert * pixels + pixel[None, :]
    alpha = tl.load(alphas + flat, mask=mask, other=0.0)
    image, behind = rgb + expert * rgb_expert + pixel[None, :] * rgb_pixel, backgrounds + 3 * expert
    behind = tl.where(is_expert, behind, backgrounds)
    of_gates = tl.load(gate_gradient + flat, mask=mask, other=0.0)
    of_alpha = 0.0 * alpha
    for channel in tl.static_range(3):
        upper = tl.load(rgb_gradient + 3 * pixel + channel, mask=is_pixel, other=0.0)[None, :]
        of_gates += upper * shown(image, alpha, behind, mask, channel)
        if OF_IMAGES:
            tl.store(out_rgb + 3 * flat + channel, gates * upper, mask=mask)
            of_alpha -= gates * upper * tl.load(behind + channel)
    if OF_IMAGES:
        tl.store(out_alphas + flat, of_alpha, mask=mask)
    # From gates to logits, and through Φ.
    of_gates = tl.where(mask, (1.0 - uniform) * of_gates, 0.0)
    mean = tl.sum(plain * of_gates, axis=0)[None, :]
    of_logits = tl.where(mask, plain * (of_gates - mean) / temperature, 0.0)
    partials = out_partials + tl.program_id(0) * COUNT
    of_inputs = phi_gradients(found, (of_logits,), weights, partials, WIDTHS, LAYERS, COUNT)
    out = out_features + flat * (1 + REFINED)
    tl.store(out, of_logits, mask=mask)
    for k in tl.static_range(REFINED):
        tl.store(out + 1 + k, of_inputs[k], mask=mask)
