# `make demo` and `make test` set themselves up in .venv on a fresh machine and reuse it afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Threads that wait must not spin: torch's and Numba's would take each other's cores.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo docs test test-slow mutation inputs lint format install

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	command -v ffmpeg > /dev/null || { apt-get update -qq && apt-get install -y -qq ffmpeg; } \
		|| echo "ffmpeg is missing; install it to render videos."
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/moegs demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	$(BIN)/pytest -m "not slow and not gpu" -n auto --maxprocesses 4 --dist loadfile

test-slow: $(STAMP)
	command -v chromedriver > /dev/null \
		|| { apt-get update -qq && apt-get install -y -qq chromium chromium-driver; } \
		|| echo "Without chromium and its driver the viewer is not tried in a browser."
	$(BIN)/pytest -m "slow and not gpu"

# All changes, or those of a module: make mutation MUTANTS="moegs_ns.routers*". Results are kept in
# mutants/, so it goes on where it was stopped; what it found last is in docs/mutation.md.
mutation: $(STAMP)
	$(BIN)/python -m pip install --quiet -e ".[mutation]"
	MOEGS_CHECK_SHAPES=0 OMP_NUM_THREADS=1 $(BIN)/mutmut run $(MUTANTS)
	$(BIN)/mutmut results

# Writes docs/inputs.md: what every bad or odd input ends in.
inputs: $(STAMP)
	cd tests/helpers && MOEGS_CHECK_SHAPES=0 ../../$(BIN)/python -W ignore -m inputs.table

# The manual as a site in site/; fails on a dead link.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
