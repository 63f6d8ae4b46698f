"""Cal-QL (Nakamoto et al. 2023): CQL that does not push the policy's values below what D's behaviour came to.

In CQL's conservative term max(Q(s, a), V^μ(s)) takes the place of Q(s, a) for actions of the policy (eq. 5.1), with the
return of the rest of the episode for V^μ(s).
"""

from __future__ import annotations

import torch

from doof_ext.baselines.cql import CQL
from doof_ext.config import BaselineConfig
from doof_ext.data.dataset import Dataset
from doof_ext.errors import UserError
from doof_ext.tasks import TaskSpec


class CalQL(CQL):
    """Calibrated Q-learning.

    Raises:
        UserError: D has no episode ends, so that there are no returns to bound values by.
    """

    def __init__(self, config: BaselineConfig, spec: TaskSpec, dataset: Dataset) -> None:
        if not (dataset.terminals | dataset.timeouts).any():
            raise UserError("--algo cal-ql bounds values by returns, and the data has no episode ends; use --algo cql")
        super().__init__(config, spec, dataset)

    def _bounded(self, values: torch.Tensor, returns: torch.Tensor) -> torch.Tensor:
        return torch.maximum(values, returns)
