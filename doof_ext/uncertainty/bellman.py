"""Model-Bellman inconsistency (MOBILE, Sun et al. 2023)."""

from doof_ext.uncertainty.base import UncertaintyEstimator


class ModelBellmanInconsistency(UncertaintyEstimator):
    """How much the elites disagree about the value of what comes next."""

    needs = ("prediction", "policy")

    def __init__(self, num_samples=10):
        """``num_samples``: next states per elite that its value is a mean over."""
        self.num_samples = num_samples

    @classmethod
    def from_config(cls, config):
        """With ``config.num_samples``."""
        return cls(config.num_samples)

    def u(self, observations, actions, prediction, policy):
        """std over elites of the mean over samples of the least target Q at (s', a' ~ π) → [B, 1]."""
        samples = prediction.sample_next_obs(self.num_samples)  # [S, elites, B, O]
        next_obs = samples.flatten(0, 2)
        next_actions, _ = policy.actforward(next_obs)
        return policy.target_q(next_obs, next_actions).view(*samples.shape[:-1], 1).mean(0).std(0)
