# Every target makes its own .venv from the lock file when it needs one.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check check-catalogue bench torture gen release-image clean
.PHONY: use-cases
.DEFAULT_GOAL := test

# A run starts a hundred processes: the first compiles our modules for all, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

# The market with its providers, a first call, and a hundred sessions cleared; ONCE=1 ends by
# itself, SESSIONS=FILE takes those of a recording.
SESSIONS ?= $(wildcard ../shared/data/charging-sessions/dundee-2018-06-to-09.csv)
demo: $(STAMP)
	ONCE=$(ONCE) $(BIN)/gemarket demo $(if $(SESSIONS),--sessions $(SESSIONS))

# Two at a time, each with a PostgreSQL and markets of its own; a file's tests stay together.
# The order is ours, long files first: by number of tests, files of one long test come last.
test: $(STAMP)
	$(BIN)/pytest -m "not torture" -n 2 --dist loadfile --no-loadscope-reorder

# Long fault and soak runs, and every property with many examples.
torture: $(STAMP)
	HYPOTHESIS_PROFILE=deep $(BIN)/pytest -m "torture or hypothesis"

check: $(STAMP) check-catalogue
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# buf lint, buf breaking against proto/released.binpb, and gen/ as the sources make it.
check-catalogue: $(STAMP)
	$(BIN)/python -m proto.check

# One JSON object a line; ONLY=name runs one.
bench: $(STAMP)
	$(BIN)/python -m bench $(ONLY)

gen: $(STAMP)
	$(BIN)/python proto/generate.py

# docs/use-cases.md from the marks of the tests; no environment is needed.
use-cases:
	$(PYTHON) -m tests.use_cases

# Part of a release: what `buf breaking` compares with from now on.
release-image: $(STAMP)
	$(BIN)/python -m proto.check --release

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
