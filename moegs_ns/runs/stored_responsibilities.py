"""Responsibilities that were measured once and stay with a mixture's run."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moegs_ns.atomic_files import replace_synced, temporary_folder
from moegs_ns.runs.checkpoint import MODEL_PREFIX, Run, load_checkpoint
from moegs_ns.runs.compact import is_compact

MODULE = "responsibilities"
"""Name of the module in the model of a mixture."""


class StoredResponsibilities(nn.Module):
    """Responsibilities (Eq. 14), one per Gaussian of each expert; empty until they are stored.

    A checkpoint has them only then, and checkpoints without them load as well.
    """

    location: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Float[Tensor, "_"]] = []
        # Checkpoints are loaded on the CPU, while the model may be on a GPU.
        self.register_buffer("location", torch.empty(0), persistent=False)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "StoredResponsibilities":
        self.values = [fn(value) for value in self.values]
        return super()._apply(fn, recurse)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        for index, value in enumerate(self.values):
            destination[f"{prefix}{index}"] = value

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        names = sorted((name for name in state_dict if name.startswith(prefix)), key=len)
        device = self.location.device
        self.values = [state_dict[f"{prefix}{index}"].to(device) for index in range(len(names))]


def store_responsibilities(run: Run, responsibilities: Sequence[Float[Tensor, "_"]]) -> None:
    """Store the responsibilities of a mixture in the newest checkpoint of its run.

    Raises:
        OSError: they cannot be written; the checkpoint is as it was.
        ValueError: the run is a compact one.
    """
    checkpoint = load_checkpoint(run.checkpoint_path)
    if is_compact(checkpoint["pipeline"]):
        raise ValueError(
            f"Expected an ordinary run to keep responsibilities in, but {run.config_path} is a "
            "compact one; keep them in the run that it was made of, then export that again."
        )
    for index, values in enumerate(responsibilities):
        checkpoint["pipeline"][f"{MODEL_PREFIX}{MODULE}.{index}"] = values.float().cpu()
    # Not in the folder of checkpoints, where nerfstudio reads a step from every file name.
    try:
        with temporary_folder(run.config_path.parent) as temporary:
            written = temporary / run.checkpoint_path.name
            torch.save(checkpoint, written)
            replace_synced(written, run.checkpoint_path)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"Responsibilities cannot be stored in {run.checkpoint_path} "
            f"({str(error).splitlines()[0]}), which is as it was; make room, or leave --keep out."
        ) from error
