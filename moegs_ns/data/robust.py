"""Spreads that a few wild values do not change."""

import numpy as np
from jaxtyping import Float

NORMAL = 1.4826
"""Standard deviation of normal noise over the median of its absolute values."""


def deviation(values: Float[np.ndarray, "*s N"]) -> Float[np.ndarray, "*s 1"]:
    """Standard deviation of each row as its middle half tells it; NaN is left out."""
    middle = np.nanmedian(values, axis=-1, keepdims=True)
    return NORMAL * np.nanmedian(np.abs(values - middle), axis=-1, keepdims=True)
