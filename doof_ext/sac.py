"""A fast actor-critic step for the kit's policies: the same losses and updates, forward and backward written out.

Nothing is recorded for autograd; a network's parameters are one tensor, and so is each of its optimiser's moments.
"""

import copy
import math

import torch
from torch import nn

from doof_ext.errors import DivergenceError

_threshold_backward = torch.ops.aten.threshold_backward


class NetworkStack:
    """C perceptrons of one shape with ReLU between their layers, as one batched network on flat parameters.

    The modules' parameters become views of one tensor, so that ``state_dict()`` and all else of the kit go on as
    before while a layer of all C networks is one batched product. ``gradient`` has the gradient of every parameter
    after :meth:`backward`, in the same order.
    """

    def __init__(self, layers):
        """``layers``: for each depth, C tuples of nn.Linear whose outputs stand side by side."""
        self.count = len(layers[0])
        shapes = []
        for peers in layers:
            outputs = sum(linear.out_features for linear in peers[0])
            shapes += [(self.count, outputs, peers[0][0].in_features), (self.count, 1, outputs)]
        sizes = [math.prod(shape) for shape in shapes]
        device = layers[0][0][0].weight.device
        self.flat, self.gradient = torch.empty(sum(sizes), device=device), torch.empty(sum(sizes), device=device)
        views, gradients = (
            [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
            for flat in (self.flat, self.gradient)
        )
        self.weights, self.biases = views[0::2], views[1::2]
        self._weight_gradients, self._bias_gradients = gradients[0::2], gradients[1::2]
        self._views = []  # the modules' parameters and where they are in the flat tensor
        for peers, weight, bias in zip(layers, self.weights, self.biases, strict=True):
            for index, heads in enumerate(peers):
                first = 0
                for linear in heads:
                    rows = slice(first, first + linear.out_features)
                    self._views += [(linear.weight, weight[index, rows]), (linear.bias, bias[index, 0, rows])]
                    first = rows.stop
        for parameter, view in self._views:
            view.copy_(parameter.detach())
        self.bind()
        self.flat.grad = self.gradient

    def bind(self):
        """Has the modules' parameters be views of the flat tensor; again after they were copied."""
        for parameter, view in self._views:
            parameter.data = view

    @classmethod
    def of_critics(cls, critics):
        """The kit's critics; raises ValueError for what is no ReLU network."""
        layers = [_linears(critic) for critic in critics]
        return cls([[(linear,) for linear in peers] for peers in zip(*layers, strict=True)])

    @classmethod
    def of_actor(cls, actor):
        """The kit's actor: its backbone, then mean and log standard deviation side by side; ValueError as above."""
        *hidden, mean, log_std = _linears(actor)
        head = actor.dist_net
        if mean is not head.mu or log_std is not getattr(head, "sigma", None) or not head._unbounded or head._max != 1:
            raise ValueError(
                "DOOF's policies need an actor as the kit's runners build it: unbounded, with its own sigma"
            )
        return cls([[(linear,)] for linear in hidden] + [[(mean, log_std)]])

    def forward(self, x):
        """x [B, inputs] → what each layer gave, the input first and the output [C, B, outputs] last."""
        values = [x.expand(self.count, -1, -1)]
        last = len(self.weights) - 1
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, values[-1], weight.transpose(1, 2))
            values.append(x if depth == last else x.relu_())
        return values

    def __call__(self, *inputs):
        """inputs [B, ·], joined → [C, B, outputs]."""
        return self.forward(torch.cat(inputs, dim=1))[-1]

    def backward(self, values, gradient):
        """Fills ``self.gradient`` from the layers' values and the loss's gradient in the output [C, B, outputs]."""
        for depth in reversed(range(len(self.weights))):
            torch.bmm(gradient.transpose(1, 2), values[depth], out=self._weight_gradients[depth])
            torch.sum(gradient, 1, keepdim=True, out=self._bias_gradients[depth])
            if depth:
                gradient = self._through(depth, gradient, values)

    def input_gradient(self, values, gradient, columns):
        """The loss's gradient in ``columns`` (a slice) of the input, summed over the networks: [B, columns]."""
        for depth in reversed(range(1, len(self.weights))):
            gradient = self._through(depth, gradient, values)
        return torch.bmm(gradient, self.weights[0][:, :, columns]).sum(0)

    def _through(self, depth, gradient, values):
        gradient = torch.bmm(gradient, self.weights[depth])
        return _threshold_backward.grad_input(gradient, values[depth], 0, grad_input=gradient)


