"""python -m doof_ext PATH/run_mopo.py --task hopper-medium-v2 [the runner's flags] [--doof-preset smoke …]

Runs one of OfflineRL-Kit's model-based runners (run_mopo.py, run_mobile.py) as it is, with DOOF's stages 2-5 after its
pretraining. run_doof.py's flags follow with the prefix --doof-; the preset rules what the runner leaves open: dataset
size, dynamics epochs, stages 2-5.
"""

import sys

from doof_ext.closing import run_to_end


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return 0

    def run():
        from doof_ext.launcher import launch

        return launch(sys.argv[1:])

    return run_to_end("doof_ext", run, "--doof-resume")


if __name__ == "__main__":
    sys.exit(main())
