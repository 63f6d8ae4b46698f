"""The command line: every number of the paper is a default and an option; wrong values are one line."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doof_ext.config import PRESETS, Config, parse_args, resolve
from doof_ext.config.completion import idle_settings
from doof_ext.errors import UserError
from doof_ext.tasks import task_names
from doof_ext.uncertainty import estimator_names


def _parse(*argv):
    return parse_args("test", list(argv))


def test_the_paper_preset_is_the_papers():
    config = _parse("--task", "hopper-medium-v2")
    expected = dict(
        preset="paper",
        epoch=3000,
        step_per_epoch=1000,
        explore_epochs=30,
        online_steps=10_000,
        finetune_epochs=300,
        dynamics_epochs=None,
        batch_size=256,
        real_ratio=0.05,
        explore_real_ratio=0.025,
        explore_uncertainty_ratio=0.025,
        finetune_real_ratio=0.025,
        finetune_online_ratio=0.0,
        start_ratio=0.5,
        finetune_dynamics_online_ratio=0.5,
        finetune_dynamics_epochs=None,
        final_episodes=100,
        control=None,
        uncertainty_buffer_size=10_000,
        n_ensemble=7,
        n_elites=5,
        gamma=0.99,
        actor_lr=1e-4,
        critic_lr=3e-4,
        dynamics_lr=1e-3,
        hidden_dims=(256, 256),
        rollout_length=5,
        penalty_coef=5.0,
        dynamics_hidden_dims=(200, 200, 200, 200),
        rollout_batch_size=50_000,
        model_retain_epochs=5,
    )
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.exploration_coef == 5.0


def test_lite_is_what_was_measured():
    config = _parse("--preset", "lite")
    budgets = (config.dynamics_epochs, config.epoch, config.explore_epochs, config.online_steps, config.finetune_epochs)
    assert budgets == (100, 100, 10, 10_000, 60) and config.final_episodes == 100
    assert config.dataset_steps == 200_000


def test_presets_change_budgets_the_guard_and_the_choice_of_policies_only():
    budgets = {
        "dataset_steps",
        "dynamics_epochs",
        "epoch",
        "explore_epochs",
        "online_steps",
        "finetune_epochs",
        "finetune_dynamics_steps",
        "finetune_dynamics_epochs",
        "final_episodes",
        "rollout_batch_size",
        "rollout_freq",
        "step_per_epoch",
        "eval_episodes",
        "uncertainty_buffer_size",
        "distance_samples",
    }
    assert set().union(*PRESETS.values()) == budgets | {"guard", "policy_selection"}
    assert {name: preset["guard"] for name, preset in PRESETS.items()} == {
        "paper": "off",
        "lite": "on",
        "quick": "on",
        "smoke": "off",
    }
    assert {name for name, preset in PRESETS.items() if preset["policy_selection"] != "last"} == {"lite"}


@pytest.mark.parametrize(
    ("flags", "horizon"),
    [
        ([], 50),
        (["--policy-selection", "model_return"], "episode"),
        (["--policy-selection", "model_return", "--horizon", "200"], 200),
        (["--horizon", "episode"], "episode"),
        (["--horizon", "0"], 0),
        (["--eval-episodes", "0"], "episode"),
        (["--eval-episodes", "0", "--horizon", "0"], 0),
    ],
)
def test_where_the_model_alone_judges_it_is_by_whole_episodes_unless_a_horizon_is_given(flags, horizon):
    assert _parse(*flags).horizon == horizon


def test_a_selection_by_no_steps_at_all_is_refused():
    with pytest.raises(UserError, match="--policy-selection model_return judges policies by --horizon steps"):
        _parse("--policy-selection", "model_return", "--horizon", "0")


def test_flags_win_over_preset_and_task():
    config = _parse(
        "--preset",
        "smoke",
        "--epoch",
        "7",
        "--penalty-coef",
        "2.0",
        "--exploration-ratio",
        "0.25",
        "--hidden-dims",
        "32",
        "16",
        "--auto-alpha",
        "False",
        "--eval_episodes",
        "3",
    )
    assert (config.epoch, config.penalty_coef, config.exploration_coef) == (7, 2.0, 0.5)
    assert config.hidden_dims == (32, 16) and config.auto_alpha is False and config.eval_episodes == 3


@pytest.mark.parametrize(
    ("argv", "ratio", "coef"),
    [
        ([], 1.0, 5.0),
        (["--exploration-ratio", "0.25"], 0.25, 1.25),
        (["--exploration-coef", "1.5"], 0.3, 1.5),
        (["--exploration-coef", "0"], 0.0, 0.0),
        (["--exploration-coef", "1.5", "--penalty-coef", "0"], None, 1.5),
        (["--exploration-coef", "0", "--penalty-coef", "0"], 0.0, 0.0),
        (["--exploration-ratio", "0", "--penalty-coef", "0"], 0.0, 0.0),
        (["--exploration-ratio", "0.3", "--exploration-coef", "1.5"], 0.3, 1.5),
        (["--penalty-coef", "0", "--control", "extra-training"], 1.0, 0.0),
    ],
)
def test_lambda_on_is_a_ratio_or_given_by_itself(argv, ratio, coef):
    config = _parse("--task", "hopper-medium-v2", *argv)
    assert config.exploration_coef == pytest.approx(coef)
    assert config.exploration_ratio == (None if ratio is None else pytest.approx(ratio))
    assert resolve(config, {field.name for field in dataclasses.fields(Config)}) == config


def test_a_presets_dataset_steps_are_of_recipes_only():
    assert _parse("--preset", "smoke").dataset_steps == 4000
    assert _parse("--preset", "smoke", "--source", "hdf5:d.hdf5").dataset_steps is None
    assert _parse("--source", "auto", "--dataset-steps", "50").dataset_steps == 50


def test_each_task_brings_its_own_settings():
    for task, length, coef in (("walker2d-medium-replay-v2", 1, 2.5), ("halfcheetah-random-v2", 1, 0.25)):
        config = _parse("--task", task)
        assert (config.rollout_length, config.penalty_coef) == (length, coef)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--task", "hoper-medium-v2"], "did you mean hopper-medium-v2"),
        (["--algo", "mobile", "--n-elites", "1"], "--n-elites is 1; it must be at least 2 with mobile"),
        (["--algo", "mobile", "--explore-rollouts", "penalty"], "use --algo mopo"),
        (["--uncertainty", "magic"], "unknown uncertainty 'magic'; choose aleatoric"),
        (["--epoch", "-1"], "--epoch is -1; it must be at least 1"),
        (["--online-steps", "0"], "--online-steps is 0; it must be at least 2"),
        (["--dataset-steps", "1"], "--dataset-steps is 1; it must be at least 2"),
        (["--seed", "99999999999999999999"], r"below 2\*\*32"),
        (["--logdir", ""], "--logdir is empty"),
        (["--rounds", "-3"], "--rounds"),
        (["--control", "nothing"], "'nothing' is not among no-online-data, extra-training"),
        (["--final-episodes", "-1"], "--final-episodes is -1; it must be at least 0"),
        (["--finetune-dynamics-epochs", "0"], "--finetune-dynamics-epochs is 0; it must be at least 1"),
        (["--exploration-ratio", "-0.5"], "--exploration-ratio is -0.5; it must be at least 0"),
        (["--exploration-ratio", "nan"], "finite"),
        (["--actor-lr", "0"], "--actor-lr is 0.0; it must be above 0"),
        (["--real-ratio", "1.5"], "between 0 and 1"),
        (["--finetune-real-ratio", "0.6", "--finetune-online-ratio", "0.6"], "leave room for model rollouts"),
        (["--preset", "papr"], "'papr' is not among paper, lite, quick, smoke; did you mean paper"),
        (["--source", "web"], "unknown source"),
        (["--epoch", "many"], "invalid int"),
        (["--auto-alpha", "perhaps"], "neither true nor false"),
        (["--n-elites", "9"], "--n-ensemble"),
        (["--penalty-coef", "0"], "give --exploration-coef, or --exploration-ratio 0"),
        (["--exploration-coef", "2", "--exploration-ratio", "1"], "give one of the first two"),
        (["--exploration-coef", "-1"], "--exploration-coef is -1.0; it must be at least 0"),
        (["--exploration-coef", "inf"], "--exploration-coef is inf; it must be a finite number"),
        (
            ["--source", "hdf5:d.hdf5", "--dataset-steps", "50"],
            "--dataset-steps shortens recipes only, not --source hdf5",
        ),
        (["--source", "minari:a/b-v0", "--dataset-steps", "50"], "--dataset-steps shortens recipes only"),
        (["--no-such-flag"], "unrecognized"),
    ],
)
def test_wrong_values_are_one_line(argv, message):
    with pytest.raises(UserError, match=message) as caught:
        _parse(*argv)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(Config)]),
            st.sampled_from(["1", "-1", "0.5", "inf", "smoke", "../../x", "a\nb", ""]),
        ),
        max_size=6,
    )
)
def test_no_command_line_ends_in_a_traceback(argv):
    try:
        config = _parse(*argv)
    except UserError:
        return
    assert resolve(config, {f.name for f in dataclasses.fields(Config)}) == config


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--rounds", "many"], "'many' is neither a number nor auto"),
        (["--rounds", "0"], "--rounds is 0; it must be at least 1"),
        (["--rounds", "auto", "--guard", "off"], "it needs --guard on"),
        (["--rounds", "auto", "--control", "no-online-data"], "nothing ends a control's rounds"),
        (["--rounds", "auto", "--round-steps", "20000"], "--round-steps is 20000; it must be at most"),
        (["--round-steps", "500"], "--round-steps goes with --rounds auto"),
        (["--exploration-ratio", "much"], "'much' is neither a number nor auto"),
        (["--exploration-ratio", "auto", "--horizon", "0"], "give --horizon above 0"),
        (["--exploration-ratio", "auto", "--penalty-coef", "0"], "give --exploration-coef"),
        (["--exploration-ratio", "auto", "--exploration-coef", "1"], "give no --exploration-coef"),
        (["--exploration-ratio", "auto", "--control", "extra-training"], "a control explores nothing"),
        (["--max-return-drop", "1"], "at least 0 and below 1"),
    ],
)
def test_what_is_to_be_automatic_and_cannot_be_is_refused(flags, told):
    with pytest.raises(UserError, match=told):
        _parse(*flags)


@pytest.mark.parametrize("wrong", [{"rounds": "foo"}, {"rounds": True}, {"rounds": 2.5}, {"exploration_ratio": "foo"}])
def test_what_is_neither_a_number_nor_auto_is_refused_from_python_too(wrong):
    with pytest.raises(UserError, match="auto or a"):
        resolve(Config(**wrong), set(wrong))


def test_automatic_rounds_bring_the_guard_with_them_and_an_automatic_ratio_has_no_coefficient():
    config = _parse("--rounds", "auto", "--exploration-ratio", "auto")
    assert (config.guard, config.most_rounds, config.exploration_coef, config.explores) == ("on", 4, None, True)
    assert (_parse().guard, _parse("--rounds", "2").guard) == ("off", "off")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--num-q-ensemble", "4"], "--num-q-ensemble 4 has no effect beside --algo mopo"),
        (["--num-samples", "4"], "--num-samples 4 has no effect beside --uncertainty aleatoric"),
        (["--hash-bits", "16", "--algo", "mobile"], "--hash-bits 16 has no effect beside --uncertainty mobile"),
        (["--uncertainty", "count", "--count-coef", "1"], "--count-coef 1 has no effect beside --count-type AVG"),
        (["--alpha", "0.1"], "--alpha 0.1 has no effect beside --auto-alpha true"),
        (
            ["--auto-alpha", "false", "--target-entropy", "-2"],
            "--target-entropy -2 has no effect beside --auto-alpha f",
        ),
        (["--max-return-drop", "0.2"], "--max-return-drop 0.2 has no effect beside --exploration-ratio 1"),
        (["--download", "--source", "recipe"], "--download True has no effect beside --source recipe"),
    ],
)
def test_what_has_no_effect_is_told(flags, told):
    (line,) = idle_settings(_parse(*flags))
    assert line.startswith(f"WARNING: {told}")


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--alpha", "0.2", "--num-samples", "10", "--download", "false"],  # a default that is said aloud
        ["--algo", "mobile", "--num-samples", "4", "--num-q-ensemble", "4", "--nonnegative-target", "false"],
        ["--uncertainty", "count", "--hash-bits", "16", "--count-type", "LC", "--count-coef", "1"],
        ["--exploration-ratio", "auto", "--max-return-drop", "0.2"],
        ["--auto-alpha", "false", "--alpha", "0.1"],
    ],
)
def test_what_has_an_effect_is_not(flags):
    assert idle_settings(_parse(*flags)) == []


def test_no_task_has_a_setting_without_effect():
    for task, algo in itertools.product(task_names(), ("mopo", "mobile")):
        assert idle_settings(_parse("--task", task, "--algo", algo)) == []


def test_what_a_setting_goes_with_is_a_setting_and_a_value_that_it_takes():
    fields = {field.name: field for field in dataclasses.fields(Config)}
    known = {"uncertainty": set(estimator_names()), "exploration_ratio": {"auto"}, "source": {"auto", "d4rl"}}
    for field in fields.values():
        if field.metadata["rules"].goes_with is not None:
            other, values = field.metadata["rules"].goes_with
            choices = fields[other].metadata["rules"].choices or known.get(other, {False, True})
            assert values and set(values) <= set(choices)
