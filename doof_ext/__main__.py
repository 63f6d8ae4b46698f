"""``python -m doof_ext PATH/run_mopo.py``: see doof_ext.cli.kit."""

import sys

from doof_ext.cli.kit import main

if __name__ == "__main__":
    sys.exit(main())
