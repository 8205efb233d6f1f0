# Sets up .venv and calls dvc or pytest; DVC is the make. `python -m abu` lists what stands after ##.
.PHONY: study ablations preset test test-all
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2> /dev/null && command -v $$name && break; done)
PIP = .venv/bin/python -m pip install --quiet
WITH = PATH="$(CURDIR)/.venv/bin:$$PATH"

study: .venv/ready ## Sets up .venv, fetches the data from this repository, runs every stage.
	$(WITH) dvc pull --quiet data
	$(WITH) dvc repro

ablations: .venv/ready ## Changes one factor at a time and judges each; hours.
	$(WITH) dvc pull --quiet data
	$(WITH) dvc repro evaluate
	$(WITH) python -m abu.study.ablations
	$(WITH) python -m abu.study.run ablations

preset: .venv/ready ## With NAME=own: applies presets/own.yaml to params.yaml.
	$(WITH) python -m abu.study.presets presets/$(NAME).yaml

test: .venv/tests ## Sets up .venv, fetches the data, runs the tests but the slow ones.
	$(WITH) dvc pull --quiet data
	$(WITH) python -m pytest -n 2 --dist worksteal -m "not slow"
	@$(WITH) python -m pytest -m slow --collect-only --quiet 2> /dev/null | tail -1 \
		| awk '{print "Left out:", $$1 + 0, "slow tests; make test-all runs them."}'

test-all: .venv/tests ## The slow tests too.
	$(WITH) dvc pull --quiet data
	$(WITH) python -m pytest

.venv/ready: pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python of 3.11 to 3.13 with venv: install one (Debian, \
	Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) -c requirements.lock -e .
	touch $@

# of kronfluence without what it declares beside: torchvision, of another torch
.venv/tests: .venv/ready
	$(PIP) -c requirements.lock -e .[test]
	$(PIP) --no-deps kronfluence==1.0.1
	touch $@
