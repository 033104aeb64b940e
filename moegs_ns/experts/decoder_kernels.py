"""Triton kernel of the networks that decode the deformation of Gaussians, without gradients.

A program takes a block of Gaussians through everything: the trunks of all decoders, both layers of
all heads, and the sum over decoders, with products in TF32. What lies between the layers stays in
registers; in memory it would be a quarter of a gigabyte for a hundred thousand Gaussians.

The equations are those of `deformation_heads.plain_offsets`, the reference of the tests.
"""

# Triton knows no unpacking into tuples.
# ruff: noqa: RUF005
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false

import triton
import triton.language as tl


@triton.jit
def layer(
    inputs, weights, biases, outputs: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """A linear layer of a block [rows, COLUMNS]; its weights are [outputs, INPUTS] in memory.
    `OUTPUTS` and `COLUMNS` are the powers of two that hold the outputs and the inputs."""
    row, column = tl.arange(0, OUTPUTS), tl.arange(0, COLUMNS)
    there = (row[None, :] < outputs) & (column[:, None] < INPUTS)
    matrix = tl.load(weights + row[None, :] * INPUTS + column[:, None], mask=there, other=0.0)
    bias = tl.load(biases + row, mask=row < outputs, other=0.0)
    return tl.dot(inputs, matrix, input_precision="tf32") + bias[None, :]


@triton.jit
def decode_kernel(
    inputs, trunks, trunk_biases, first, first_biases, last, last_biases, scales, offsets, count,
    row_stride, column_stride, FEATURES: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
    SIZES: tl.constexpr, PADDED: tl.constexpr, HEADS: tl.constexpr, DECODERS: tl.constexpr,
    HAS_SCALES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Offsets of all heads, one after the other, each [count, size of the head].

    Layers of the same kind follow each other in memory, head by head within a decoder.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    own, feature = row < count, tl.arange(0, COLUMNS)
    here = inputs + row[:, None] * row_stride + feature[None, :] * column_stride
    x = tl.load(here, mask=own[:, None] & (feature[None, :] < FEATURES), other=0.0)
    totals = ()
    for head in tl.static_range(HEADS):
        totals = totals + (tl.zeros((BLOCK, PADDED[head]), tl.float32),)
    for _ in tl.static_range(DECODERS):
        hidden = layer(x, trunks, trunk_biases, WIDTH, WIDTH, FEATURES, COLUMNS)
        hidden, sums = tl.maximum(hidden, 0.0), ()
        for head in tl.static_range(HEADS):
            active = layer(hidden, first, first_biases, WIDTH, WIDTH, WIDTH, WIDTH)
            active = tl.maximum(active, 0.0)
            own_total = layer(
                active, last, last_biases, tl.constexpr(SIZES[head]), tl.constexpr(PADDED[head]),
                WIDTH, WIDTH,
            )  # fmt: skip
            sums = sums + (totals[head] + own_total,)
            first += WIDTH * WIDTH
            first_biases += WIDTH
            last += SIZES[head] * WIDTH
            last_biases += SIZES[head]
        totals = sums
        trunks += WIDTH * FEATURES
        trunk_biases += WIDTH
    for head in tl.static_range(HEADS):
        value = totals[head]
        if HAS_SCALES:
            value *= tl.load(scales + head)
        column = tl.arange(0, PADDED[head])
        there = offsets + row[:, None] * SIZES[head] + column[None, :]
        tl.store(there, value, mask=own[:, None] & (column[None, :] < SIZES[head]))
        offsets += count * SIZES[head]
