"""What is shown of results is what the runs' own files say."""

import csv
import json
import os
import re

import numpy as np
import pytest
from conftest import ROOT, needs_report

from doof_ext.config.recorded import recorded_settings
from doof_ext.config.rules import text_of
from doof_ext.evaluation.rank_correlation import rank_correlation
from doof_ext.experiment.summary import read_summary
from doof_ext.report.guard_tables import estimates_table, guard_tables
from doof_ext.report.model_returns import ESTIMATES
from doof_ext.report.runs import find_runs
from doof_ext.report.tables import all_tables
from doof_ext.sweep.grid import expand, read_grid
from doof_ext.sweep.plan import identity, plan_runs

QUICKSTART = ROOT / "results" / "quickstart"
SHORT = ROOT / "results" / "short"
SUMMARIES = sorted((ROOT / "results").rglob("summary.json"))


@pytest.mark.parametrize("path", SUMMARIES, ids=lambda path: str(path.relative_to(ROOT / "results").parent))
def test_a_summary_is_of_recipe_data_and_names_no_folder_of_a_machine(path):
    assert read_summary(path)["dataset"]["source"] == "recipe"
    for folder in ("/root", "/home", "/tmp", "/work"):
        assert folder not in path.read_text()


@pytest.fixture(scope="module")
def short():
    """The runs of studies/short.toml that were made."""
    return find_runs([SHORT])


def _drawn_again(runs, folder):
    """The tables of these runs by name, which are those that are kept in the folder."""
    tables = {table.name: table.markdown() for table in (*all_tables(runs), *guard_tables(runs))}
    assert {path.stem: path.read_text() for path in (folder / "tables").glob("*.md")} == tables
    return tables


@needs_report
def test_the_quickstarts_tables_are_what_its_runs_say():
    tables = _drawn_again(find_runs([QUICKSTART]), QUICKSTART)
    assert tables["table-3"] in (ROOT / "docs" / "report.md").read_text()


def test_how_the_estimates_rank_policies_is_what_the_curves_say(short):
    table = estimates_table(short)
    last, ten, *model = table.rows[-1][4:]
    page = " ".join((ROOT / "docs" / "real-system.md").read_text().split())
    assert f"In the {table.rows[-1][3]} runs of [results/short]" in page
    assert "mean {}, lower bound {}, least elite {}, penalised {}, penalised and least {}".format(*model) in page
    assert f"(last one {last}, mean of the last ten {ten})" in page


def test_the_seeds_in_the_docs_are_the_summaries():
    page = (ROOT / "docs" / "report.md").read_text()
    found = {(run.seed, run.control): run.results for run in find_runs([QUICKSTART])}
    assert len(found) == 6
    for seed in (1, 2, 3):
        doof, control = found[seed, None], found[seed, "no-online-data"]
        scores = [doof["scores"]["pretrained"], control["scores"]["finetuned"], doof["scores"]["finetuned"]]
        cells = [f"{score['last_10']:.1f}" for score in scores] + [f"{doof['gain'] - control['gain']:+.1f}"]
        assert f"| {seed} | {' | '.join(cells)} |" in page


def test_the_guards_table_is_what_the_summaries_say():
    """results/guard: each run is a row, and where the guard returned the pretrained policy nothing was lost."""
    page = (ROOT / "results" / "guard" / "README.md").read_text()
    paths = sorted((ROOT / "results" / "guard").rglob("summary.json"))
    assert page.count("| on |") + page.count("| off |") == len(paths)
    for path in paths:
        summary = read_summary(path)
        scores, (choice,) = summary["scores"], summary["policy_choice"] or [None]
        returned = (
            "the last" if choice is None else f"epoch {choice['epoch']}" if choice["epoch"] else "the pretrained policy"
        )
        numbers = (
            scores["pretrained"]["last_10"],
            scores["finetuned"]["last_10"],
            scores["finetuned"]["final"]["mean"],
        )
        cells = [*(f"{number:.1f}" for number in numbers), f"{summary['gain']:+.1f}", returned]
        guard = "off" if choice is None else "on"
        assert f"| {summary['seed']} | {guard} | {' | '.join(cells)} |" in page
        if returned == "the pretrained policy":
            assert summary["gain"] == 0 and scores["finetuned"]["final"] == scores["pretrained"]["final"]
    found = [read_summary(path) for path in paths if "halfcheetah" in str(path)]
    off, on = (
        np.array([of["gain"] for of in sorted(found, key=lambda of: of["seed"]) if bool(of["guard"]) == guarded])
        for guarded in (False, True)
    )
    assert len(off) == len(on) == 3
    told = f"{off.mean():+.1f} without the guard and {on.mean():+.1f} with it, where the seeds' standard deviation is "
    told += f"{off.std(ddof=1):.1f} and {on.std(ddof=1):.1f}; with the guard less without, seed by seed: "
    told += f"{(on - off).mean():+.1f} with a standard deviation of {(on - off).std(ddof=1):.1f}"
    assert told in " ".join(page.split())


def test_the_table_of_ratios_on_hopper_medium_is_what_the_summaries_say():
    """results/budgets: every arm that was run is a row, and all are from one stage 1."""
    page = (ROOT / "results" / "budgets" / "README.md").read_text()
    runs = find_runs([ROOT / "results" / "budgets" / "hopper-medium-v2"])
    assert len({run.results["scores"]["pretrained"]["last_10"] for run in runs}) == 1
    for run in runs:
        summary, choice = run.results, run.results["policy_choice"][-1]
        ratio = run.settings["exploration_ratio"]
        arm = f"control {run.control}" if run.control else f"ratio {text_of(ratio)}"
        arm += ", rounds auto" if run.settings["rounds"] == "auto" else ""
        before, after = (summary["scores"][name] for name in ("pretrained", "finetuned"))
        explored = "-" if run.control else f"{summary['scores']['exploration']['last_10']:.1f}"
        cells = [f"{before['last_10']:.1f}", explored, f"{choice['last']:.1f}", f"{after['last_10']:.1f}"]
        cells.append(f"{after['final']['mean']:.1f}")
        returned = f"epoch {choice['epoch']}" if choice["epoch"] else "the pretrained policy"
        assert f"| {arm} | {' | '.join(cells)} | {summary['gain']:+.1f} | {returned} |" in page
    assert page.count("| the pretrained policy |") + page.count("| epoch ") == len(runs)


def test_the_table_of_longer_pretraining_is_what_the_curves_say():
    """results/budgets: means of ten epochs of both runs, and the held-out losses that their dynamics ended with."""
    page, cells = (ROOT / "results" / "budgets" / "README.md").read_text(), []
    for run in sorted((ROOT / "results" / "budgets" / "hopper-medium-v2-pretraining").glob("*/seed_*")):
        curve, progress = (
            list(csv.DictReader((run / "record" / f"{name}_training_progress.csv").open()))
            for name in ("policy", "dynamics")
        )
        assert f"{float(progress[-1]['loss/dynamics_holdout_loss']):.4f}" in page
        of_run = []
        for epoch in range(25, 251, 25):
            names = ("eval/normalized_episode_reward", "eval/episode_length", "loss/actor")
            means = [np.mean([float(row[name]) for row in curve[epoch - 10 : epoch]]) for name in names]
            told = f"{means[0]:.1f} | {means[1]:.0f} | {-means[2]:.0f}" if epoch <= len(curve) else " |  | "
            of_run.append(told)
        cells.append(of_run)
    for epoch, few, many in zip(range(25, 251, 25), *cells, strict=True):
        assert f"| {epoch} | {few} | {many} |" in page


def test_why_the_pretrained_policy_falls_is_what_was_measured():
    """results/budgets: what tools/explain_policy.py found, and the scores that both runs came to."""
    page, folder = (ROOT / "results" / "budgets" / "README.md").read_text(), ROOT / "results" / "budgets"
    rows = []
    for path in sorted((folder / "hopper-medium-v2-explained").glob("*.json")):
        found, steps = json.loads(path.read_text()), path.stem.partition("-steps")[0]
        before, of_data = found["before_end"]["10"], found["before_end_of_data"]["10"]
        cells = [f"{ {'five': 5, 'twenty-five': 25}[steps] }, {found['epoch']}", f"{found['score']:.1f}"]
        cells += [f"{found[name]:.0f}" for name in ("length", "length_in_model")]
        cells += [f"{of['value']:.0f}" for of in (found["on_data"], of_data, before)]
        rows.append(" | ".join([*cells, f"{before['u']:.2f}", f"{before['distance']:.1f}"]))
    assert len(rows) > 2 and all(f"| {row} |" in page for row in rows)
    curves = sorted((folder / "hopper-medium-v2-rollouts").glob("*/seed_*/record/policy_training_progress.csv"))
    for curve in curves:
        scores = [float(row["eval/normalized_episode_reward"]) for row in csv.DictReader(curve.open())]
        told = [f"{np.mean(scores[epoch - 10 : epoch]):.1f}" for epoch in range(25, len(scores) + 1, 25)]
        assert f"| {' | '.join(told)} |" in page


def test_the_pretraining_on_the_new_recipe_is_what_its_curve_says():
    """results/budgets: means of ten epochs, the single evaluations above 40, and the held-out loss of the dynamics."""
    page = (ROOT / "results" / "budgets" / "README.md").read_text()
    (run,) = (ROOT / "results" / "budgets" / "hopper-medium-v2-version-4").glob("*ratio=1/seed_*/record")
    scores, losses = (
        [float(row[name]) for row in csv.DictReader((run / f"{progress}_training_progress.csv").open())]
        for progress, name in (("policy", "eval/normalized_episode_reward"), ("dynamics", "loss/dynamics_holdout_loss"))
    )
    told = [f"{np.mean(scores[epoch - 10 : epoch]):.1f}" for epoch in range(10, len(scores) + 1, 10)]
    assert f"| {' | '.join(told)} |" in page and len(told) == 10
    high = [f"{score:.1f} (epoch {epoch})" for epoch, score in enumerate(scores, 1) if score > 40]
    assert f"{', '.join(high)}" in " ".join(page.split()) and f"held-out loss of {losses[-1]:.4f}" in page


def _choices(run):
    """The scores of the epochs that the mean over elites and their lower bound take, of stage 5 or, before it, 1."""
    rows = [row for row in run.curve if row["stage"] == (5 if run.summary else 1)]
    best = [max(rows, key=lambda row: row[ESTIMATES[name]]) for name in ("mean", "lower bound")]
    return [f"{row['eval/normalized_episode_reward']:.1f}" for row in best]


def test_how_well_the_model_ranks_policies_by_its_horizon_is_what_the_curves_say():
    """docs/real-system.md: rank correlations with the score over the epochs of a stage 1 and its arms, twice."""
    page = (ROOT / "docs" / "real-system.md").read_text()
    for folder, horizon in (("hopper-medium-v2-version-4", "50"), ("hopper-medium-v2-selected", "episode")):
        runs = find_runs([ROOT / "results" / "budgets" / folder])
        for run in runs:
            stage = 5 if run.summary else 1
            rows = [row for row in run.curve if row["stage"] == stage]
            scores = [row["eval/normalized_episode_reward"] for row in rows]
            columns = ([row[name] for row in rows] for name in ESTIMATES.values())
            told = [f"{rank_correlation(scores, column):+.2f}" for column in columns]
            arm = "" if stage == 1 else f"control {run.control}" if run.control else "ratio auto"
            assert f"| {stage} | {arm} | `{horizon}` | {' | '.join(told)} |" in page, (folder, arm, told)
        assert len(runs) == 4
    chosen = {run.control or ("5" if run.summary else "1"): _choices(run) for run in runs}
    assert chosen == {"1": ["9.1", "37.1"], "5": ["93.4"] * 2, "no-online-data": ["37.4", "35.7"],
                      "extra-training": ["33.3", "25.5"]}  # fmt: skip


def test_what_was_chosen_in_the_model_is_what_the_runs_say():
    """results/budgets: the curve of stage 1, what each arm would have ended at, and what P̂ and P̂* say of π_off."""
    page = " ".join((ROOT / "results" / "budgets" / "README.md").read_text().split())
    runs = find_runs([ROOT / "results" / "budgets" / "hopper-medium-v2-selected"])
    (pretraining,) = (run for run in runs if not run.summary)
    scores = [row["eval/normalized_episode_reward"] for row in pretraining.curve]
    told = [f"{np.mean(scores[epoch - 10 : epoch]):.1f}" for epoch in range(10, 101, 10)]
    assert f"| {' | '.join(told)} |" in page and max(scores[75:]) < 10
    assert f"Epoch 23 had a score of {scores[22]:.1f}" in page and scores[22] == max(scores)
    for run in runs:
        if run.summary:
            first, second = run.results["policy_choice"]
            assert (first["epoch"], second["by"]) == (94, "model_return") and run.results["horizon"] == 1000
            last = np.mean([row["eval/normalized_episode_reward"] for row in run.curve if row["stage"] == 5][-10:])
            assert f"| {run.results['gain']:+.1f} | {last:.1f} | {second['epoch']} |" in page
    said = {run.control: run.results["model_return"]["pretrained"] for run in runs if run.summary}
    assert f"its episodes are worth {said[None]['before']['mean']:.0f}, P̂* says {said[None]['mean']:.0f}" in page
    assert f"longer from D alone, {said['no-online-data']['mean']:.0f}" in page


def test_what_a_million_rows_are_worth_is_what_the_curves_say():
    """results/budgets: returns, true and in the model, and the policy that the mean over elites chose wrongly."""
    page = " ".join((ROOT / "results" / "budgets" / "README.md").read_text().split())
    folders = [ROOT / "results" / "budgets" / f"hopper-medium-v2-{name}" for name in ("million-rows", "selected")]
    for end in range(25, 151, 25):
        cells = []
        for folder in folders:
            (run,) = (run for run in find_runs([folder]) if run.summary is None)
            rows = run.curve[end - 25 : end]
            names = ("eval/normalized_episode_reward", "eval/episode_reward", "eval/model_return")
            means = [np.mean([row[name] for row in rows]) for name in names] if rows else []
            cells += [f"{mean:.{digits}f}" for mean, digits in zip(means, (1, 0, 0), strict=True)] if rows else [""] * 3
        assert " ".join(f"| {end} | {' | '.join(cells)} |".split()) in page
    (doof,) = (run for run in find_runs(folders[:1]) if run.summary)
    before, after = (doof.results["scores"][name] for name in ("pretrained", "finetuned"))
    first, second = doof.results["policy_choice"]
    assert (first["epoch"], second["epoch"]) == (90, 25)
    assert f"**DOOF lost {-doof.results['gain']:.1f} points here**, from {before['last_10']:.1f} to" in page
    final = f"{before['final']['mean']:.1f} and {after['final']['mean']:.1f}"
    assert f"{after['last_10']:.1f} ({final} in the final" in page
    stage_5 = [row for row in doof.curve if row["stage"] == 5]
    chosen, pi_off = stage_5[24], doof.results["model_return"]["pretrained"]
    assert f"worth {chosen['eval/model_return']:.0f} in P̂* to π_off's {second['before']:.0f}, with" in page
    spreads = f"deviation of {chosen['eval/model_return_spread']:.0f} among the elites, where π_off has"
    best, stays = max(row[ESTIMATES["lower bound"]] for row in stage_5), pi_off["mean"] - pi_off["spread"]
    assert f"{spreads} {pi_off['spread']:.0f}" in page
    assert f"more than {best:.0f}, and π_off, worth {stays:.0f}, stays" in page


@pytest.mark.parametrize(
    "folder", ["hopper-medium-v2-rollouts-arms", "hopper-medium-v2-version-4", "hopper-medium-v2-selected"]
)
def test_the_arms_from_one_stage_1_are_what_their_summaries_say(folder):
    page = (ROOT / "results" / "budgets" / "README.md").read_text()
    runs = [run for run in find_runs([ROOT / "results" / "budgets" / folder]) if run.summary is not None]
    for run in runs:
        control, scores = run.settings["control"], run.results["scores"]
        before, after = (scores[name]["last_10"] for name in ("pretrained", "finetuned"))
        cells = [f"{before:.1f}", f"{after:.1f}", f"{scores['finetuned']['final']['mean']:.1f}"]
        label = f"control {control}" if control else f"ratio {text_of(run.settings['exploration_ratio'])}"
        assert f"| {label} | {' | '.join(cells)} | {run.results['gain']:+.1f} |" in page
    assert len(runs) == 3


