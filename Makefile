# The two that matter: `make run` shows the monitor at work, `make test` proves it.
# Both set up what they need.

FLEET ?=
PYTHON_BIN := .venv/bin/python

.PHONY: help run test check bench docs setup clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: setup ## watch a fleet on this machine; FLEET=dir brings another one
	@exec $(PYTHON_BIN) -m local.run $(if $(FLEET),--fleet "$(FLEET)")

test: setup check ## style, types, import contracts, and every test
	@$(PYTHON_BIN) -m pytest --numprocesses 3 --dist loadfile

check: setup ## style, types and import contracts alone
	@$(PYTHON_BIN) -m ruff format --check --quiet . || { echo "ruff format would change files: run .venv/bin/ruff format" >&2; exit 1; }
	@$(PYTHON_BIN) -m ruff check --quiet .
	@$(PYTHON_BIN) -m mypy --no-error-summary
	@.venv/bin/lint-imports --no-logo >.lint-imports.log 2>&1 || { cat .lint-imports.log; rm -f .lint-imports.log; exit 1; }
	@rm -f .lint-imports.log

docs: setup ## write docs/checks.md from the checks' docstrings
	@$(PYTHON_BIN) -m checks > docs/checks.md

bench: setup ## measure what it costs
	@$(PYTHON_BIN) -c "import statsmodels" 2>/dev/null \
		|| $(PYTHON_BIN) -m pip install -qq --disable-pip-version-check -r requirements-bench.txt \
		|| echo "Without statsmodels the forecast is measured beside straight lines alone." >&2
	@$(PYTHON_BIN) -m bench

setup:
	@sh local/setup.sh

clean: ## remove everything that was installed or stored here
	@rm -rf .venv node_modules .run .mypy_cache .ruff_cache .pytest_cache .hypothesis
