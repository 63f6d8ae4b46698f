"""DOOF (Decoupled Offline to Online Finetuning) on a task, from offline pretraining to the finetuned policy.

python run_example/run_doof.py --task hopper-medium-v2 --preset quick
"""

import sys

from doof_ext.cli.run import main

if __name__ == "__main__":
    sys.exit(main())
