"""DOOF on a system of your own: your logged steps, your Gymnasium environment, ten lines.

python run_example/run_own_task.py --steps 20000 --preset quick
python run_example/run_own_task.py --steps 20000 --preset quick --by-hand

With --by-hand it goes as on a real system: the run has the log and no environment, and stops for its online steps.
A run that was stopped goes on with --resume RUN beside the same flags.
Gymnasium's Pendulum-v1 stands for the system here: no task of the paper, actions between -2 and 2, episodes that only
a time limit ends. Its log is made by a feeble controller with noise; yours comes from wherever you log.
"""

import argparse
import os
import sys

import gymnasium
import numpy as np

from doof_ext.cli.exit_code import exit_code_of
from doof_ext.config import PRESETS, Config, resolve
from doof_ext.data.dataset import Dataset, write_dataset
from doof_ext.errors import StoppedAfter
from doof_ext.pipeline import run
from doof_ext.tasks import TaskSpec, register


def log_steps(steps, seed):
    """Steps of the system under a controller that swings the pendulum up at random and never holds it."""
    env, rng, rows = gymnasium.make("Pendulum-v1"), np.random.default_rng(seed), []
    obs, _ = env.reset(seed=seed)
    for step in range(steps):
        action = np.clip([0.5 * np.sign(obs[2]) + rng.normal()], -2, 2).astype(np.float32)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        cut = truncated or step == steps - 1
        rows.append((obs, action, next_obs, np.float32(reward), terminated, cut and not terminated))
        obs = env.reset()[0] if terminated or truncated else next_obs
    return Dataset(*(np.array(column) for column in zip(*rows, strict=True)), metadata={"task": "my-pendulum"})


def own_task(args):
    path = os.path.join(args.logdir, "my-pendulum.hdf5")
    if args.resume is None:
        write_dataset(path, log_steps(args.steps, args.seed))
    given = dict(task="my-pendulum", source=f"hdf5:{path}", preset=args.preset, logdir=args.logdir, seed=args.seed)
    given["resume"] = args.resume
    if args.by_hand:
        given |= dict(env="none", termination="never", action_low=(-2.0,), action_high=(2.0,))
        given |= dict(rollout_length=5, penalty_coef=1.0)
    else:
        register(
            TaskSpec(
                name="my-pendulum",
                env_id="Pendulum-v1",
                termination="never",  # or a function of (obs, action, next_obs), see doof_ext.tasks.termination_rule
                ref_min_score=-1200.0,  # about what the pendulum earns hanging down: score 0
                ref_max_score=-150.0,  # and held upright: score 100
                rollout_length=5,
                penalty_coef=1.0,
                observation_names=("cos(angle)", "sin(angle)", "angular velocity [rad/s]"),
                action_names=("torque [N m]",),
            )
        )
    try:
        summary, directory = run(resolve(Config(**given), set(given)))
    except StoppedAfter as stopped:
        steps = PRESETS[args.preset]["online_steps"]
        print(f"next: collect_by_hand.py '{stopped.run_directory}' --env-id Pendulum-v1 --steps {steps}")
        print(f"then: run_doof.py --resume '{stopped.run_directory}'")
        return
    for name, score in summary["scores"].items():
        print(f"{name:<12}{score['last_10']:8.1f} (mean of the last ten evaluations)")
    print(directory)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000, help="steps in the log; at least 2")
    parser.add_argument("--preset", default="quick", choices=PRESETS)
    parser.add_argument("--by-hand", action="store_true", help="no environment in the run; the online steps are yours")
    parser.add_argument("--logdir", default="log")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this directory")
    args = parser.parse_args()
    if args.steps < 2:
        parser.error(f"--steps is {args.steps}; it must be at least 2")
    return exit_code_of("run_own_task.py", lambda: own_task(args))


if __name__ == "__main__":
    sys.exit(main())
