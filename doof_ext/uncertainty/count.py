"""Count-MORL (Kim and Oh 2023): u = 1/√n̂(s, a), with counts of hash codes that autoencoders learn.

The keys are the rounded codes themselves, packed into one 64-bit integer, and their counts are exact: sorted keys and a
binary search take less memory than six tables of prime size, have no collisions, and count a batch at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from doof_ext import kit
from doof_ext.errors import UserError
from doof_ext.uncertainty.base import UncertaintyEstimator
from doof_ext.uncertainty.settings import EstimatorSettings

MAX_BITS = 62  # of a key in a signed 64-bit integer
TYPES = ("AVG", "LC", "UC")
_HIDDEN, _BATCH, _BLOCK = 64, 512, 10_000
_NOISE = 0.3  # uniform noise on the code in training (Tang et al. 2017): it leaves only codes near 0 and 1 intact
_BINARY_WEIGHT = 10.0  # of the mean squared distance of a code from 0 or 1 (Tang et al. 2017)


class HashCount(UncertaintyEstimator):
    """u from how often the data hold pairs with the same code, over an ensemble of codes.

    Each member is an autoencoder of the scaled pair with a sigmoid code of ``bits``. n̂ is the members' mean count
    (AVG), less (LC) or plus (UC) ``coef`` standard deviations; at least 1, so that a pair never seen counts as one.

    Args:
        bits: Of a code, at most MAX_BITS.
        count_type: One of TYPES.
        coef: Weight of the standard deviation.
        members: Autoencoders in the ensemble.
        steps: Gradient steps of :meth:`fit`.
        seed: Of initialisation, batches and noise.

    Raises:
        UserError: The bits do not fit a key, or the type is unknown.
    """

    def __init__(
        self,
        bits: int = 32,
        count_type: str = "AVG",
        coef: float = 0.5,
        members: int = 7,
        steps: int = 1000,
        seed: int = 0,
    ) -> None:
        if not 1 <= bits <= MAX_BITS:
            raise UserError(f"--hash-bits is {bits}; it must be between 1 and {MAX_BITS}")
        if count_type not in TYPES:
            raise UserError(f"--count-type is {count_type}; it must be one of {', '.join(TYPES)}")
        self.bits, self.count_type, self.coef, self.members = bits, count_type, coef, members
        self.steps, self.seed = steps, seed
        self._state: dict[str, torch.Tensor] = {}

    @classmethod
    def from_config(cls, config: EstimatorSettings) -> HashCount:
        """With the run's hash bits, type, coefficient, number of members and seed."""
        return cls(config.hash_bits, config.count_type, config.count_coef, config.n_ensemble, seed=config.seed)

    def u(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """1/√n̂ → [B, 1], in (0, 1]."""
        counts = self.counts(observations, actions)
        estimate = counts.mean(0)
        if self.count_type != "AVG" and self.members > 1:
            sign = -1 if self.count_type == "LC" else 1
            estimate = estimate + sign * self.coef * counts.std(0)
        return estimate.clamp(min=1.0).rsqrt().unsqueeze(-1)

    def counts(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Each member's count of the pair's code in the data: [members, B], 0 for a code never seen."""
        if not self._state:
            raise UserError("uncertainty 'count' was asked before it was fitted to data")
        keys = self._keys(self._scaled(observations, actions))
        counts = []
        for member, row in enumerate(keys):
            known, count = self._state[f"keys.{member}"], self._state[f"counts.{member}"]
            place = torch.searchsorted(known, row).clamp(max=len(known) - 1)
            counts.append(torch.where(known[place] == row, count[place], 0))
        return torch.stack(counts).float()

    def fit(self, observations: torch.Tensor, actions: torch.Tensor) -> None:
        """Learns the codes and counts the data [N, O], [N, A]."""
        pairs = torch.cat([observations, actions], dim=1)
        if not pairs.isfinite().all():
            raise UserError("uncertainty 'count' cannot be fitted: the data hold values that are not finite")
        mean, std, _ = kit.standardisation(pairs.cpu().numpy())
        self._state = {"mean": torch.as_tensor(mean[0]).to(pairs), "std": torch.as_tensor(std[0]).to(pairs)}
        scaled = self._scaled(observations, actions)
        self._learn_codes(scaled)
        keys = torch.cat([self._keys(rows) for rows in scaled.split(_BLOCK)], dim=1)
        for member, row in enumerate(keys):
            self._state[f"keys.{member}"], self._state[f"counts.{member}"] = row.unique(return_counts=True)

    def _scaled(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return (torch.cat([observations, actions], dim=1) - self._state["mean"]) / self._state["std"]

    @torch.enable_grad()
    def _learn_codes(self, scaled: torch.Tensor) -> None:
        generator = torch.Generator(scaled.device).manual_seed(self.seed)

        def uniform(*shape: int, bound: float) -> torch.Tensor:
            drawn = torch.rand(self.members, *shape, generator=generator, device=scaled.device)
            return (2 * drawn - 1) * bound

        width = scaled.shape[1]
        sizes = {"encoder": (width, _HIDDEN, self.bits), "decoder": (self.bits, _HIDDEN, width)}
        weights = {}
        for part, (inputs, hidden, outputs) in sizes.items():
            for layer, (fan_in, fan_out) in enumerate(((inputs, hidden), (hidden, outputs))):
                weights[f"{part}.{layer}.weight"] = uniform(fan_in, fan_out, bound=fan_in**-0.5).requires_grad_()
                weights[f"{part}.{layer}.bias"] = uniform(1, fan_out, bound=fan_in**-0.5).requires_grad_()
        optim = torch.optim.Adam(weights.values(), lr=1e-3)
        for _ in range(self.steps):
            rows = torch.randint(len(scaled), (self.members, _BATCH), generator=generator, device=scaled.device)
            pairs = scaled[rows]
            code = torch.sigmoid(_two_layers(pairs, weights, "encoder"))
            noisy = code + uniform(_BATCH, self.bits, bound=_NOISE)
            error = (_two_layers(noisy, weights, "decoder") - pairs).square().mean(dim=(1, 2))
            binary = torch.minimum(code, 1 - code).square().mean(dim=(1, 2))
            optim.zero_grad()
            (error + _BINARY_WEIGHT * binary).sum().backward()
            optim.step()
        self._state |= {name: value.detach() for name, value in weights.items() if name.startswith("encoder")}

    def _keys(self, scaled: torch.Tensor) -> torch.Tensor:
        """The members' rounded codes of scaled pairs [B, O+A], packed into integers: [members, B]."""
        code = _two_layers(scaled.expand(self.members, -1, -1), self._state, "encoder") > 0  # sigmoid above one half
        return (code.long() << torch.arange(self.bits, device=scaled.device)).sum(-1)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Scaling, encoders, keys and counts."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self._state, self._checked = dict(state), False
        self.members, _, self.bits = state["encoder.1.weight"].shape


def _two_layers(x: torch.Tensor, weights: Mapping[str, torch.Tensor], part: str) -> torch.Tensor:
    hidden = functional.relu(torch.baddbmm(weights[f"{part}.0.bias"], x, weights[f"{part}.0.weight"]))
    return torch.baddbmm(weights[f"{part}.1.bias"], hidden, weights[f"{part}.1.weight"])
