"""Many runs on Ray, on this machine or on a cluster: the plan, the runs with a live table, the report.

python run_example/tune_doof.py --tasks hopper-medium-v2,walker2d-random-v2 --seeds 1,2 --ratios 0,1 --preset lite
python run_example/tune_doof.py --grid studies/lite.toml --dry-run

Every other flag of run_doof.py is one of all runs. What is finished in --logdir is not run again, and what is not is
resumed: the same command goes on after anything. Runs with the same stage 1 train it once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Sequence

from doof_ext.cli.exit_code import exit_code_of
from doof_ext.config import Config, OneLineParser
from doof_ext.config.settings import CONTROLS
from doof_ext.errors import UserError

_METRICS = ("model-reward", "score")
_METRIC = "what ASHA judges by: the ensemble's reward less uncertainty, or the true score (default: model-reward)"


def _make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    runs = parser.add_argument_group("which runs: every combination of the values, which are separated by commas")
    runs.add_argument("--tasks", help="tasks")
    runs.add_argument("--seeds", help="seeds")
    runs.add_argument("--ratios", help="exploration ratios")
    runs.add_argument("--algos", help="offline algorithms: mopo, mobile")
    runs.add_argument("--uncertainties", help="estimators of u")
    runs.add_argument("--baselines", help="baselines beside them: iql, cql, cal-ql, spot, pex, fowm")
    runs.add_argument(
        "--control", nargs="*", metavar="KIND", help=f"the controls beside the ratios; without a kind, {CONTROLS[0]}"
    )
    runs.add_argument("--grid", metavar="FILE", help="a TOML file of such combinations; see studies/lite.toml")
    runs.add_argument("--search", metavar="FILE", help="a TOML file of distributions to draw flags from, with ASHA")
    runs.add_argument("--metric", choices=_METRICS, default=_METRICS[0], help=_METRIC)
    how = parser.add_argument_group("how they are run")
    how.add_argument("--logdir", default="log", help="run directories, study.json and the report (default: log)")
    how.add_argument("--jobs", type=int, help="runs at a time (default: cores / --threads)")
    how.add_argument("--threads", type=int, default=1, help="torch threads of a run (default: 1)")
    how.add_argument("--nice", type=int, default=0, help="added to the niceness of the runs (default: 0)")
    how.add_argument("--ray-address", metavar="ADDRESS", help="a Ray cluster whose machines share --logdir")
    how.add_argument(
        "--max-failures", type=int, default=3, help="restarts of a run whose process or machine dies (default: 3)"
    )
    how.add_argument("--mix", action="store_true", help="as report_doof.py's, for the report at the end")
    how.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    return parser


def main(argv: Sequence[str] | None = None, command: str = "tune_doof.py") -> int:
    """Runs a sweep from a command line; returns the exit code."""

    def run() -> None:
        args, shared = _make_parser().parse_known_args(argv)
        for name, least in (("jobs", 1), ("threads", 1), ("nice", 0), ("max_failures", 0)):
            value = getattr(args, name)
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}")
        needs_ray = args.search is not None or not args.dry_run
        if needs_ray and importlib.util.find_spec("ray") is None:
            raise UserError("sweeps need Ray: pip install 'doof_ext[tune]'")
        logdir = os.path.abspath(os.path.expanduser(args.logdir))
        from doof_ext.sweep.plan import plan_runs
        from doof_ext.sweep.progress import Metric
        from doof_ext.sweep.search import read_search

        search, metric = read_search(args.search) if args.search else None, None
        argvs = _command_lines(args, [*shared, "--logdir", logdir])
        runs = plan_runs(argvs)
        if search is not None:
            if len(runs) != 1:
                raise UserError(f"--search draws flags for one task, seed and arm; these are {len(runs)} runs")
            config = runs[0].config
            if not isinstance(config, Config):
                raise UserError("--search draws flags for DOOF's runs, not for a baseline's")
            metric = Metric(args.metric, config.penalty_coef)
            runs = plan_runs([*runs[0].argv, *drawn] for drawn in search.draw())
        from doof_ext.sweep.sweep import Options, sweep  # imports torch

        options = Options(
            logdir=logdir,
            threads=args.threads,
            jobs=args.jobs,
            nice=args.nice,
            address=args.ray_address,
            max_failures=args.max_failures,
            mix=args.mix,
            dry_run=args.dry_run,
            search=search,
            metric=metric,
        )
        sweep(runs, options)

    return exit_code_of(command, run)


def _command_lines(args: argparse.Namespace, shared: Sequence[str]) -> list[list[str]]:
    """run_doof.py's flags of each run; what the command line says itself comes after, and so before, what a file says.

    Raises:
        UserError: A file's table does not fit, with its number.
    """
    from doof_ext.sweep.grid import PLURALS, expand, from_line, read_grid
    from doof_ext.sweep.plan import plan_runs

    control = CONTROLS[:1] if args.control == [] else args.control
    line = from_line({**{name: getattr(args, name) for name in PLURALS}, "control": control})
    if args.grid is None:
        return [[*argv, *shared] for argv in expand(line)]
    found = []
    for number, table in enumerate(read_grid(args.grid), 1):
        argvs = [[*argv, *shared] for argv in expand(table | line)]
        try:
            plan_runs(argvs)
        except UserError as error:
            raise UserError(f"{args.grid}, table {number}: {error}") from error
        found += argvs
    return found
