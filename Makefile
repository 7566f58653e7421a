# Every target works from a bare clone on a machine with Python 3.11+ and make.
#   make demo    the main study: 2048 RTX 4090 against H100, table and HTML page
#   make test    all tests          make check   format, lint, types, import contract
#   make sweep   the shipped sweeps: tables and HTML pages, resumed after an interruption
#   make bench   benchmarks         make figures figures and blocks of the documentation
#   make calibrate   fit coefficients to the published times in simtrain/validation/data
#   make clean   remove everything made here

new_enough = $(shell $(1) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(1))
ifeq ($(origin PYTHON), undefined)
PYTHON := $(or $(strip $(firstword $(foreach p,python3 python3.11 python3.12 python3.13,$(call new_enough,$(p))))),python3)
endif
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo sweep test check bench figures calibrate clean

demo: $(VENV)/.run
	$(BIN)/simtrain compare 4090-vs-h100 --html 4090-vs-h100.html

sweep: $(VENV)/.run
	@for study in 4090-failures-sweep 4090-nics-sweep h100-schedules-sweep; do \
		$(BIN)/simtrain sweep $$study --output $$study.csv --html $$study.html || exit 1; done

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.run
	@for script in benchmarks/bench_*.py benchmarks/schedules.py benchmarks/network.py benchmarks/reliability.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

calibrate: $(VENV)/.run
	$(BIN)/python -m simtrain.validation.calibrate.kernels
	$(BIN)/python -m simtrain.validation.calibrate.collectives
	$(BIN)/python -m simtrain.validation.calibrate.steps

figures: $(VENV)/.dev
	$(BIN)/python docs/figures.py

clean:
	rm -rf $(VENV) dist build 4090-vs-h100.html *-sweep.csv *-sweep.csv.journal *-sweep.html .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "simtrain needs Python 3.11 or newer, and '$(PYTHON)' is not; use: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "cannot create $(VENV): does this Python have its venv module? (Debian: apt install python3-venv)" >&2; exit 1; }
	@touch $@

$(VENV)/.run: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.run
