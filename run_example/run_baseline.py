"""A baseline of Table 3 on a task: offline pretraining, online finetuning (ON-10K), offline finetuning (OFF-300K).

python run_example/run_baseline.py --algo iql --task hopper-medium-v2 --preset lite
"""

import sys

from doof_ext.cli.baseline import main

if __name__ == "__main__":
    sys.exit(main())
