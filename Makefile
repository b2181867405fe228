# make run    set up, run the DAGs under Airflow on a sample (or LOGS=<url> FORMAT=<name>), print an answer; ONCE=1 ends then
# make test   set up and run the tests, side by side; TESTS=tests/pipelines runs some
# make lint   ruff
# make clean  remove the environment and what the sample run left (.venv, .flywheel)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export FLYWHEEL_HOME ?= $(CURDIR)/.flywheel
# Nothing phones home.
export GX_ANALYTICS_ENABLED := false
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED := false

.PHONY: run test lint clean setup

run: $(VENV)/ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/flywheel run $(if $(LOGS),--logs '$(LOGS)') $(if $(FORMAT),--format '$(FORMAT)') $(if $(ONCE),--once)

# As many test processes as cores: numeric libraries need no threads of their own.
test: $(VENV)/ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(or $(TESTS),-n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder)

lint: $(VENV)/ready
	@$(BIN)/ruff check .

setup: $(VENV)/ready

# Python 3.11 to 3.13: Airflow's own range.
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not ((3, 11) <= v < (3, 14)) and f"Python 3.11, 3.12 or 3.13 is needed, this is {v.major}.{v.minor}; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@echo "Setting up $(VENV) (once; takes a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt pip setuptools wheel
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --group test --editable .
	@touch $@

clean:
	rm -rf $(VENV) .flywheel
