"""A run's policy as a folder that needs neither the run nor doof_ext: the network, checked, and policy.json.

python run_example/export_doof.py RUN --format numpy --out my-policy
"""

import sys

from doof_ext.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
