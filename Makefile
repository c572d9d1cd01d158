# `make up` and `make test` are the two commands; `make` alone lists all of them.
PORT ?= 8080
HOST ?= 127.0.0.1
PYTHON ?=
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# An environment of another project must not leak into this one.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

# Sets $$python to the first Python that really runs here (the shim of a version manager may exist and refuse).
define FIND_PYTHON
python=; \
for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python); do \
  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
  then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then \
  echo "No Python 3.11, 3.12 or 3.13 $(if $(PYTHON),behind PYTHON=$(PYTHON),on the PATH). Install one (for example: apt-get install python3 python3-venv)," >&2; \
  echo "or name it: make $@ PYTHON=/path/to/python3.12" >&2; exit 1; \
fi
endef
# Standard library only, so that it runs before anything is installed and after the environment was deleted.
LOCAL = "$$python" -m local_stack
INSTALL = $(LOCAL).installation $(if $(PYTHON),--this-python)

.PHONY: help up down status test test-fast test-long soak lint lock dist docs screenshots bench environment environment-dev

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/  make \1	/p' Makefile | expand -t 24
	@echo '  PORT=8081, HOST=0.0.0.0 and PYTHON=/path/to/python3.12 may follow a command.'

up:  ## install everything, start Airflow with the demo, show what it predicted
	@$(FIND_PYTHON); $(INSTALL) && \
	.venv/bin/python -m local_stack up --port "$(PORT)" --host "$(HOST)"

down:  ## stop what `make up` started
	@$(FIND_PYTHON); $(LOCAL) down

status:  ## what runs, and where
	@$(FIND_PYTHON); $(LOCAL) status

environment:  ## only install: .venv from requirements.txt, with the `mlops` command
	@$(FIND_PYTHON); $(INSTALL)

environment-dev:
	@$(FIND_PYTHON); $(INSTALL) --dev

LINT = for check in "ruff check ." "ruff format --check ." codespell mypy "lint-imports --no-cache"; do \
  echo "== $$check"; .venv/bin/$$check || status=1; done
# Files in the order of their names: by default those with few tests come last, and these are the long ones.
# One OpenMP thread each: the models are tiny, and threads that wait for one another would take a third of the time.
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder
# Else each process that tests start compiles what it imports, where PYTHONDONTWRITEBYTECODE is set.
COMPILED = .venv/bin/python -m compileall -q plugins local_stack tests/support
# From Python 3.12 on, sys.monitoring measures coverage at almost no cost; before, tracing doubles the time of
# tests, so it is left out. Processes that the tests start are not measured.
COVERAGE = $$(.venv/bin/python -c 'import sys; \
  print("--cov --cov-report=term:skip-covered --cov-report=xml:.coverage/coverage.xml" * (sys.version_info >= (3, 12)))')
# Every part runs, and the tests' summary comes last, also when an earlier part failed. A line that names $$(MAKE)
# runs even with `make -n`: keep the tests out of such a line.
test:  ## install what the tests need and run all checks and tests
	@.ci/system-packages
	@$(MAKE) environment-dev
	@$(COMPILED)
	@status=0; $(LINT); \
	COVERAGE_CORE=sysmon $(PYTEST) -m "not long" $(COVERAGE) || status=1; exit $$status

# Which tests these are follows from what they use: tests/support/kinds.py.
test-fast: environment-dev  ## the tests without Airflow, browser, servers and processes, in two minutes
	@MLOPS_TESTS_FAST=1 $(PYTEST) -n 2 -m "not (server or airflow or browser or process or property or slow or long)"

test-long: environment-dev  ## soaks, sweeps and many more random examples; an hour or more
	@HYPOTHESIS_PROFILE=long $(PYTEST) -m "long or property" --timeout 7200

FAULTS ?= 100
soak: environment-dev  ## a real Airflow under FAULTS=100 random faults; SEED=7, EXECUTOR=CeleryExecutor
	@PYTHONPATH=plugins:tests:. .venv/bin/python -m faults.soak --faults $(FAULTS) \
	  $(if $(SEED),--seed $(SEED)) $(if $(EXECUTOR),--executor $(EXECUTOR))

lint: environment-dev  ## style, spelling, types and layers
	@status=0; $(LINT); exit $$status

# Keeps every version that still fits; `make lock UPGRADE=--upgrade` moves to the newest ones.
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-build \
  --override requirements-overrides.txt --excludes requirements-excludes.txt --custom-compile-command "make lock" $(UPGRADE)
lock: environment-dev  ## renew requirements.txt and requirements-dev.txt
	@$(COMPILE) requirements.in -o requirements.txt
	@$(COMPILE) -c requirements.txt requirements-dev.in -o requirements-dev.txt
	@git diff --stat -- requirements.txt requirements-dev.txt

dist: environment  ## the sdist and the wheel, in dist/
	@.venv/bin/python -m release.build

docs: environment-dev  ## the documentation as a site, in site/VERSION/; broken links are errors
	@PYTHONPATH=plugins:. .venv/bin/python docs/reference.py
	@.venv/bin/python docs/diagrams.py
	@.venv/bin/python docs/site_versions.py

screenshots: environment-dev  ## the pictures and recordings in docs/, from the demo that `make up` has started
	@PYTHONPATH=plugins:. .venv/bin/python docs/screenshots.py
	@PYTHONPATH=plugins:. .venv/bin/python docs/recordings.py

bench: environment-dev  ## the measured promises, each beside its peer; PART=data_plane only that, QUICK=--quick little data
	@PYTHONPATH=tests .venv/bin/python -m benchmarks $(PART) $(QUICK)
