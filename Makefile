# `make` alone lists the targets. Everything runs from the checkout; .venv/bin/innkeeper is a link to it.

PYTHON ?= python3
RUN    := .venv/bin/python
KAFKA  := .cache/kafka/$(shell sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' sandbox/kafka/pom.xml)

SEED ?= 1
FOR  ?= 60
# A soak: how long, visitors a second, minutes from one fault to the next.
HOURS ?= 1
RATE ?= 5
EVERY ?= 3
YEARS ?= 1
ARGS ?=
LIMIT ?= 3
ONLY ?=
AGAIN ?=
# Tests mostly wait for servers: somewhat more processes than cores keep them busy.
PROCESSES ?= 3
# One file, folder or test (make test T=tests/x.py::test_y), of whatever kind it is.
T ?=
# One part of test-all, each of which ends within half an hour on two cores; all of them unless one is named.
PART ?= quick system long trace api
# Hypothesis begins at this seed where one is given: make test SEED=7.
PYTEST := $(RUN) -m pytest $(if $(filter command% environment%,$(origin SEED)),--hypothesis-seed=$(SEED))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo up test test-unit test-system test-ci test-all collect lint types contracts docs docs-check \
	chaos faults simulate soak mutants bench bench-pair bench-search audit static check

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: .venv/installed $(KAFKA)/complete  ## Make .venv with the command innkeeper, and fetch Kafka's jars

demo: setup  ## Start everything, book a room as a guest would, and stay up (ARGS=--exit ends)
	@.venv/bin/innkeeper sandbox demo $(ARGS)

up: setup  ## Start everything and stay up (ARGS="--port 8080 --data DIR --days-ahead 3")
	@.venv/bin/innkeeper sandbox up $(ARGS)

test: setup  ## Run the tests, on a real Kafka and a real PostgreSQL (T=tests/x.py::test_y runs one, SEED=7 repeats one)
	@$(PYTEST) $(if $(T),$(T) -m '',--numprocesses $(PROCESSES)) $(ARGS)

# Compiled tests are kept in .cache, also when the environment forbids bytecode beside the sources: without it, each
# process would spend seconds on compiling 300 modules.
test-unit: setup  ## Run the tests that need no server
	@PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(CURDIR)/.cache/bytecode $(PYTEST) -m unit --numprocesses 2 $(ARGS)

test-system: setup  ## Try whole systems: all operations, stories, kills, a short storm, a secured broker
	@$(PYTEST) -m 'system and not long' --numprocesses $(PROCESSES) $(ARGS)

# One run, not two: each process imports all modules once, and small tests fill the time in which one system ends. The
# examples of properties are the same in each run, so that only a change makes it fail: `test` and `test-all` choose new ones.
test-ci: setup  ## Run the tests of test and of test-system together, as CI does
	@$(RUN) -m pytest -m 'not long' --numprocesses $(PROCESSES) --hypothesis-profile repeatable $(ARGS)

# The parts that the longest tests alone make up run in one process: such a test keeps both cores busy.
test-all: setup  ## Run all tests, the long forms too (PART= one of quick, system, long, trace, api)
	@set -e; for part in $(PART); do \
		echo "part $$part"; \
		case $$part in \
			quick) $(PYTEST) --numprocesses $(PROCESSES) $(ARGS);; \
			system) $(PYTEST) -m 'system and not long' --numprocesses $(PROCESSES) $(ARGS);; \
			long) $(PYTEST) -m 'long and not trace and not api' --numprocesses 2 $(ARGS);; \
			trace|api) $(PYTEST) -m $$part $(ARGS);; \
			*) echo "no part is called $$part" >&2; exit 2;; \
		esac; \
	done

# It also leaves the compiled tests behind for all processes of the run that follows.
collect: setup  ## Check that every test can be collected, the long forms too
	@found=$$($(PYTEST) --collect-only -qq -m '') || { echo "$$found"; exit 1; }

lint: setup  ## Check style and format
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check

types: setup  ## Check the types
	@$(RUN) -m mypy

contracts: setup  ## Check which package imports which
	@.venv/bin/lint-imports

docs: setup  ## Write the documents that are generated from the code
	@$(RUN) -m docs.generate

docs-check: setup  ## Fail when the generated documents differ from the code
	@$(RUN) -m docs.generate --check

# One after the other with make, at the same time with make -j.
static: lint types contracts docs-check  ## Check all that can be checked without running it

chaos: setup  ## Break things under load, then audit (SEED=1 FOR=60)
	@$(RUN) -m tests.system.pipeline.chaos --seed $(SEED) --seconds $(FOR)

soak: setup  ## Hours of steady load with a fault every few minutes: does anything grow? (HOURS=1 RATE=5 EVERY=3 SEED=1)
	@$(RUN) -m tests.soak --hours $(HOURS) --rate $(RATE) --every $(EVERY) --seed $(SEED) $(ARGS)

faults: setup  ## Make each fault of docs/faults.md under load, and judge it (SEED=1 ONLY=F9 AGAIN=1)
	@$(RUN) -m tests.faults --seed $(SEED) --only "$(ONLY)" $(if $(AGAIN),--again)

simulate: setup  ## Simulate years of bookings in one process, with faults at every await (SEED=1 YEARS=1)
	@$(RUN) -m tests.simulation --seed $(SEED) --years $(YEARS) $(ARGS)

mutants: setup  ## Break one rule of the product at a time, and name the test that notices (ARGS="--only refund")
	@$(RUN) -m tests.mutants $(ARGS)

bench: setup  ## Measure against the row-lock baseline, in JSON lines
	@$(RUN) -m benchmarks $(ARGS)

bench-pair: setup  ## Compare a booking's CPU time with an older checkout's (REV=v0.1.0 LIMIT=3, in percent)
	@$(if $(REV),,echo 'Name the older release: make bench-pair REV=v0.1.0' >&2; exit 2)
	@$(RUN) -m benchmarks.pair $(REV) --limit $(LIMIT) $(ARGS)

bench-search: setup  ## Measure search among 10,000 hotels beside one SQL query, in JSON lines
	@$(RUN) -m benchmarks.search $(ARGS)

audit: setup  ## Look the locked packages up among the known vulnerabilities
	@$(RUN) -m tests.advisories

check: static test  ## Everything that must be green

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed; name one: make setup PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo 'Python cannot make a virtual environment: apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@# The packages of this checkout, not a copy: editable, and built with the locked backend without a network.
	@# setuptools warns of every editable install.
	@PYTHONWARNINGS=ignore $(RUN) -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-index --no-build-isolation --editable .
	@touch $@

# Without Java or Maven this prints a line and is no error: the sandbox then uses Tansu.
$(KAFKA)/complete: sandbox/kafka/pom.xml | .venv/installed
	@$(RUN) -m sandbox.kafka fetch
	@if [ -e $@ ]; then touch $@; fi
