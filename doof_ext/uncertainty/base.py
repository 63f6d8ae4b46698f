"""The interface between DOOF's stages and an uncertainty estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from doof_ext.errors import UserError
from doof_ext.uncertainty.settings import EstimatorSettings

if TYPE_CHECKING:
    from doof_ext.learning.dynamics import DOOFDynamics


@dataclass
class EnsemblePrediction:
    """What E members predict for B pairs: mean and std [E, B, O+1], the last column the reward."""

    mean: torch.Tensor  # of the next observation and the reward
    std: torch.Tensor
    elites: torch.Tensor  # indices of the members that the model's steps are drawn from

    def sample_next_obs(self, num_samples: int) -> torch.Tensor:
        """Draws of each elite's next observation: [num_samples, elites, B, O]."""
        mean, std = self.mean[self.elites], self.std[self.elites]
        return torch.stack([(mean + torch.randn_like(std) * std)[..., :-1] for _ in range(num_samples)])


class UncertaintyEstimator:
    """u(s, a) ≥ 0. A subclass declares what it ``needs`` and implements :meth:`u`; all else has a default.

    ``needs`` names what :meth:`u` receives beside the pair: "prediction", an :class:`EnsemblePrediction`; "policy", a
    policy with ``actforward(obs)`` and ``target_q(obs, actions)``.
    """

    needs: tuple[str, ...] = ()
    name = ""  # as registered
    _checked = False

    @classmethod
    def from_config(cls, config: EstimatorSettings) -> UncertaintyEstimator:
        """An estimator with a run's settings."""
        return cls()

    def u(self, observations: torch.Tensor, actions: torch.Tensor, *_: Any, **needed: Any) -> torch.Tensor:
        """The uncertainty of B pairs.

        Args:
            observations: [B, O].
            actions: [B, A].
            needed: What ``needs`` names, and no more; a subclass names its own (``*_`` makes checkers accept that).

        Returns:
            u [B, 1].
        """
        raise NotImplementedError

    def fit(self, observations: torch.Tensor, actions: torch.Tensor) -> None:
        """Learns from [N, O], [N, A]: from D after stage 1's dynamics training, from D ∪ D_on after stage 4."""

    def refit(self, observations: torch.Tensor, actions: torch.Tensor) -> None:
        """Calls :meth:`fit`; the next output is checked as the first one was."""
        self.fit(observations, actions)
        self._checked = False

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Tensors by name: what :meth:`fit` learned, saved with the run."""
        return {}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what :meth:`state_dict` returned."""

    @torch.no_grad()
    def __call__(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        dynamics: DOOFDynamics,
        policy: Any = None,
        prediction: EnsemblePrediction | None = None,
    ) -> torch.Tensor:
        """The uncertainty of B pairs; the first output is checked.

        Args:
            observations: [B, O].
            actions: [B, A].
            dynamics: The ensemble, to predict with where the estimator needs it.
            policy: The policy, for an estimator that needs its target critics.
            prediction: The ensemble's prediction for these pairs, where there is one already.

        Returns:
            u [B, 1].

        Raises:
            UserError: The estimator needs critics and there are none, or its output has the wrong shape, is not finite
                or is negative.
        """
        needed: dict[str, Any] = {}
        if "prediction" in self.needs:
            needed["prediction"] = dynamics.predict(observations, actions) if prediction is None else prediction
        if "policy" in self.needs:
            if not hasattr(policy, "target_q"):
                raise UserError(f"uncertainty {self.name!r} needs the target critics of a policy; there is none here")
            needed["policy"] = policy
        u = self.u(observations, actions, **needed)
        if not self._checked:
            self._check(u, len(observations))
            self._checked = True
        return u

    def _check(self, u: torch.Tensor, rows: int) -> None:
        def refuse(what: str) -> NoReturn:
            raise UserError(f"uncertainty {self.name!r} gives {what}; u must be a finite, non-negative [B, 1]")

        if not isinstance(u, torch.Tensor) or u.shape != (rows, 1):
            refuse(f"{list(getattr(u, 'shape', [])) or type(u).__name__} for {rows} pairs")
        if not u.isfinite().all():
            refuse("values that are not finite")
        if (u < 0).any():
            refuse("negative values")
