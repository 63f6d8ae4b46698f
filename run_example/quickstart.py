"""What online data are worth, in minutes: DOOF and its control from one pretraining, and the report of both.

python run_example/quickstart.py --seed 1

The control has the same numbers of steps in stages 4 and 5, every row of them from the offline data.
"""

import argparse
import sys

from doof_ext.cli.exit_code import closing_table, exit_code_of
from doof_ext.config import PRESETS, Config, resolve


def quickstart(args):
    from doof_ext.pipeline import run  # imports torch and the simulator
    from doof_ext.report.page import write_report

    def run_arm(**arm):
        shared = dict(task=args.task, preset=args.preset, seed=args.seed, logdir=args.logdir)
        given = dict(**shared, guard="off", wandb="off", **arm)  # the paper's algorithm, as results/quickstart has it
        return run(resolve(Config(**given), set(given)))

    control, pretraining = run_arm(control="no-online-data")
    doof, directory = run_arm(pretrained=pretraining)
    print(closing_table(doof))
    print(f"the control no-online-data: score {control['scores']['finetuned']['last_10']:.1f}, no step of the system")
    print(f"report: {write_report([pretraining, directory], args.out)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="halfcheetah-random-v2")
    parser.add_argument("--preset", default="quick", choices=PRESETS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logdir", default="log")
    parser.add_argument("--out", default="report", help="the folder of the report")
    args = parser.parse_args()
    return exit_code_of("quickstart.py", lambda: quickstart(args))


if __name__ == "__main__":
    sys.exit(main())
