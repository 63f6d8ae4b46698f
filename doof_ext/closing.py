"""How a command ends: the closing table, or an error in one line."""

import contextlib
import os
import shlex
import sys

from doof_ext.errors import Interrupted, RunStoppedError, UserError


def closing_table(summary) -> str:
    """The run in a few lines: three scores, the gain, the dynamics distance before and after stage 4."""
    data = summary["dataset"]
    kind = "recipe data" if data["source"] == "recipe" else f"{data['source']} data"
    lines = [f"{summary['task']}, {kind}, {data['transitions']} transitions + {summary['online_steps']} online steps"]
    lines += [f"{'policy':<14}{'score':>8}{'std':>8}{'episodes':>10}"]
    for name, score in summary["scores"].items():
        lines.append(f"{name:<14}{score['mean']:>8.1f}{score['std']:>8.1f}{score['episodes']:>10}")
    lines.append(f"{'gain':<14}{summary['gain']:>+8.1f}")
    distance = summary["distance"]["fake_buffer"]
    before, after = distance["before"]["mean"], distance["after"]["mean"]
    if before is None:
        lines.append("dynamics distance on the fake buffer: none of its states could be simulated")
    else:
        lines.append(f"dynamics distance on the fake buffer, mean: {before:.4g} before, {after:.4g} after finetuning")
    return "\n".join(lines)


def run_to_end(command, run, resume_flag="--resume") -> int:
    """Calls ``run()``, which gives a summary and its run directory, and prints how it ended; returns the exit code."""

    def run_and_tell():
        summary, directory = run()
        _say(closing_table(summary), sys.stdout)
        _say(f"summary: {os.path.join(directory, 'result', 'summary.json')}", sys.stdout)

    return in_one_line(command, run_and_tell, resume_flag)


def in_one_line(command, function, resume_flag="--resume") -> int:
    """Calls a command's function; an end that is not ours to mend is one line. Returns the exit code."""
    try:
        function()
        return 0
    except UserError as error:
        code, message = 2, f"error: {error}"
    except RunStoppedError as error:
        code, message = 1, f"stopped: {error}{_how_to_go_on(error, resume_flag)}"
    except Interrupted as error:
        code, message = 128 + error.number, f"{error}{_how_to_go_on(error, resume_flag)}"
    except KeyboardInterrupt:
        code, message = 130, "stopped before the run began"
    _say(f"{command}: {message}", sys.stderr)
    return code


def _say(text, stream):
    with contextlib.suppress(BrokenPipeError):  # nobody may read it any more
        print(text, file=stream, flush=True)


def _how_to_go_on(error, flag):
    directory = getattr(error, "run_directory", None)
    return f"; go on from its last checkpoint with {flag} {shlex.quote(directory)}" if directory else ""
