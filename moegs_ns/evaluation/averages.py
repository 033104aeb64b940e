"""Means of figures over images, of which some may lack a figure."""

from collections.abc import Mapping, Sequence

import torch


def averages(figures: Sequence[Mapping[str, float]], *, with_spread: bool) -> dict[str, float]:
    """The mean of each figure over the images that have it, and how many images there are.

    A view without moving pixels has no `psnr_dynamic`, for example: of a figure that only some
    images have, `<name>_images` tells how many. With the spread there is `<name>_std` as well, 0
    for a single image.
    """
    names = dict.fromkeys(name for one in figures for name in one)
    result: dict[str, float] = {}
    for name in names:
        values = torch.tensor([one[name] for one in figures if name in one], dtype=torch.float64)
        result[name] = float(values.mean())
        if with_spread:
            result[f"{name}_std"] = float(values.std()) if len(values) > 1 else 0.0
        if len(values) < len(figures):
            result[f"{name}_images"] = len(values)
    return result | {"images": len(figures)}
