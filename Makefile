# Two commands for a newcomer: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
SEED ?= 1
STUDY ?= short

# Bytecode is kept wherever it is made: PyTorch's sources take five seconds of every process otherwise.
unexport PYTHONDONTWRITEBYTECODE

# The original stack, beside it: gym 0.23.1, d4rl 1.1, mujoco-py 2.1 and the kit.
PYTHON310 ?= python3.10
LEGACY := .venv-legacy
KIT ?= git+https://github.com/yihaosun1124/OfflineRL-Kit@e3ce697

.PHONY: quickstart test test-slow test-legacy legacy lint docs wheel study

quickstart: $(VENV)/installed
	$(BIN)/python run_example/quickstart.py --seed $(SEED)

test: $(VENV)/ready lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The runs of studies/$(STUDY).toml, which go on after anything: first the plan and the hours, at the end results/$(STUDY).
study: $(VENV)/ready
	$(BIN)/doof tune --grid studies/$(STUDY).toml --mix --logdir log/$(STUDY) || [ $$? -eq 1 ] # what failed is shown
	$(BIN)/python tools/gather_results.py log/$(STUDY) results/$(STUDY)
	$(BIN)/doof report results/$(STUDY) --mix --out results/$(STUDY)

wheel:
	tools/check_wheel.sh $(PYTHON) torch==2.13.0

# What a run and a report need; then the rest of the lock, for tests and docs.
$(VENV)/installed: requirements.lock setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint requirements.lock --editable '.[report]'
	touch $@

$(VENV)/ready: $(VENV)/installed
	$(BIN)/pip install --quiet --no-compile --requirement requirements.lock
	touch $@

legacy: $(LEGACY)/ready

test-legacy: $(LEGACY)/ready
	DOOF_KIT=offlinerlkit D4RL_SUPPRESS_IMPORT_ERROR=1 $(LEGACY)/bin/python -m pytest -n $(WORKERS)

# Debian 12: apt-get install libosmesa6-dev libgl1-mesa-dev libglew-dev patchelf. The last line compiles mujoco-py.
$(LEGACY)/ready: requirements-legacy.txt setup.py pyproject.toml
	$(PYTHON310) -m venv $(LEGACY)
	$(LEGACY)/bin/pip install --quiet --upgrade pip wheel "setuptools<70" "numpy<1.24" "Cython<3"
	$(LEGACY)/bin/pip install --quiet --no-build-isolation --requirement requirements-legacy.txt
	$(LEGACY)/bin/pip install --quiet --no-deps --no-build-isolation d4rl==1.1 "$(KIT)" --editable .
	$(LEGACY)/bin/python -W ignore -c "import mujoco_py"
	touch $@
