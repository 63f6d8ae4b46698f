"""Minutes by stage."""

import copy

from doof_ext.report.runs import find_runs
from doof_ext.report.time_table import time_table


def test_the_minutes_of_a_stage_are_those_of_all_rounds_and_the_mean_over_seeds(runs_folder):
    runs = [copy.deepcopy(run) for run in find_runs([runs_folder]) if run.task == "hopper-medium-v2"]
    runs = [run for run in runs if run.arm in ("ratio 1", "ratio 1, 2 rounds", "control extra-training")]
    for run in runs:
        for stage in run.summary["stages"]:
            stage["seconds"] = 60.0 * run.seed if stage["name"] != "collect" else 6.0
    table = time_table(runs)
    assert table.headings[5:] == ["1 pretrain", "2 explore", "3 collect", "4 dynamics", "5 policy"]
    threads = str(runs[0].summary["threads"])
    assert table.rows == [
        ["HP-m", "recipe data", "ratio 1", "2", threads, "1.5", "1.5", "0.1", "1.5", "1.5"],
        ["HP-m", "recipe data", "ratio 1, 2 rounds", "1", threads, "1.0", "2.0", "0.2", "2.0", "2.0"],
        ["HP-m", "recipe data", "control extra-training", "2", threads, "1.5", "", "", "", "1.5"],
    ]
    assert time_table([]).missing == "no finished runs"
