#!/usr/bin/env bash
# Builds the wheel of the last commit, installs it without extras into an empty environment, and runs a smoke run outside the repository.
#
#   tools/check_wheel.sh [PYTHON] [CONSTRAINT …]     e.g. tools/check_wheel.sh python3.11 torch==2.13.0
set -euo pipefail
python=${1:-python3}
shift || true
repository=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/venv"
pip="$work/venv/bin/pip"
"$pip" install --quiet --upgrade pip
mkdir "$work/source" # a copy: what an earlier build left in the repository must not get into the wheel
git -C "$repository" archive HEAD | tar -x -C "$work/source"
"$pip" wheel --quiet --no-deps --wheel-dir "$work/dist" "$work/source"
"$pip" install --quiet "$@" "$work"/dist/doof_ext-*.whl
cd "$work"
export DOOF_DATA_DIR="$work/data" PYTHONPATH=
"$work/venv/bin/doof" --help > /dev/null
"$work/venv/bin/doof" run --preset smoke --task hopper-medium-v2 --source recipe --wandb off
ls "$work"/log/*/*/*/result/summary.json
"$work/venv/bin/python" --version
echo "the wheel works"
