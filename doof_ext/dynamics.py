"""DOOF's ensemble dynamics: steps on tensors, trains without copies, finetunes on a mixture of D and D_on."""

import copy
import os
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from doof_ext import kit
from doof_ext.errors import DivergenceError, UserError
from doof_ext.files import load_state
from doof_ext.state import Part, RunState, Values
from doof_ext.uncertainty import make_estimator
from doof_ext.uncertainty.base import EnsemblePrediction, UncertaintyEstimator

_silu_backward = torch.ops.aten.silu_backward

BLOCK = 2000  # rows of a prediction that fit the cache together with a layer's weights


@dataclass
class ModelStep:
    """One step of the model for B rows; the reward is not penalised."""

    next_obs: torch.Tensor  # [B, O]
    reward: torch.Tensor  # [B, 1]
    terminal: torch.Tensor  # [B, 1] bool
    prediction: EnsemblePrediction  # what it was drawn from


class DOOFDynamics(kit.EnsembleDynamics):
    """The kit's EnsembleDynamics with the same results on tensors, and :meth:`finetune` (eq. 10)."""

    def __init__(self, model, optim, scaler, terminal_fn, penalty_coef=0.0, uncertainty_mode="aleatoric"):
        """The kit's arguments; ``uncertainty_mode`` is a registered name or an UncertaintyEstimator."""
        named = isinstance(uncertainty_mode, str)
        self.estimator: UncertaintyEstimator = make_estimator(uncertainty_mode) if named else uncertainty_mode
        mode = self.estimator.name.replace("ensemble-", "ensemble_")
        super().__init__(model, optim, scaler, terminal_fn, penalty_coef, mode)
        if type(model.activation).__name__ not in ("Swish", "SiLU"):
            raise ValueError(f"DOOFDynamics needs the ensemble's default activation, Swish, not {model.activation}")
        for group in optim.param_groups:
            group.update(fused=True, foreach=False)
        self.device = model.device
        self.epochs_trained = 0  # over all trainings, so that the curve of a finetuning goes on where the last ended
        self.holdout_seed = 0

    def _forward(self, inputs):
        """Scaled inputs [B, O+A] → mean and log-variance [E, B, O+1], as the kit's model.

        One member after another: what a layer gives is still in the cache when the next one takes it.
        """
        model = self.model
        layers = [*model.backbones, model.output_layer]
        outputs = inputs.new_empty(model.num_ensemble, len(inputs), layers[-1].bias.shape[-1])
        parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
        for output, *weights in zip(outputs, *parameters, strict=True):
            x = inputs
            for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
                x = functional.silu(torch.addmm(bias, x, weight), inplace=True)
            torch.addmm(weights[-1], x, weights[-2], out=output)
        mean, logvar = outputs.chunk(2, dim=-1)
        logvar = model.max_logvar - functional.softplus(model.max_logvar - logvar)
        return mean, model.min_logvar + functional.softplus(logvar - model.min_logvar)

    @torch.no_grad()
    def predict(self, obs, actions):
        """What all members predict for obs [B, O], actions [B, A]: an :class:`EnsemblePrediction`."""
        mean, logvar = self._forward(self.scaler.transform_tensor(torch.cat([obs, actions], dim=-1)))
        mean[..., :-1] += obs
        return EnsemblePrediction(mean, logvar.mul_(0.5).exp_(), self.model.elites)

    def sample_step(self, obs, actions, noise=None, members=None):
        """One step of the model for each row, from a random elite's Gaussian.

        Args: obs [B, O], actions [B, A]; standard normal noise [B, O+1] and members [B] (indices of members), drawn
        from torch's generator where not given. Returns: a :class:`ModelStep`.
        """
        prediction = self.predict(obs, actions)
        rows = torch.arange(len(obs), device=obs.device)
        if members is None:
            members = self.model.elites[torch.randint(len(self.model.elites), rows.shape, device=obs.device)]
        mean, std = prediction.mean[members, rows], prediction.std[members, rows]
        sample = mean + std * (torch.randn_like(mean) if noise is None else noise)
        next_obs, reward = sample[:, :-1], sample[:, -1:]
        terminal = self.terminal_fn(obs, actions, next_obs)
        return ModelStep(next_obs, reward, terminal, prediction)

    def uncertainty(self, obs, actions, policy=None):
        """u(s, a) [B, 1] of obs [B, O], actions [B, A]; ``policy`` for an estimator that needs its target critics."""
        blocks = zip(obs.split(BLOCK), actions.split(BLOCK), strict=True)
        return torch.cat([self.estimator(*block, self, policy) for block in blocks])

    def step(self, obs, action):
        """The kit's step on arrays: next_obs [B, O], reward [B, 1] − penalty_coef·u, terminal [B, 1], info.

        ``info["raw_reward"]`` and ``info["penalty"]`` (u) are always there.
        """
        obs, action = (torch.as_tensor(x, dtype=torch.float32, device=self.device) for x in (obs, action))
        step = self.sample_step(obs, action)
        uncertainty = self.estimator(obs, action, self, prediction=step.prediction)
        raw_reward, penalty = step.reward.cpu().numpy(), uncertainty.cpu().numpy()
        info = {"raw_reward": raw_reward, "penalty": penalty}
        return step.next_obs.cpu().numpy(), raw_reward - self._penalty_coef * penalty, step.terminal.cpu().numpy(), info

    def sample_next_obss(self, obs, action, num_samples):
        """What each elite expects next, sampled: obs [B, O], action [B, A] → [num_samples, elites, B, O]."""
        return self.predict(obs, action).sample_next_obs(num_samples)

    def mean_next_obs(self, obs, actions):
        """The mean of the elites' predicted next observations [B, O]."""
        blocks = zip(obs.split(BLOCK), actions.split(BLOCK), strict=True)
        return torch.cat([self.predict(*block).mean[self.model.elites, :, :-1].mean(0) for block in blocks])

    # Training ---------------------------------------------------------------------------------------------------

    def train(
        self, data, logger, max_epochs=None, max_epochs_since_update=5, batch_size=256,
        holdout_ratio=0.2, logvar_loss_coef=0.01, on_epoch=None, state=None,
    ):  # fmt: skip
        """Maximum likelihood on D (eq. 1): scaler fitted to D, each member on its own bootstrap of it.

        Args: data, a dict of arrays by the kit's names; where to log; most epochs; epochs without an improvement of
        1 % by any member before it stops; rows per batch; held-out fraction (at most 1000 rows); weight of the
        variance bounds; ``on_epoch(epoch, train_loss, holdout_loss)``; the run's state, to go on from and to save to.
        Raises: DivergenceError for a loss that is not finite. Returns: gradient steps taken.
        """
        held_out, kept = self._split(len(data["observations"]), holdout_ratio)
        self.scaler.fit(np.concatenate([data["observations"], data["actions"]], axis=-1)[kept.cpu().numpy()])
        inputs, targets = self._training_tensors(data)
        members = self.model.num_ensemble
        bootstrap = kept[torch.randint(len(kept), (members, len(kept)), device=kept.device)]

        def epoch_batches(first):
            if first == 0:
                for rows in bootstrap:
                    rows[:] = rows[torch.randperm(len(rows), device=rows.device)]
            for rows in bootstrap.split(batch_size, dim=1)[first:]:
                yield inputs[rows], targets[rows]

        return self._fit(
            epoch_batches, [(inputs[held_out], targets[held_out])], logger, max_epochs, max_epochs_since_update,
            logvar_loss_coef, on_epoch, state, [data], bootstrap,
        )  # fmt: skip

    def finetune(
        self, offline_data, online_data, logger, max_epochs=None, max_epochs_since_update=5, batch_size=256,
        holdout_ratio=0.2, logvar_loss_coef=0.01, steps_per_epoch=1000, online_ratio=0.5, on_epoch=None, state=None,
    ):  # fmt: skip
        """Maximum likelihood on D ∪ D_on (eq. 10, Appendix B.4): of every batch, ``online_ratio`` from D_on.

        Starts from the present weights and keeps the scaler. Rows are held out from D (those of :meth:`train`) and
        from D_on apart, and the mean of the two losses is what must improve. Arguments and errors as :meth:`train`.
        """
        members = self.model.num_ensemble
        online_rows = int(batch_size * online_ratio)
        sources, holdouts = [], []
        for data, rows in ((offline_data, batch_size - online_rows), (online_data, online_rows)):
            inputs, targets = self._training_tensors(data)
            held_out, kept = self._split(len(inputs), holdout_ratio)
            holdouts.append((inputs[held_out], targets[held_out]))
            sources.append((inputs, targets, kept, rows))

        def epoch_batches(first):
            for _ in range(first, steps_per_epoch):
                drawn = []
                for inputs, targets, kept, rows in sources:
                    chosen = kept[torch.randint(len(kept), (members, rows), device=kept.device)]
                    drawn.append((inputs[chosen], targets[chosen]))
                yield tuple(torch.cat(parts, dim=1) for parts in zip(*drawn, strict=True))

        return self._fit(
            epoch_batches, holdouts, logger, max_epochs, max_epochs_since_update, logvar_loss_coef, on_epoch, state,
            [offline_data, online_data],
        )  # fmt: skip

    def copy_for_finetuning(self, lr):
        """A dynamics with the same weights, elites and scaler, and a fresh Adam."""
        clone = copy.copy(self)
        for part in ("model", "scaler", "estimator"):
            setattr(clone, part, copy.deepcopy(getattr(self, part)))
        clone.optim = torch.optim.Adam(clone.model.parameters(), lr=lr, fused=True)
        return clone

    def fit_estimator(self, *datasets):
        """Where u learns from data, it learns from all that the dynamics was trained on."""
        columns = [
            torch.cat([torch.as_tensor(data[name], device=self.device) for data in datasets])
            for name in ("observations", "actions")
        ]
        self.estimator.refit(*columns)

    def _split(self, count, holdout_ratio):
        """Indices of held-out rows, about ``holdout_ratio`` of them and at most 1000, and of training rows.

        A row has the same lot in every training. Where rows are added (D_on from round to round) one that was trained
        on is never held out later: the lots of the first rows stay, and the rows held out have the smallest.
        """
        lots = np.random.default_rng(self.holdout_seed).random(count)
        held_out = min((lots < holdout_ratio).sum(), 1000)
        order = torch.as_tensor(lots.argsort(), device=self.device)
        return order.tensor_split([int(np.clip(held_out, 1, count - 1))])

    def _training_tensors(self, data):
        """Scaled inputs [N, O+A] and targets [N, O+1]: the change of the observation, the reward."""
        columns = {name: torch.as_tensor(column, device=self.device) for name, column in data.items()}
        inputs = self.scaler.transform_tensor(torch.cat([columns["observations"], columns["actions"]], dim=-1))
        deltas = columns["next_observations"] - columns["observations"]
        return inputs, torch.cat([deltas, columns["rewards"]], dim=-1)

    def _fit(
        self, epoch_batches, holdouts, logger, max_epochs, patience, logvar_loss_coef, on_epoch, state, datasets,
        bootstrap=None,
    ):  # fmt: skip
        state = state or RunState()
        best = self._holdout_losses(holdouts)  # before training: an epoch that makes it worse must not replace it
        self._save_members(torch.arange(len(best)))
        fit = Values(epoch=0, batch=0, stale=0, steps=0, best=best, total=torch.zeros((), device=self.device))
        rows = Part(lambda: bootstrap, lambda saved: bootstrap.copy_(saved))
        parts = {"dynamics": Part(self.training_state, self.load_training_state), "fit": fit}
        if state.enter("dynamics", parts if bootstrap is None else parts | {"bootstrap": rows}):
            return fit.steps
        while fit.stale < patience and (max_epochs is None or fit.epoch < max_epochs):
            for inputs, targets in epoch_batches(fit.batch):
                fit.total += self._descend(inputs, targets, logvar_loss_coef)
                fit.batch += 1
                fit.steps += 1
                state.step_ended()
            losses = self._holdout_losses(holdouts)
            self.epochs_trained += 1
            train_loss = float(fit.total) / fit.batch
            for name, value in (("training", train_loss), ("held-out", float(losses.sum()))):
                if not np.isfinite(value):
                    raise DivergenceError(f"the dynamics' {name} loss is {value} in epoch {self.epochs_trained}")
            improved = torch.nonzero((fit.best - losses) / fit.best > 0.01).flatten()
            fit.best[improved] = losses[improved]
            fit.stale = 0 if len(improved) else fit.stale + 1
            if len(improved):
                self._save_members(improved)
            fit.epoch, fit.batch = fit.epoch + 1, 0
            fit.total.zero_()
            holdout_loss = float(losses.sort().values[: self.model.num_elites].mean())
            logger.logkv("loss/dynamics_train_loss", train_loss)
            logger.logkv("loss/dynamics_holdout_loss", holdout_loss)
            logger.set_timestep(self.epochs_trained)
            logger.dumpkvs(exclude=["policy_training_progress", "consoleout_backup"])
            if on_epoch is not None:
                on_epoch(fit.epoch, train_loss, holdout_loss)
            state.epoch_ended()
        self._restore_members()
        self.model.set_elites(fit.best.argsort()[: self.model.num_elites].tolist())
        self.fit_estimator(*datasets)
        state.leave("dynamics", "fit")
        return fit.steps

    def training_state(self):
        """All that training and prediction depend on: weights, best weights, optimiser, scaler, u."""
        return {
            "model": self.model.state_dict(), "optim": self.optim.state_dict(), "bounds": self._saved_bounds,
            "scaler": {"mu": self.scaler.mu, "std": self.scaler.std}, "estimator": self.estimator.state_dict(),
            "epochs_trained": self.epochs_trained,
        }  # fmt: skip

    def load_training_state(self, state):
        """Takes what :meth:`training_state` gave."""
        self.model.load_state_dict(state["model"])
        self.optim.load_state_dict(state["optim"])
        self._saved_bounds = [bound.to(self.device) for bound in state["bounds"]]
        self.scaler.mu, self.scaler.std = state["scaler"]["mu"], state["scaler"]["std"]
        if state["estimator"]:
            self.estimator.load_state_dict({name: value.to(self.device) for name, value in state["estimator"].items()})
        self.epochs_trained = state["epochs_trained"]

    def load(self, load_path):
        """Reads dynamics.pth, mu.npy and std.npy from a folder, as the kit's; raises UserError for what is no state."""
        load_state(os.path.join(load_path, "dynamics.pth"), self.model)
        try:
            self.scaler.load_scaler(load_path)
        except (OSError, ValueError) as error:
            raise UserError(f"{load_path}: mu.npy and std.npy cannot be read ({error})") from error

    @torch.no_grad()
    def _descend(self, inputs, targets, logvar_loss_coef):
        """One optimiser step on inputs, targets [E, B, ·]; returns the loss (eq. 1) as a tensor.

        Forward and backward are written out: nothing is recorded, and gradients go where the optimiser reads them.
        """
        model, lowest, highest = self.model, self.model.min_logvar, self.model.max_logvar
        layers = [*model.backbones, model.output_layer]
        values, before = [inputs], []  # what each layer takes, and what it gives before its activation
        for layer in layers:
            before.append(torch.baddbmm(layer.bias, values[-1], layer.weight))
            if layer is not layers[-1]:
                values.append(functional.silu(before[-1]))
        mean, raw = before[-1].chunk(2, dim=-1)
        capped = highest - functional.softplus(highest - raw)
        logvar = lowest + functional.softplus(capped - lowest)
        precision, error = torch.exp(-logvar), mean - targets
        weighted = error.square() * precision
        bounds = logvar_loss_coef * (highest.sum() - lowest.sum())
        decay = sum(0.5 * layer.weight_decay * layer.weight.flatten().dot(layer.weight.flatten()) for layer in layers)
        loss = (weighted + logvar).mean(dim=(1, 2)).sum() + decay + bounds

        entries = error[0].numel()
        of_logvar = (1 - weighted) / entries
        below, above = torch.sigmoid(capped - lowest), torch.sigmoid(highest - raw)
        of_capped = of_logvar * below
        _gradient(lowest).copy_((of_logvar - of_capped).sum((0, 1)) - logvar_loss_coef)
        of_raw = of_capped * above
        _gradient(highest).copy_((of_capped - of_raw).sum((0, 1)) + logvar_loss_coef)
        gradient = torch.cat([error.mul_(precision).mul_(2 / entries), of_raw], dim=-1)
        for depth in reversed(range(len(layers))):
            layer = layers[depth]
            of_weight = torch.bmm(values[depth].transpose(1, 2), gradient, out=_gradient(layer.weight))
            of_weight.add_(layer.weight, alpha=layer.weight_decay)
            torch.sum(gradient, 1, keepdim=True, out=_gradient(layer.bias))
            if depth:
                gradient = torch.bmm(gradient, layer.weight.transpose(1, 2))
                _silu_backward.grad_input(gradient, before[depth - 1], grad_input=gradient)
        self.optim.step()
        return loss

    @torch.no_grad()
    def _holdout_losses(self, holdouts):
        """Each member's mean squared error [E], the mean over the held-out sets."""
        sets = [(self._forward(x)[0] - y).square().mean(dim=(1, 2)) for x, y in holdouts]
        return torch.stack(sets).mean(0)

    def _save_members(self, members):
        self.model.update_save(members.tolist())
        self._saved_bounds = [bound.detach().clone() for bound in (self.model.max_logvar, self.model.min_logvar)]

    @torch.no_grad()
    def _restore_members(self):
        """Each member's best weights, and the variance bounds learned with the last of them (u depends on both)."""
        self.model.load_save()
        for bound, saved in zip((self.model.max_logvar, self.model.min_logvar), self._saved_bounds, strict=True):
            bound.copy_(saved)


def _gradient(parameter):
    """Where the optimiser reads a parameter's gradient; never emptied, always overwritten."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad
