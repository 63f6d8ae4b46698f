"""How a command ends: the closing table and exit code 0, or one line on the error and its code."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from doof_ext.errors import Interrupted, RunStoppedError, StoppedAfter, UserError


def print_anywhere() -> None:
    """Has standard output show a ? for what a terminal's encoding lacks; standard error does as much by itself."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def closing_table(summary: Mapping[str, Any]) -> str:
    """A run's results in a few lines: three scores, the model's estimates, the gains, the dynamics distance.

    Where nothing was evaluated, a line says so in place of scores and gains.
    """
    data = summary["dataset"]
    kind = "recipe data" if data["source"] == "recipe" else f"{data['source']} data"
    lines = [f"{summary['task']}, {kind}, {data['transitions']} transitions + {summary['online_steps']} online steps"]
    estimates = _model_returns(summary["model_return"], summary["horizon"])
    if summary["gain"] is None:
        lines += [f"no scores: {summary['scores']['finetuned']['reason']}", *estimates]
    else:
        lines += [*_scores(summary["scores"]), *estimates, _gain(summary), _legend(summary["scores"]["finetuned"])]
    lines += _distance(summary["distance"])
    lines += [_ratios(round, choice) for round, choice in enumerate(summary["ratio_choice"], start=1)]
    lines += [_verdict(round, verdict) for round, verdict in enumerate(summary["guard"], start=1)]
    lines += map(_choice, summary["policy_choice"])
    if summary.get("rounds_ended_by") is not None:
        lines.append(f"rounds: none after round {summary['rounds']}, {summary['rounds_ended_by']}")
    return "\n".join(lines)


def _distance(distance: Mapping[str, Any]) -> list[str]:
    """The line of the dynamics distance; none of a run without dynamics."""
    if not distance:
        return []
    before, after = (distance["fake_buffer"][when]["mean"] for when in ("before", "after"))
    if before is None:
        return ["dynamics distance on the fake buffer: not measured, for no simulator starts in its states"]
    return [f"dynamics distance on the fake buffer, mean: {before:.4g} before, {after:.4g} after finetuning"]


def _scores(scores: Mapping[str, Any]) -> list[str]:
    """The lines of the scores."""
    final = any(score["final"] for score in scores.values())
    names = ("score", "last", "std", "best", "length", *(["final"] if final else []))
    lines = [f"{'policy':<14}{''.join(f' {name:>7}' for name in names)}"]
    for name, score in scores.items():
        numbers = [score[column] for column in ("last_10", "mean", "std", "best", "length")]
        numbers += [score["final"] and score["final"]["mean"]] * final
        cells = ("-" if number is None else f"{number:.1f}" for number in numbers)
        lines.append(f"{name:<14}{''.join(f' {cell:>7}' for cell in cells)}")
    return lines


def _gain(summary: Mapping[str, Any]) -> str:
    """The line of the gain, and of the gains over the controls."""
    over = ", ".join(f"{gain:+.1f} over the control {kind}" for kind, gain in summary["gain_over"].items())
    return f"{'gain':<14}{summary['gain']:>+8.1f}{f'   ({over})' if over else ''}"


def _model_returns(found: Mapping[str, Any], horizon: int) -> list[str]:
    """The lines of the model's estimates; none where there are none."""
    if not found:
        return []
    lines = [f"{'model return':<14}{'mean':>10}{'least':>10}{'spread':>10}{'penalised':>10}{'before':>10}"]
    diverged = False
    for name, figures in found.items():
        numbers = [figures[column] for column in ("mean", "pessimistic", "spread", "penalised_mean")]
        numbers.append(figures["before"]["mean"])
        diverged |= None in numbers
        cells = ("-" if number is None else f"{number:.4g}" for number in numbers)
        lines.append(f"{name:<14}{''.join(f'{cell:>10}' for cell in cells)}")
    what = f"sums of {horizon} predicted rewards in each elite of the finetuned dynamics"
    legend = f"model return: {what}; penalised: less lambda_off u; before: mean in the pretrained dynamics"
    return [*lines, f"{legend}; -: an elite diverges" if diverged else legend]


def _verdict(round: int, verdict: Mapping[str, Any]) -> str:
    """What the guard did in a round, in one line."""
    if not verdict["accepted"]:
        return f"guard: round {round} refused, dynamics and policy are as before it: {'; '.join(verdict['reasons'])}"
    online = verdict["attempts"][-1]["online"]
    before, after = (online[when]["distance"] for when in ("before", "after"))
    return f"guard: round {round} accepted, distance on {verdict['held_out']} held-out steps {before:.4g} → {after:.4g}"


def _choice(choice: Mapping[str, Any]) -> str:
    """Which policy stage 5 of a round, or stage 1, returned, in one line."""
    which = f"the policy of epoch {choice['epoch']} of {choice['epochs']}"
    if not choice["epoch"]:
        which = "the policy from before it, which no epoch was better than" if choice["round"] else "the last policy"
    estimates = ("-" if choice[name] is None else f"{choice[name]:.4g}" for name in ("before", "chosen", "last"))
    by = {
        None: "nothing tells them apart",
        "evaluations": "mean of the last ten evaluations",
        "model_return": "mean return in the model",
    }
    told = by.get(choice["by"], "return in the model, elites' mean less their spread")
    before, chosen, last = estimates
    if choice["round"] == 0:
        return f"policy selection: stage 1 returns {which} ({told}: {chosen} chosen, {last} at the end)"
    values = f": {before} before, {chosen} chosen, {last} at the end" if choice["by"] else ""
    return f"guard: round {choice['round']} returns {which} ({told}{values})"


def _ratios(round: int, choice: Mapping[str, Any]) -> str:
    """Which ratio was chosen in a round, and among which, in one line."""
    tried = ", ".join(
        f"{one['ratio']:g}: {'-' if one['uncertainty'] is None else format(one['uncertainty'], '.3g')}"
        f"{'' if one['allowed'] else ' (loses too much)'}"
        for one in choice["candidates"]
    )
    who = {None: "", 0: ", the pretrained policy collected"}.get(
        choice["epoch"], f", epoch {choice['epoch']} collected"
    )
    return f"ratio: round {round} explored at {choice['ratio']:g}{who} (u of a step in the model, by ratio: {tried})"


def _legend(score: Mapping[str, Any]) -> str:
    """What the columns of the scores are."""
    if score["best"] is None:
        return f"score: of the last evaluation alone, of {score['episodes']} episodes, as earlier versions had it"
    final = f"; final: {score['final']['episodes']} episodes at the end" if score["final"] else ""
    last = f"last, std, length: of the last one, {score['episodes']} episodes"
    return f"score: mean of the last ten evaluations of the stage; {last}; best: of all{final}"


def exit_code_of_run(
    command: str, run: Callable[[], tuple[Mapping[str, Any], str]], resume_flag: str = "--resume"
) -> int:
    """Calls ``run()``, which returns a summary and its run directory, and prints the results.

    Args:
        command: The command's name, for an error's line.
        run: The run.
        resume_flag: The flag by which a run that was stopped is resumed.

    Returns:
        The exit code.
    """

    def run_and_print() -> None:
        summary, directory = run()
        _print(closing_table(summary), sys.stdout)
        _print(f"summary: {os.path.join(directory, 'result', 'summary.json')}", sys.stdout)

    return exit_code_of(command, run_and_print, resume_flag)


def exit_code_of(command: str, function: Callable[[], object], resume_flag: str = "--resume") -> int:
    """Calls a command's function; what a user can mend ends it in one line.

    Returns:
        The exit code: 0, also for StoppedAfter; 2 for a UserError; 1 for a RunStoppedError; 128 + signal for
        Interrupted.
    """
    print_anywhere()
    try:
        function()
        return 0
    except StoppedAfter as stopped:
        _print(_what_is_next(stopped, resume_flag), sys.stdout)
        return 0
    except UserError as error:
        code, message = 2, f"error: {error}"
    except RunStoppedError as error:
        code, message = 1, f"stopped: {error}{_how_to_resume(error, resume_flag)}"
    except Interrupted as error:
        code, message = 128 + error.number, f"{error}{_how_to_resume(error, resume_flag)}"
    except KeyboardInterrupt:
        code, message = 130, "stopped before the run began"
    _print(f"{command}: {message}", sys.stderr)
    return code


def _print(text: str, stream: TextIO) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody may read it any more
        print(text, file=stream, flush=True)


def _what_is_next(stopped: StoppedAfter, flag: str) -> str:
    run = shlex.quote(stopped.run_directory or "")
    if stopped.stage != "explore":
        return f"stage {stopped.stage} is complete; next: {flag} {run}"
    ways = []
    if stopped.has_session:
        ways.append(f'  {flag} "$RUN" after a doof_ext.OnlineSession(RUN) in your control loop')
    if flag == "--resume":  # a kit's runner takes no files
        ways.append(f'  {flag} "$RUN" --online-data FILE ... with steps that you have collected')
    if stopped.has_env:
        ways.append(f'  {flag} "$RUN" with the steps that the run takes in its own environment')
    waits = f"stage explore is complete: the run waits for its online steps. With RUN={run}, next is one of"
    return "\n".join([waits, *ways])


def _how_to_resume(error: RunStoppedError | Interrupted, flag: str) -> str:
    directory = error.run_directory
    return f"; resume it with {flag} {shlex.quote(directory)}" if directory else ""