def _linears(network):
    """The linear layers of a network in the order they are applied."""
    modules = [module for module in network.modules() if not list(module.children())]
    if not all(isinstance(module, nn.Linear | nn.ReLU) for module in modules):
        raise ValueError("DOOF's policies need networks of linear layers with ReLU, as the kit's runners build them")
    return [module for module in modules if isinstance(module, nn.Linear)]


def _adopt(optimizer, parameter):
    """Has a fresh Adam work on one tensor; it stays the object that learning-rate schedules know."""
    (group,) = optimizer.param_groups
    group.update(params=[parameter], fused=True, foreach=False)


class FastActorCritic:
    """Mixed into a kit policy: what the fast steps of SAC and MOBILE share.

    Same equations (Haarnoja et al. 2018) and same draws from torch's generator as the kit's steps. Losses stay tensors
    on the device; the caller reads them once an epoch.
    """

    def _stack(self, critics, targets, critic_lr):
        self._actor = NetworkStack.of_actor(self.actor)
        self._critics, self._critics_old = NetworkStack.of_critics(critics), NetworkStack.of_critics(targets)
        self._critics_optim = torch.optim.Adam([self._critics.flat], lr=critic_lr, fused=True)
        _adopt(self.actor_optim, self._actor.flat)
        if self._is_auto_alpha:
            _adopt(self.alpha_optim, self._log_alpha)
            self._log_alpha.grad = torch.zeros_like(self._log_alpha)

    def __deepcopy__(self, memo):
        clone = memo[id(self)] = type(self).__new__(type(self))
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        for stack in (clone._actor, clone._critics, clone._critics_old):
            stack.bind()  # parameters are copied one by one, without the tensor they are views of
        return clone

    def training_state(self):
        """All that learning goes on from: networks with their targets, every optimiser, the temperature."""
        return {"networks": self.state_dict(), "log_alpha": self._log_alpha.detach() if self._is_auto_alpha else None,
                **{name: optim.state_dict() for name, optim in self._optims().items()}}  # fmt: skip

    @torch.no_grad()
    def load_training_state(self, state):
        """Takes what :meth:`training_state` gave."""
        self.load_state_dict(state["networks"])
        for name, optim in self._optims().items():
            optim.load_state_dict(state[name])
        if self._is_auto_alpha:
            self._log_alpha.copy_(state["log_alpha"])
            self._alpha = self._log_alpha.detach().exp().clamp(0.0, 1.0)

    def _optims(self):
        optims = {"actor_optim": self.actor_optim, "critics_optim": self._critics_optim}
        return optims | ({"alpha_optim": self.alpha_optim} if self._is_auto_alpha else {})

    def check_weights(self, where):
        """Raises DivergenceError, naming the network and ``where`` it was, for a weight that is not finite."""
        stacks = {"actor": self._actor, "critic": self._critics, "target critic": self._critics_old}
        for name, stack in stacks.items():
            if not stack.flat.isfinite().all():
                raise DivergenceError(f"a weight of the {name} is not finite in {where}")

    def target_q(self, obss, actions):
        """The least target critic's value [B, 1] of obss [B, O], actions [B, A]."""
        return self._critics_old(obss, actions).amin(0)

    def _sample(self, output):
        """From the actor's output [1, B, 2·A]: actions [B, A] in (-1, 1), log density [B, 1], what made them."""
        mean, log_std = output[0].chunk(2, dim=-1)
        head = self.actor.dist_net
        bounded = log_std.clamp(head._sigma_min, head._sigma_max)
        noise = torch.randn_like(mean)
        spread = bounded.exp().mul_(noise)
        squashed = (mean + spread).tanh_()
        slope = 1 - squashed.square()
        density = (slope + 1e-6).log_().add_(bounded).add_(noise.square_(), alpha=0.5)
        log_probs = density.add_(0.5 * math.log(2 * math.pi)).sum(-1, keepdim=True).neg_()
        return squashed, log_probs, (bounded == log_std, spread, slope)

    def _critics_step(self, obss, actions, target, weight):
        """One step of the critics towards target [B, 1]: minus ``weight`` · Σ (Q − target)²; returns each one's mean
        squared error [C]."""
        values = self._critics.forward(torch.cat([obss, actions], dim=1))
        error = values[-1] - target
        losses = error.square().mean(dim=(1, 2))
        self._critics.backward(values, error.mul_(2 * weight))
        self._critics_optim.step()
        return losses

    def _actor_step(self, obss, hidden=None):
        """One step of the actor on obss [B, O], then of the temperature; returns a dict of scalar tensors.

        ``hidden`` is what the actor's layers give for obss, where that is known. Written out: the gradient of
        α·log π(a|s) − min Q(s, a), with a = tanh(μ + σ·ε), in the actor's output.
        """
        rows = len(obss)
        hidden = self._actor.forward(obss) if hidden is None else hidden
        squashed, log_probs, (free, spread, slope) = self._sample(hidden[-1])
        values = self._critics.forward(torch.cat([obss, self._scale(squashed)], dim=1))
        q = values[-1].amin(0)
        chosen = (values[-1] == q).float()
        chosen /= chosen.sum(0)
        of_action = self._critics.input_gradient(values, chosen.div_(-rows), slice(obss.shape[1], None))
        of_raw = of_action * self._scale_slope * slope
        of_raw += 2 * self._alpha / rows * squashed * slope / (slope + 1e-6)
        of_log_std = torch.where(free, of_raw * spread - self._alpha / rows, 0.0)
        self._actor.backward(hidden, torch.cat([of_raw, of_log_std], dim=1)[None])
        self.actor_optim.step()
        losses = {"loss/actor": (self._alpha * log_probs - q).mean()}
        if self._is_auto_alpha:
            excess = log_probs.mean() + self._target_entropy
            losses["loss/alpha"] = -(self._log_alpha.detach() * excess).squeeze()
            self._log_alpha.grad.copy_(-excess)
            self.alpha_optim.step()
            self._alpha = self._log_alpha.detach().exp().clamp(0.0, 1.0)
            losses["alpha"] = self._alpha
        return losses

    def _targets_step(self):
        self._critics_old.flat.lerp_(self._critics.flat, self._tau)

    def _sample_actions(self, obss):
        squashed, log_probs, _ = self._sample(self._actor.forward(obss)[-1])
        return self._scale(squashed), log_probs


