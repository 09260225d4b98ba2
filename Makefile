# hl7bridge: `make` lists what there is. Needs Python 3.11 or newer; everything else goes into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# the requirements of an extra in setup.cfg, for pip
EXTRA = $$($(VENV)/bin/python -c "import configparser; c = configparser.ConfigParser(); c.read('setup.cfg'); \
	print(*c['options.extras_require']['$(1)'].replace(' ', '').split())")
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
TESTS ?= tests
ARGS ?=
ROUNDS ?= 5
HL7BRIDGE_SERVERS ?= $(wildcard ../shared/servers)

SOURCES := $(shell find hl7bridge mappings -type f -not -name '*.pyc' 2>/dev/null)
PACKAGING := setup.cfg pyproject.toml requirements.lock README.md

.PHONY: help run install test chaos fuzz validate-feed lint format bench docs docs-feed lock servers clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: install ## install into .venv and start the daemon: MLLP on 6661, health and metrics on 9661
	@exec $(VENV)/bin/hl7bridge $(ARGS) serve

install: $(VENV)/.installed ## make .venv with hl7bridge in it

test: $(VENV)/.installed $(VENV)/.test-tools servers ## run the tests (TESTS=tests/mllp ARGS='-k framing' for some, ARGS='-n auto --dist loadfile' on all cores)
	@HL7BRIDGE_SERVERS='$(HL7BRIDGE_SERVERS)' $(VENV)/bin/pytest $(TESTS) $(ARGS)

chaos: $(VENV)/.installed $(VENV)/.test-tools ## kill, pause, cut and fill for MINUTES=30 (SEED=7 repeats, FEED=file.hl7[.xz] adds real messages)
	@$(VENV)/bin/python tests/chaos/run_chaos.py --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED)) $(if $(FEED),--feed '$(abspath $(FEED))') $(ARGS)

fuzz: $(VENV)/.installed $(VENV)/.test-tools ## fuzz TARGET=translator (framing, parser) for SECONDS=600; crashes go to tests/fuzz/crashes
	@$(VENV)/bin/python tests/fuzz/run_fuzz.py $(or $(TARGET),translator) --seconds $(or $(SECONDS),600) $(ARGS)

validate-feed: $(VENV)/.installed $(VENV)/.test-tools servers ## judge every bundle of a feed (FEED=file.hl7[.xz]) by the official validator
	@test -n "$(FEED)" || { echo "say which: make validate-feed FEED=feed.hl7.xz" >&2; exit 1; }
	@FEED='$(abspath $(FEED))' HL7BRIDGE_SERVERS='$(HL7BRIDGE_SERVERS)' $(VENV)/bin/pytest tests/servers/test_valid_bundles.py -k named_feed $(ARGS)

lint: $(VENV)/.installed $(VENV)/.dev-tools ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.dev-tools ## let ruff format and mend what it can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/.installed $(VENV)/.test-tools servers ## measure, beside the yardsticks, in one run, and write docs/performance.md's table (ROUNDS=5)
	@HL7BRIDGE_SERVERS='$(HL7BRIDGE_SERVERS)' $(VENV)/bin/python benchmarks/run.py --rounds $(ROUNDS) --write $(ARGS)

docs: $(VENV)/.installed ## write the docs that are made from the code
	@$(VENV)/bin/python docs/generate.py --all

docs-feed: $(VENV)/.installed ## write what coverage says of a feed (FEED=file.hl7[.xz]) into docs/workbench.md
	@test -n "$(FEED)" || { echo "say which: make docs-feed FEED=feed.hl7.xz" >&2; exit 1; }
	@$(VENV)/bin/python docs/generate.py --feed '$(abspath $(FEED))'

lock: $(VENV)/.tools ## write requirements.lock anew: what is shipped, by constraints.txt, each file with its hash
	@$(PIP) install pip-tools
	@$(VENV)/bin/python -c "import configparser; c = configparser.ConfigParser(); c.read('setup.cfg'); \
		print(c['options']['install_requires'], c['options.extras_require']['fast'])" > $(VENV)/shipped.in
	@$(VENV)/bin/pip-compile --quiet --generate-hashes --strip-extras --no-header --no-annotate --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links -c constraints.txt -o $(VENV)/shipped.lock $(VENV)/shipped.in
	@{ head -1 requirements.lock; sed '/^$$/d' $(VENV)/shipped.lock; } > $(VENV)/lock && mv $(VENV)/lock requirements.lock

clean: ## remove what make made (never ./var, the journal)
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- stamps: a second call is quick ----

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "hl7bridge needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install python3-venv" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

# hl7bridge itself is built without isolation, so that only the pinned setuptools is needed
$(VENV)/.tools: $(VENV)/bin/python constraints.txt
	@$(PIP) install -c constraints.txt setuptools
	@touch $@

$(VENV)/.installed: $(VENV)/.tools $(PACKAGING) $(SOURCES)
	@echo "installing hl7bridge into $(VENV)"
	@rm -rf build
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation .
	@rm -rf build *.egg-info
	@touch $@

$(VENV)/.test-tools: $(VENV)/.tools constraints.txt setup.cfg
	@$(PIP) install -c constraints.txt $(call EXTRA,test)
	@$(PIP) install --only-binary :all: -c constraints.txt $(call EXTRA,fuzz) 2>/dev/null \
		|| echo 'no atheris for this Python: the fuzz tests will be skipped'
	@touch $@

$(VENV)/.dev-tools: $(VENV)/.test-tools
	@$(PIP) install -c constraints.txt $(call EXTRA,dev)
	@touch $@

# the real FHIR server and validator, where a JDK, Maven and their sources are at hand
servers: $(VENV)/bin/python
	@if [ -z '$(HL7BRIDGE_SERVERS)' ]; then \
		echo 'tests on real servers will be skipped: no ../shared/servers (or HL7BRIDGE_SERVERS)'; \
	elif ! command -v javac >/dev/null || ! command -v mvn >/dev/null; then \
		echo 'tests on real servers will be skipped: no JDK or no Maven'; \
	elif [ ! -e $(VENV)/.servers ] || [ -n "$$(find '$(HL7BRIDGE_SERVERS)' -newer $(VENV)/.servers -print -quit)" ]; then \
		bash '$(HL7BRIDGE_SERVERS)/build.sh' fhirserver validate && touch $(VENV)/.servers; \
	fi
