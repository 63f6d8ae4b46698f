"""A fast actor-critic step for the kit's policies: the same losses and updates, computed for all critics at once."""

import torch
from torch import nn

from doof_ext.errors import DivergenceError


class CriticStack:
    """The kit's critics as one batched network.

    The critics' parameters become views of stacked tensors [C, …], so that ``critic1.state_dict()`` and all else of
    the kit go on as before while a forward pass is one batched product per layer.
    """

    def __init__(self, critics):
        layers = [[module for module in critic.modules() if isinstance(module, nn.Linear)] for critic in critics]
        self.activation = next(m for m in critics[0].backbone.model if not isinstance(m, nn.Linear))
        self.weights, self.biases = [], []
        for peers in zip(*layers, strict=True):
            self.weights.append(torch.stack([layer.weight.detach() for layer in peers]).requires_grad_())
            self.biases.append(torch.stack([layer.bias.detach() for layer in peers])[:, None].requires_grad_())
            for index, layer in enumerate(peers):
                layer.weight.data = self.weights[-1].data[index]
                layer.bias.data = self.biases[-1].data[index, 0]
        self.parameters = [*self.weights, *self.biases]

    def __call__(self, obs, actions):
        """obs [B, O], actions [B, A] → all critics' values [C, B, 1]."""
        x = torch.cat([obs, actions], dim=1).expand(len(self.weights[0]), -1, -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = self.activation(torch.baddbmm(bias, x, weight.transpose(1, 2)))
        # one output: a sum of products is faster than a product with a matrix of one column
        return (x * self.weights[-1]).sum(-1, keepdim=True) + self.biases[-1]


class FastActorCritic:
    """Mixed into a kit policy: what the fast steps of SAC and MOBILE share.

    Same equations (Haarnoja et al. 2018) and same draws from torch's generator as the kit's steps. Losses stay tensors
    on the device; the caller reads them once an epoch.
    """

    def _stack_critics(self, critics, targets, lr):
        self._critics, self._critics_old = CriticStack(critics), CriticStack(targets)
        self._critics_optim = torch.optim.Adam(self._critics.parameters, lr=lr, fused=True)

    def target_q(self, obss, actions):
        """The least target critic's value [B, 1] of obss [B, O], actions [B, A]."""
        return self._critics_old(obss, actions).amin(0)

    def _critics_step(self, loss):
        self._descend(loss, self._critics_optim, self._critics.parameters)

    def _actor_step(self, obss):
        """One step of the actor on obss [B, O], then of the temperature; returns a dict of scalar tensors."""
        actions, log_probs = self.actforward(obss)
        actor_loss = (self._alpha * log_probs - self._critics(obss, actions).amin(0)).mean()
        self._descend(actor_loss, self.actor_optim, list(self.actor.parameters()))
        losses = {"loss/actor": actor_loss.detach()}
        if self._is_auto_alpha:
            alpha_loss = -(self._log_alpha * (log_probs.detach() + self._target_entropy)).mean()
            self._descend(alpha_loss, self.alpha_optim, [self._log_alpha])
            self._alpha = self._log_alpha.detach().exp().clamp(0.0, 1.0)
            losses |= {"loss/alpha": alpha_loss.detach(), "alpha": self._alpha}
        return losses

    @torch.no_grad()
    def _targets_step(self):
        torch._foreach_lerp_(self._critics_old.parameters, self._critics.parameters, self._tau)

    @staticmethod
    def _descend(loss, optimizer, parameters):
        """One optimiser step; gradients of nothing but ``parameters`` are computed."""
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # fused Adam reads a transposed gradient in the wrong order
        optimizer.step()


class FastSAC(FastActorCritic):
    """Mixed into a kit policy with ``critic1`` and ``critic2``: a fast SAC step."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        lr = self.critic1_optim.param_groups[0]["lr"]
        self._stack_critics([self.critic1, self.critic2], [self.critic1_old, self.critic2_old], lr)

    def sac_step(self, batch):
        """One step of critics, actor, temperature and targets on B transitions; returns a dict of scalar tensors."""
        obss, actions, next_obss = batch["observations"], batch["actions"], batch["next_observations"]
        with torch.no_grad():
            next_actions, next_log_probs = self.actforward(next_obss)
            next_q = self.target_q(next_obss, next_actions) - self._alpha * next_log_probs
            target = batch["rewards"] + self._gamma * (1 - batch["terminals"]) * next_q
        critic_losses = (self._critics(obss, actions) - target).square().mean(dim=(1, 2))
        self._critics_step(critic_losses.sum())
        losses = self._actor_step(obss)
        self._targets_step()
        return losses | {"loss/critic1": critic_losses[0].detach(), "loss/critic2": critic_losses[1].detach()}


class MeanLosses:
    """Means of scalar tensors over an epoch, summed on the device and read once."""

    def __init__(self):
        self._sums, self._count = {}, 0

    def add(self, losses):
        """Adds one step's dict of scalars."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def read(self, where):
        """The means as floats; raises DivergenceError naming the first that is not finite and ``where`` it was."""
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        for name, value in means.items():
            if not abs(value) < float("inf"):
                raise DivergenceError(f"{name} is {value} in {where}: training stopped, nothing was saved from it")
        return means
