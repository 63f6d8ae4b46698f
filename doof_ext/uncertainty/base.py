"""The seam between DOOF's stages and an uncertainty estimator."""

from dataclasses import dataclass

import torch

from doof_ext.errors import UserError


@dataclass
class EnsemblePrediction:
    """What E members predict for B pairs: mean and std [E, B, O+1], the last column the reward."""

    mean: torch.Tensor  # of the next observation and the reward
    std: torch.Tensor
    elites: torch.Tensor  # indices of the members that the model's steps are drawn from

    def sample_next_obs(self, num_samples):
        """Draws of each elite's next observation: [num_samples, elites, B, O]."""
        mean, std = self.mean[self.elites], self.std[self.elites]
        return torch.stack([(mean + torch.randn_like(std) * std)[..., :-1] for _ in range(num_samples)])


class UncertaintyEstimator:
    """u(s, a) ≥ 0. A subclass says what it ``needs`` and gives :meth:`u`; all else has a default.

    ``needs`` names what :meth:`u` gets beside the pair: "prediction", an :class:`EnsemblePrediction`; "policy", a
    policy with ``actforward(obs)`` and ``target_q(obs, actions)``.
    """

    needs: tuple[str, ...] = ()
    name = ""  # as registered
    _checked = False

    @classmethod
    def from_config(cls, config):
        """An estimator with a run's settings (:class:`doof_ext.config.Config`)."""
        return cls()

    def u(self, observations, actions, **needed):
        """u [B, 1] of observations [B, O], actions [B, A]; ``needed`` has what ``needs`` names, and no more."""
        raise NotImplementedError

    def fit(self, observations, actions):
        """Learns from [N, O], [N, A]: from D after stage 1's dynamics training, from D ∪ D_on after stage 4."""

    def refit(self, observations, actions):
        """:meth:`fit`; the next answer is checked as the first one was."""
        self.fit(observations, actions)
        self._checked = False

    def state_dict(self) -> dict:
        """Tensors by name: what :meth:`fit` learned, saved with the run."""
        return {}

    def load_state_dict(self, state):
        """Takes what :meth:`state_dict` gave."""

    @torch.no_grad()
    def __call__(self, observations, actions, dynamics, policy=None, prediction=None):
        """u [B, 1], of a ``prediction`` for these pairs where there is one already; the first answer is checked.

        Raises: UserError where the estimator needs critics and there are none, or answers with the wrong shape, with
        what is not finite, or with what is negative.
        """
        needed = {}
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

    def _check(self, u, rows):
        def refuse(what):
            raise UserError(f"uncertainty {self.name!r} gives {what}; u must be a finite, non-negative [B, 1]")

        if not isinstance(u, torch.Tensor) or u.shape != (rows, 1):
            refuse(f"{list(getattr(u, 'shape', [])) or type(u).__name__} for {rows} pairs")
        if not u.isfinite().all():
            refuse("values that are not finite")
        if (u < 0).any():
            refuse("negative values")