@pytest.mark.parametrize(
    ("study", "page"),
    [("short", "README.md"), ("baselines", "baselines/README.md"), ("baselines-lite", "baselines-lite/README.md")],
)
def test_no_run_of_a_study_is_left_out(study, page):
    """Each run that was planned is there and finished, or is named on the page; and nothing else is there."""
    page, runs = (ROOT / "results" / page).read_text(), find_runs([ROOT / "results" / study])
    planned = plan_runs(argv for table in read_grid(str(ROOT / "studies" / f"{study}.toml")) for argv in expand(table))
    found = {identity(recorded_settings(run.directory)): run for run in runs}
    assert set(found) <= {run.identity for run in planned} and len(found) == len(runs)
    for run in planned:
        finished = run.identity in found and found[run.identity].summary is not None
        assert finished != (f"- {run.config.task}, seed {run.config.seed}, {run.arm}: " in page), run


@needs_report
def test_the_studys_tables_are_what_its_runs_say(short):
    page = (ROOT / "results" / "README.md").read_text()
    tables = _drawn_again(short, SHORT)
    for name in ("table-3", "table-7", "table-distance", "table-tail", "table-u", "table-time"):
        assert tables[name] in page, name


@needs_report
def test_the_table_of_baselines_beside_doof_is_what_the_runs_say():
    folders = [ROOT / "results" / name for name in ("baselines", "short/halfcheetah-random-v2", "precision")]
    tables = _drawn_again(find_runs(folders), ROOT / "results" / "baselines")
    for page in ("results/baselines/README.md", "docs/baselines.md"):
        assert tables["table-3"] in (ROOT / page).read_text()


@needs_report
def test_the_table_of_baselines_at_lites_budget_is_what_the_runs_say():
    folders = [ROOT / "results" / name for name in ("baselines-lite", "budgets/hopper-medium-v2-selected")]
    tables = _drawn_again(find_runs(folders), ROOT / "results" / "baselines-lite")
    assert tables["table-3"] in (ROOT / "results" / "baselines-lite" / "README.md").read_text()


def test_what_fowm_came_to_is_what_its_curve_says():
    """results/baselines: each of its evaluations."""
    (run,) = (run for run in find_runs([ROOT / "results" / "baselines"]) if run.method == "FOWM")
    scores = [f"{float(row['eval/normalized_episode_reward']):.1f}" for row in run.curve]
    assert f"| {' | '.join(scores)} |\n" in (ROOT / "results" / "baselines" / "README.md").read_text()


def test_the_gains_of_each_seed_are_what_the_summaries_say(short):
    page = (ROOT / "results" / "README.md").read_text()
    runs = [run for run in short if run.task == "halfcheetah-random-v2" and run.summary]
    arms, seeds = list(dict.fromkeys(run.arm for run in runs)), sorted({run.seed for run in runs})
    gains = {(run.arm, run.seed): f"{run.results['gain']:+.1f}" for run in runs}
    assert f"| HC-r, gain | {' | '.join(f'seed {seed}' for seed in seeds)} |" in page
    for arm in arms:
        assert f"| {arm} | {' | '.join(gains.get((arm, seed), '') for seed in seeds)} |" in page


