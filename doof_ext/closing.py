"""How a command ends: the closing table, or an error in one line."""

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
    try:
        summary, directory = run()
    except UserError as error:
        print(f"{command}: error: {error}", file=sys.stderr)
        return 2
    except RunStoppedError as error:
        print(f"{command}: stopped: {error}{_how_to_go_on(error, resume_flag)}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(f"{command}: {error}{_how_to_go_on(error, resume_flag)}", file=sys.stderr)
        return 128 + error.number
    except KeyboardInterrupt:
        print(f"{command}: stopped before the run began", file=sys.stderr)
        return 130
    print(closing_table(summary))
    print(f"summary: {os.path.join(directory, 'result', 'summary.json')}")
    return 0


def _how_to_go_on(error, flag):
    directory = getattr(error, "run_directory", None)
    return f"; go on from its last checkpoint with {flag} {shlex.quote(directory)}" if directory else ""
