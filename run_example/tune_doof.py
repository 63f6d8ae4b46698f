"""Many runs on Ray, on this machine or on a cluster: the plan, the runs with a live table, the report.

python run_example/tune_doof.py --tasks hopper-medium-v2,walker2d-random-v2 --seeds 1,2 --ratios 0,1 --preset lite
python run_example/tune_doof.py --grid studies/lite.toml --dry-run
"""

import sys

from doof_ext.cli.tune import main

if __name__ == "__main__":
    sys.exit(main())
