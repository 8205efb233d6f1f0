# Sets up .venv and calls dvc or pytest; DVC is the make.
.PHONY: study ablations test
PYTHON ?= python3.11
TARGET ?= unlearn

study: .venv/ready
	PATH="$(CURDIR)/.venv/bin:$$PATH" dvc pull --quiet data
	PATH="$(CURDIR)/.venv/bin:$$PATH" dvc repro

ablations: .venv/ready
	PATH="$(CURDIR)/.venv/bin:$$PATH" dvc pull --quiet data
	PATH="$(CURDIR)/.venv/bin:$$PATH" dvc repro $(TARGET)
	PATH="$(CURDIR)/.venv/bin:$$PATH" python -m abu.study.ablations $(TARGET)
	PATH="$(CURDIR)/.venv/bin:$$PATH" python -m abu.study.run ablations

test: .venv/ready
	PATH="$(CURDIR)/.venv/bin:$$PATH" dvc pull --quiet data
	.venv/bin/python -m pytest

.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --no-deps -r requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps -e .
	touch $@
