"""Every figure and table of the paper, for your runs, and one page to share.

python run_example/report_doof.py log --out report
"""

import sys

from doof_ext.cli.report import main

if __name__ == "__main__":
    sys.exit(main())
