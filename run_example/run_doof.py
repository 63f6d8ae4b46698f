"""DOOF (Decoupled Offline to Online Finetuning) on a task, from offline pretraining to the finetuned policy.

python run_example/run_doof.py --task hopper-medium-v2 --preset quick
"""

import sys

from doof_ext.closing import run_to_end
from doof_ext.config import parse_args


def run():
    config = parse_args(__doc__)
    from doof_ext import pipeline  # torch and the simulator load only for a run that can start

    return pipeline.run(config)


if __name__ == "__main__":
    sys.exit(run_to_end("run_doof.py", run))
