"""A task of your own: registered, or named on the command line."""

import dataclasses
import re

import gymnasium
import numpy as np
import pytest
import torch

from doof_ext import pipeline
from doof_ext.config import Config, parse_args, resolve
from doof_ext.data.dataset import write_dataset
from doof_ext.data.recipe import record_uniform
from doof_ext.errors import EnvironmentFailedError, UserError
from doof_ext.learning.factory import build_dynamics, build_policy, build_termination_fn
from doof_ext.tasks import TaskSpec, get_spec, make_env, register, termination_rule
from doof_ext.tasks.gymnasium_env import complete
from doof_ext.tasks.interaction import check_env, reset_env, step_env


class Shifted(gymnasium.Env):
    """A point on a line with lopsided actions."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(np.float32([-0.3, 1.0]), np.float32([1.7, 5.0]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._place = np.zeros(2, np.float32)
        return self._place, {}

    def step(self, action):
        self._place += action  # into what it handed out, as some environments do
        action *= 0
        return self._place, 1.0, False, False, {}


@pytest.fixture
def shifted():
    return TaskSpec("shifted", Shifted, "never", max_episode_steps=7)


def test_a_registered_task_has_a_name_and_the_kits_defaults(monkeypatch, shifted):
    monkeypatch.setattr("doof_ext.tasks.specs._SPECS", {})
    assert register(shifted) is shifted and get_spec("shifted") is shifted
    assert register(shifted) is shifted  # twice the same is no harm
    with pytest.raises(UserError, match="already"):
        register(TaskSpec("shifted", "Pendulum-v1", "never"))
    config = resolve(Config(task="shifted"), {"task"})
    assert (config.rollout_length, config.penalty_coef, config.actor_lr) == (1, 2.5, 1e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TaskSpec("own", "Pendulum-v1"), "when does an episode end"),
        (TaskSpec("../own", "Pendulum-v1", "never"), "names folders"),
        (TaskSpec("hopper-medium-v2", "Pendulum-v1", "never"), "already"),
        (TaskSpec("own", "Pendulum-v1", 5), "neither a name nor a function"),
        (TaskSpec("own", "Pendulum-v1", "never", ref_min_score=1.0, ref_max_score=1.0), "above ref_min_score"),
        (TaskSpec("own", "Pendulum-v1", "never", max_episode_steps=0), "at least 1"),
        (TaskSpec("own", "Ant-v4", domain="ant"), "unknown domain"),
    ],
)
def test_what_cannot_be_registered(spec, message):
    with pytest.raises(UserError, match=message):
        register(spec)


@pytest.mark.parametrize(
    ("env_id", "message"),
    [("Nothing-v0", "cannot be made"), ("nowhere:Nothing-v0", "cannot be made"), ("CartPole-v1", "Discrete")],
)
def test_what_cannot_be_an_environment(env_id, message):
    with pytest.raises(UserError, match=message) as caught:
        make_env(TaskSpec("own", env_id, "never"))
    assert "\n" not in str(caught.value)


def test_the_environment_completes_the_spec_with_a_time_limit(shifted):
    env = make_env(shifted)
    assert (env.spec.obs_dim, env.spec.action_dim) == (2, 2)
    assert env.spec.action_low == pytest.approx((-0.3, 1.0)) and env.spec.action_high == pytest.approx((1.7, 5.0))
    env.reset()
    ends = [env.step(np.float32([0.0, 2.0]))[2:] for _ in range(7)]
    assert [done for done, _ in ends] == [False] * 6 + [True] and ends[-1][1]["TimeLimit.truncated"]
    assert env.state() == {} and not env.has_oracle and env.physics == "gymnasium"
    assert env.get_normalized_score(250.0) == 2.5  # shown times 100: the return itself


@pytest.mark.parametrize("names", [{"observation_names": ("place",)}, {"action_names": ("one", "two", "three")}])
def test_names_are_as_many_as_dimensions(shifted, names):
    with pytest.raises(UserError, match="names for 2 dimensions"):
        make_env(dataclasses.replace(shifted, **names))


def test_the_policy_acts_in_the_environments_units(tiny, shifted):
    spec = make_env(shifted).spec
    config = tiny()
    dynamics = build_dynamics(config, spec)
    dynamics.scaler.fit(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    policy = build_policy(config, spec, dynamics, uncertainty_coef=0.0)
    obs = torch.randn(500, 2)
    torch.manual_seed(0)
    actions, log_probs = policy.actforward(obs)
    torch.manual_seed(0)
    squashed, raw = policy.actor(obs).rsample()
    middle, half = torch.tensor([0.7, 3.0]), torch.tensor([1.0, 2.0])
    torch.testing.assert_close(actions, middle + half * squashed)
    torch.testing.assert_close(log_probs, policy.actor(obs).log_prob(squashed, raw))
    taken = policy.select_action(obs.numpy())
    space = shifted.env_id().action_space
    assert (taken >= space.low).all() and (taken <= space.high).all()
    rolled = policy.rollout(obs, 1)[0]["actions"]
    assert rolled[:, 1].min() >= 1.0 and rolled[:, 0].max() <= 1.7


class Answering(Shifted):
    """Shifted with other answers."""

    def __init__(self, reset=lambda obs: (obs, {}), step=lambda obs: (obs, 1.0, False, False, {})):
        self._answers = reset, step

    def reset(self, *, seed=None, options=None):
        return self._answers[0](super().reset(seed=seed)[0])

    def step(self, action):
        return self._answers[1](super().step(action)[0])


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"reset": lambda obs: (obs[:, None], {})}, r"reset returned an observation of shape \[2, 1\] .* has \[2\]"),
        ({"reset": lambda obs: (obs[:1], {})}, r"reset returned an observation of shape \[1\]"),
        ({"reset": lambda obs: ({"state": obs}, {})}, r"of shape \[\] \(object\)"),
        ({"reset": lambda obs: (obs * np.nan, {})}, "reset returned an observation that is not finite"),
        ({"reset": lambda obs: (obs.astype(str), {})}, r"\(<U32\)"),
        ({"reset": lambda obs: obs}, r"of shape \[\] .*as Gymnasium has it, reset\(\) returns"),
        (
            {"step": lambda obs: (np.append(obs, 1), 1.0, False, False, {})},
            r"step returned an observation of shape \[3\]",
        ),
        ({"step": lambda obs: (obs, 1.0, False, {})}, "step failed .*not enough values"),
        ({"step": lambda obs: (obs, obs, False, False, {})}, "step failed"),
        ({"step": lambda obs: (obs, None, False, False, {})}, "step failed"),
        ({"step": lambda obs: (obs, np.nan, False, False, {})}, r"reward that is not finite \(nan\)"),
        ({"step": lambda obs: 1 / 0}, "step failed .ZeroDivisionError"),
    ],
)
def test_what_an_environment_answers_is_checked_before_anything_is_trained(tiny, shifted, answers, message):
    spec = dataclasses.replace(shifted, name="own", env_id=lambda: Answering(**answers))
    with pytest.raises(UserError, match=message) as caught:
        check_env(make_env(spec))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("own: the environment's")
    with pytest.raises(UserError, match=message):
        record_uniform(spec, steps=5, seed=0, processes=1)


def test_a_good_environment_passes_the_check(shifted, env):
    for good in (make_env(shifted), env):
        check_env(good)


def test_a_run_checks_its_environment_before_it_reads_data(tiny, shifted, monkeypatch):
    monkeypatch.setattr("doof_ext.tasks.specs._SPECS", {})
    register(dataclasses.replace(shifted, env_id=lambda: Answering(reset=lambda obs: (obs[:1], {}))))
    with pytest.raises(UserError, match="reset returned an observation"):
        pipeline.run(tiny(task="shifted", source="hdf5:nothing.hdf5"))


def test_an_environment_that_changes_its_answers_stops_the_run_in_one_line(shifted):
    env = make_env(
        dataclasses.replace(shifted, env_id=lambda: Answering(step=lambda obs: (obs[:1], 1.0, False, False, {})))
    )
    reset_env(env)
    with pytest.raises(EnvironmentFailedError, match=r"step returned an observation of shape \[1\]"):
        step_env(env, np.float32([0.0, 2.0]))


def test_an_environment_that_fails_while_it_is_recorded_leaves_one_line(shifted):
    """Not a dataset with NaN in it, which every later command would refuse."""
    tired = dataclasses.replace(
        shifted, env_id=lambda: Answering(step=lambda obs: (obs, np.nan if obs[1] > 6 else 1.0, False, False, {}))
    )
    with pytest.raises(EnvironmentFailedError, match="step returned a reward that is not finite"):
        record_uniform(tired, 50, seed=0, processes=1)


def test_an_environment_that_ends_episodes_which_the_model_does_not_is_warned_of(
    settings, tmp_path, shifted, monkeypatch, capsys
):
    """The rule is "never"; D was cut by the time limit alone, and the system ends episodes in stage 3."""
    monkeypatch.setattr("doof_ext.tasks.specs._SPECS", {})
    ending = Answering(step=lambda obs: (obs, 1.0, bool(obs[1] > 6), False, {}))
    register(dataclasses.replace(shifted, env_id=lambda: ending))
    path = tmp_path / "log.hdf5"
    write_dataset(path, record_uniform(shifted, 60, seed=0, processes=1))
    pipeline.run(settings(task="shifted", source=f"hdf5:{path}", dataset_steps=None))
    assert re.search(r"WARNING: the termination rule denies (\d+) of \1 recorded terminals", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("module", "message"),
    [("import nowhere", "No module named 'nowhere'"), ("1 / 0", "ZeroDivisionError: division by zero")],
)
def test_a_module_that_fails_is_one_line(tmp_path, monkeypatch, module, message):
    monkeypatch.chdir(tmp_path)
    name = f"doof_test_failing_{len(module)}"
    (tmp_path / f"{name}.py").write_text(module)
    with pytest.raises(UserError, match=message) as caught:
        make_env(TaskSpec("own", f"{name}:Robot-v0", "never"))
    assert "\n" not in str(caught.value)


def test_minus_one_to_one_is_left_alone(tiny, spec, dynamics):
    policy = build_policy(tiny(), make_env(spec).spec, dynamics, uncertainty_coef=0.0)
    squashed = torch.rand(5, 3)
    assert policy._scale(squashed) is squashed


def test_termination_as_module_and_function(tmp_path, monkeypatch):
    (tmp_path / "doof_test_rules.py").write_text("def fallen(obs, act, next_obs):\n    return next_obs[:, :1] < 0\n")
    monkeypatch.chdir(tmp_path)
    rule = build_termination_fn(TaskSpec("own", "Pendulum-v1", "doof_test_rules:fallen"))
    assert rule(None, None, torch.tensor([[1.0], [-1.0]])).tolist() == [[False], [True]]
    never = termination_rule(TaskSpec("own", "Pendulum-v1", "never"))
    assert never(None, None, np.array([[1.0, 2.0], [np.nan, 0.0]])).tolist() == [[False], [True]]
    assert termination_rule(get_spec("hopper-medium-v2")) is None


@pytest.mark.parametrize(
    ("termination", "message"),
    [("nowhere:rule", "No module"), ("json:rule", "no attribute"), ("json", "neither"), ("json:__name__", "function")],
)
def test_a_termination_that_is_none(termination, message):
    with pytest.raises(UserError, match=message):
        termination_rule(TaskSpec("own", "Pendulum-v1", termination))


def test_env_id_names_the_task():
    config = parse_args("", ["--env-id", "my.package:Robot/Arm-v0", "--termination", "never"])
    assert config.task == "my.package-Robot-Arm-v0" == config.spec.name
    assert parse_args("", ["--env-id", "A-v0", "--termination", "never", "--task", "arm"]).spec.name == "arm"
    with pytest.raises(UserError, match="go with --env-id"):
        parse_args("", ["--termination", "never"])
    with pytest.raises(UserError, match="already"):
        parse_args("", ["--env-id", "A-v0", "--termination", "never", "--task", "hopper-medium-v2"])


def test_what_an_environment_goes_on_writing_into_is_copied(shifted):
    recorded = record_uniform(shifted, steps=7, seed=0, processes=1)
    np.testing.assert_allclose(recorded.observations + recorded.actions, recorded.next_observations, rtol=1e-6)
    assert len(np.unique(recorded.observations, axis=0)) == 7 and recorded.actions[:, 1].min() >= 1.0


def test_an_environments_own_time_limit_is_the_tasks():
    """By which a whole episode is told from one that was cut."""
    assert make_env(TaskSpec("own", "Pendulum-v1", "never")).spec.max_episode_steps == 200
    assert make_env(TaskSpec("own", "Pendulum-v1", "never", max_episode_steps=7)).spec.max_episode_steps == 7


def test_an_episode_without_a_limit_is_refused(shifted):
    with pytest.raises(UserError, match="--max-episode-steps"):
        make_env(dataclasses.replace(shifted, max_episode_steps=None))
    argv = ["--env-id", "A-v0", "--termination", "never", "--max-episode-steps", "50"]
    assert parse_args("", argv).spec.max_episode_steps == 50


@pytest.mark.parametrize(("bound", "dtype", "message"), [(np.inf, np.float32, "finite"), (5, np.int64, "real numbers")])
def test_action_spaces_that_do_not_fit_are_refused(bound, dtype, message):
    space = gymnasium.spaces.Box(dtype(-5) if bound == 5 else -np.inf, bound, (2,), dtype)
    with pytest.raises(UserError, match=message):
        complete(TaskSpec("own", "A-v0", "never"), Shifted.observation_space, space)


def test_bounds_that_float32_cannot_hold_are_rounded_inward():
    space = gymnasium.spaces.Box(-0.1, 0.1, (2,), np.float64)
    spec = complete(TaskSpec("own", "A-v0", "never"), Shifted.observation_space, space)
    assert spec.action_low[0] >= -0.1 and spec.action_high[0] <= 0.1 and spec.action_high[0] == pytest.approx(0.1)
