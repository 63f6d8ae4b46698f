"""The presets: ``paper`` is the paper; the others shorten its budgets, and those that are for results have the guard.

``lite``, at whose budget policies are far from settled, returns those that are worth most in the model.

``smoke`` has none: it is to go through every stage, and its dynamics learns too little to be accepted.
"""

from types import MappingProxyType
from typing import Any

_PAPER: dict[str, Any] = dict(
    epoch=3000,
    explore_epochs=30,
    online_steps=10_000,
    finetune_epochs=300,
    finetune_dynamics_steps=1000,
    rollout_batch_size=50_000,
    final_episodes=100,
    distance_samples=2000,
    policy_selection="last",
    guard="off",
)
_LITE: dict[str, Any] = dict(
    dataset_steps=200_000,
    dynamics_epochs=100,
    epoch=100,
    explore_epochs=10,
    finetune_dynamics_epochs=20,
    finetune_epochs=60,
    policy_selection="model_return",
    guard="on",
)
_QUICK: dict[str, Any] = dict(
    dataset_steps=100_000,
    dynamics_epochs=10,
    epoch=22,
    explore_epochs=1,
    finetune_epochs=12,
    finetune_dynamics_epochs=4,
    finetune_dynamics_steps=400,
    rollout_batch_size=20_000,
    eval_episodes=2,
    final_episodes=0,
    distance_samples=1000,
    guard="on",
)
_SMOKE: dict[str, Any] = dict(
    dataset_steps=4_000,
    dynamics_epochs=2,
    epoch=2,
    explore_epochs=1,
    online_steps=300,
    finetune_epochs=2,
    finetune_dynamics_epochs=2,
    finetune_dynamics_steps=20,
    rollout_batch_size=1_000,
    step_per_epoch=50,
    rollout_freq=50,
    eval_episodes=2,
    final_episodes=0,
    uncertainty_buffer_size=1_000,
    distance_samples=200,
)

PRESETS = MappingProxyType(
    {"paper": _PAPER, "lite": _PAPER | _LITE, "quick": _PAPER | _QUICK, "smoke": _PAPER | _SMOKE}
)
"""Settings by preset; an epoch is ``step_per_epoch`` gradient steps."""
