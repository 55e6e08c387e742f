# Every target makes the environment that it needs: `make quickstart` or `make test` is all a fresh machine is told.

VENV ?= .venv
WORKERS ?= 2
export PYTHON

ENVIRONMENT = sh launch/environment.sh
PYTEST = -m pytest -n $(WORKERS) --dist loadfile
EVERYWHERE = not network and not gpu
FIGURES = $(CURDIR)/.cache/reliability.jsonl

.PHONY: help quickstart lint test test-long reliability test-matrix test-3.11 test-3.12

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'PYTHON=command    the Python 3.11 or 3.12 to use, otherwise the first that is found'
	@echo 'PYTHON311=command, PYTHON312=command    the same for the two of test-matrix'
	@echo 'VENV=folder       the environment ($(VENV)); made anew, with the loss of its content, unless it was made here'
	@echo 'WORKERS=number    how many tests run at a time ($(WORKERS))'

quickstart: ## trains a small model on rendered videos, from nothing, on a CPU
	@$(ENVIRONMENT) $(VENV) '' 3.11 3.12
	$(VENV)/bin/python launch/main.py --config configs/quickstart.py --workdir runs/quickstart

lint: ## the checks of the code
	@$(ENVIRONMENT) $(VENV) test 3.11 3.12
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

test: lint ## the checks of the code and the tests of every change
	$(VENV)/bin/python $(PYTEST) -m "not long and not torch and $(EVERYWHERE)"

test-long: ## the tests that take long or compare with PyTorch (downloads it)
	@$(ENVIRONMENT) $(VENV) test,torch 3.11 3.12
	$(VENV)/bin/python $(PYTEST) -m "(long or torch) and $(EVERYWHERE)"

test-matrix: test-3.11 test-3.12 ## the tests of every change at both ends of the supported versions of Python and jax

reliability: ## everything that the project must survive, in full counts; writes docs/reliability.md
	@$(ENVIRONMENT) $(VENV) test 3.11 3.12
	rm -f $(FIGURES)
	RELIABILITY_FIGURES='$(FIGURES)' $(VENV)/bin/python $(PYTEST) -m "reliability and not torch and $(EVERYWHERE)"
	$(VENV)/bin/python -m tests.reliability '$(FIGURES)' docs/reliability.md

test-3.11: ## with Python 3.11 and the oldest supported jax
test-3.12: ## with Python 3.12 and the newest tested jax
test-3.11 test-3.12: test-%:
	@PYTHON='$(PYTHON$(subst .,,$*))' $(ENVIRONMENT) $(VENV)-$* test $*
	$(VENV)-$*/bin/python $(PYTEST) -m "not long and not torch and $(EVERYWHERE)"
