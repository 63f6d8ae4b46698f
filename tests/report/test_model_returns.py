"""How the model's order of the epochs agrees with the environment's."""

import copy

from doof_ext.report.model_returns import model_return_curves, model_return_table
from doof_ext.report.runs import find_runs


def test_the_table_ranks_the_epochs_of_each_stage(runs_folder):
    run = copy.deepcopy(next(run for run in find_runs([runs_folder]) if run.task == "walker2d-random-v2"))
    for row in run.curve:
        bound = row["eval/model_return"] - row["eval/model_return_spread"]
        assert row["eval/model_return_lower_bound"] == bound and row["eval/model_return_spread"] > 0
    estimates = {
        "eval/model_return": [1.0, 2.0, 3.0],
        "eval/model_return_lower_bound": [1.0, 0.0, -1.0],
        "eval/model_return_pessimistic": [3.0, 2.0, 1.0],
        "eval/model_return_penalised_mean": [1.0, 3.0, 2.0],
        "eval/model_return_penalised_pessimistic": [2.0, 2.0, 2.0],
    }
    for epoch, row in enumerate(row for row in run.curve if row["stage"] == 5):
        row["eval/normalized_episode_reward"] = 10.0 * epoch
        row |= {name: values[epoch] for name, values in estimates.items()}
    (row,) = model_return_table([run]).rows  # stage 1 has two epochs: none to rank
    assert row == ["WK-r", run.arm, "1", "5 finetune", "3", "+1.00", "-1.00", "-1.00", "+0.50", ""]
    assert "3, least elite 1" in model_return_curves([run]).alt
    run.curve = [{name: x for name, x in row.items() if "model_return" not in name} for row in run.curve]
    assert model_return_table([run]).rows == [] and "three epochs" in model_return_table([run]).missing
    assert "--horizon" in model_return_curves([run]).missing
