"""Parameters with one row per Gaussian, whose number changes while training and on loading."""

from typing import Any

import torch
from torch import Tensor, nn


class GaussianParams(nn.ParameterDict):
    """Named parameters that share their first axis; loading adopts the stored number of rows.

    Rows are resized in place, so that an optimiser built before the load keeps pointing at the
    parameters that are trained.
    """

    @property
    def num_rows(self) -> int:
        """Rows that all parameters have."""
        return next(iter(self.values())).shape[0]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name, parameter in self.items():
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.shape[1:] == parameter.shape[1:]:
                parameter.data = torch.empty_like(parameter.data[:1]).new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def select_(self, keep: Tensor) -> None:
        """Keep the rows that `keep` marks (mask) or lists (indices)."""
        for parameter in self.values():
            parameter.data = parameter.data[keep]
            parameter.grad = None
