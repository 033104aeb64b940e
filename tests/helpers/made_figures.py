"""Held-out images that are made up, for figures."""

from collections.abc import Sequence

import torch

from moegs_ns.paper.figures.shown import SceneImages, Shown


def made_shown(
    images: torch.Tensor, truth: torch.Tensor, *, frame: int = 0, names: Sequence[str] = ()
) -> Shown:
    """An image of camera 7 by models that are called `a`, `b` and so on; all of it moves."""
    everywhere = torch.ones(truth.shape[:2], dtype=torch.bool)
    return Shown(
        scene="made",
        camera=7,
        frame=frame,
        names=tuple(names or "abcdefgh"[: len(images)]),
        truth=truth,
        images=images,
        is_moving=everywhere,
        is_counted=everywhere,
    )


class MadeImages(SceneImages):
    """Images of one camera without any run."""

    def __init__(self, images: Sequence[Shown]) -> None:
        object.__setattr__(self, "scene", "made")
        object.__setattr__(self, "made", images)

    def __len__(self) -> int:
        return len(self.made)  # pyright: ignore

    @property
    def cameras(self) -> list[int]:
        return [shown.camera for shown in self.made]  # pyright: ignore

    @property
    def frames(self) -> list[int]:
        return [shown.frame for shown in self.made]  # pyright: ignore

    def shown(self, index: int) -> Shown:
        return self.made[index]  # pyright: ignore