class FastSAC(FastActorCritic):
    """Mixed into a kit policy with ``critic1`` and ``critic2``: a fast SAC step."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        lr = self.critic1_optim.param_groups[0]["lr"]
        self._stack([self.critic1, self.critic2], [self.critic1_old, self.critic2_old], lr)

    @torch.no_grad()
    def sac_step(self, batch):
        """One step of critics, actor, temperature and targets on B transitions; returns a dict of scalar tensors."""
        obss, actions, next_obss = batch["observations"], batch["actions"], batch["next_observations"]
        rows = len(obss)
        hidden = self._actor.forward(torch.cat([next_obss, obss]))  # one product for both: the actor learns last
        squashed, next_log_probs, _ = self._sample(hidden[-1][:, :rows])
        next_actions = self._scale(squashed)
        next_q = self.target_q(next_obss, next_actions) - self._alpha * next_log_probs
        target = batch["rewards"] + self._gamma * (1 - batch["terminals"]) * next_q
        critic_losses = self._critics_step(obss, actions, target, weight=1 / rows)
        losses = self._actor_step(obss, [value[:, rows:] for value in hidden])
        self._targets_step()
        return losses | {"loss/critic1": critic_losses[0], "loss/critic2": critic_losses[1]}


class MeanLosses:
    """Means of scalar tensors over an epoch, summed on the device and read once."""

    def __init__(self):
        self._sums, self._count = {}, 0

    def state_dict(self):
        """The sums so far, and of how many steps."""
        return {"sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state):
        """Takes what :meth:`state_dict` gave."""
        self._sums, self._count = dict(state["sums"]), state["count"]

    def add(self, losses):
        """Adds one step's dict of scalars."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def read(self, where):
        """The means as floats, and starts anew; raises DivergenceError naming the first that is not finite and
        ``where`` it was."""
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        for name, value in means.items():
            if not abs(value) < float("inf"):
                raise DivergenceError(f"{name} is {value} in {where}")
        return means
