# Sets up .venv and calls dvc or pytest; DVC is the make.
.PHONY: study ablations preset test test-all
PYTHON ?= python3.11
TARGET ?= unlearn
WITH = PATH="$(CURDIR)/.venv/bin:$$PATH"

study: .venv/ready
	$(WITH) dvc pull --quiet data
	$(WITH) dvc repro

ablations: .venv/ready
	$(WITH) dvc pull --quiet data
	$(WITH) dvc repro $(TARGET)
	$(WITH) python -m abu.study.ablations $(TARGET)
	$(WITH) python -m abu.study.run ablations

preset: .venv/ready
	$(WITH) python -m abu.study.presets presets/$(NAME).yaml

test: .venv/ready
	$(WITH) dvc pull --quiet data
	$(WITH) python -m pytest -m "not slow"
	@$(WITH) python -m pytest -m slow --collect-only --quiet 2> /dev/null | tail -1 \
		| awk '{print "Left out:", $$1 + 0, "slow tests; make test-all runs them."}'

test-all: .venv/ready
	$(WITH) dvc pull --quiet data
	$(WITH) python -m pytest

.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --no-deps -r requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps -e .
	touch $@
