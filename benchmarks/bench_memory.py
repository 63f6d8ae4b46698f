"""Peak memory of a run at paper sizes: a million transitions, a full fake buffer, all five stages, one epoch of each.

python benchmarks/bench_memory.py
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_load import write

from doof_ext.tasks import get_spec

ROOT = Path(__file__).parents[1]
TASK = "halfcheetah-medium-v2"


def main(steps=1_000_000):
    """Prints the most memory that the run held, in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "data.hdf5")
        write(data, get_spec(TASK), steps)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        command = [
            sys.executable,
            "-W",
            "ignore",
            str(ROOT / "run_example" / "run_doof.py"),
            "--task",
            TASK,
            "--logdir",
            folder,
            "--source",
            f"hdf5:{data}",
            "--wandb",
            "off",
            "--dynamics-epochs",
            "1",
            "--epoch",
            "1",
            "--explore-epochs",
            "1",
            "--finetune-epochs",
            "1",
            "--rollout-freq",
            "200",
            "--step-per-epoch",
            "1000",
            "--online-steps",
            "1000",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert peak > before
    print(f"{steps} transitions, fake buffer of 1250000: peak {peak / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