def test_the_run_of_the_papers_budget_is_shown_as_unfinished():
    """results/paper: as far as it got, each tenth epoch in the page's table."""
    page = (ROOT / "results" / "README.md").read_text()
    (run,) = find_runs([ROOT / "results" / "paper"])
    assert run.settings["preset"] == "paper" and run.provenance == "recipe" and run.problem.startswith("unfinished: ")
    (progress,) = (ROOT / "results" / "paper").rglob("dynamics_training_progress.csv")
    losses = [row["loss/dynamics_holdout_loss"] for row in csv.DictReader(progress.read_text().splitlines())]
    assert f"{len(losses)} epochs of dynamics training and {len(run.curve)} of 3 000 of pretraining" in page
    epochs = range(10, len(losses) + 1, 10)
    assert f"| held-out loss, epoch | {' | '.join(map(str, epochs))} |\n" in page
    assert f"| | {' | '.join(f'{float(losses[epoch - 1]):.3f}' for epoch in epochs)} |\n" in page


def test_the_distances_on_held_out_steps_are_what_the_guarded_runs_say():
    page = (ROOT / "results" / "README.md").read_text()
    found = [run for run in find_runs([ROOT / "results" / "guard" / "halfcheetah-random-v2"]) if run.results["guard"]]
    online = [run.results["guard"][-1]["attempts"][-1]["online"] for run in sorted(found, key=lambda run: run.seed)]
    for when, label in (("before", "distance to the recorded step before stage 4"), ("after", "after stage 4")):
        cells = [f"{of[when]['distance']:.2f}" for of in online]
        assert f"| {label} | {' | '.join(cells)} |" in page


def test_the_table_of_precisions_is_what_the_runs_say(short):
    """results/precision: each of its runs is a row, beside the study's run of the same settings at highest."""
    page = (ROOT / "results" / "precision" / "README.md").read_text()
    found = [run for run in short if run.task == "halfcheetah-random-v2" and run.arm == "ratio 1" and run.summary]
    found += [run for name in ("precision", "precision-again") for run in find_runs([ROOT / "results" / name])]
    for run in found:
        with open(os.path.join(run.directory, "record", "dynamics_training_progress.csv")) as file:
            rows = list(csv.DictReader(file))
        losses = {int(row["timestep"]): f"{float(row['loss/dynamics_holdout_loss']):.3f}" for row in rows}
        before, after = (run.results["scores"][name] for name in ("pretrained", "finetuned"))
        cells = [f"{before['last_10']:.1f}", f"{after['last_10']:.1f}", f"{after['best']:.1f}"]
        cells += [f"{after['final']['mean']:.1f}", f"{run.results['gain']:+.1f}"]
        cells += [losses.get(run.settings["dynamics_epochs"], ""), losses[max(losses)]]  # a shared stage 1 is not in it
        assert f"| {run.seed} | {run.settings['matmul_precision']} | {' | '.join(cells)} |" in page
    assert page.count("| medium |") + page.count("| highest |") == len(found)


_DECIMAL = re.compile(r"(?<![\w.])[-+−]?\d+\.\d+(?![\w.])")


def _prose(page):
    return "\n".join(line for line in page.splitlines() if not line.startswith("|"))


def test_the_studys_prose_has_no_number_that_its_tables_do_not_have():
    page = (ROOT / "results" / "README.md").read_text()
    in_tables = set(_DECIMAL.findall("\n".join(line for line in page.splitlines() if line.startswith("|"))))
    assert set(_DECIMAL.findall(_prose(page))) <= in_tables


def test_the_readmes_table_is_the_studys():
    readme, rows = (ROOT / "README.md").read_text(), (SHORT / "tables" / "table-3.csv").read_text().splitlines()
    headings, *rows = csv.reader(rows)
    over = ("over no-online-data", "over extra-training", "over ratio 0")
    shown = ("task", "arm", "seeds", "pretrained", "finetuned", "gain", *over)
    lines = [f"| {' | '.join(row[headings.index(name)] for name in shown)} |" for row in (headings, *rows)]
    assert lines[0] in readme
    assert [line for line in readme.splitlines() if line.startswith(("| HC-", "| HP-", "| WK-"))] == [
        line for line in lines[1:] if line.split(" | ")[1] in ("ratio 0", "ratio 1") or "control" in line
    ]
    study = "\n".join(line for row in rows for line in row)
    paragraph = readme.split("## Two commands")[0]
    assert set(_DECIMAL.findall(_prose(paragraph))) <= set(_DECIMAL.findall(study))
