"""Makes, converts and describes datasets in D4RL's HDF5 format.

python run_example/make_dataset.py --task walker2d-medium-v2 --source recipe --steps 20000 --out walker2d.hdf5
python run_example/make_dataset.py --info walker2d.hdf5
"""

import sys

from doof_ext.cli.data import main

if __name__ == "__main__":
    sys.exit(main())
