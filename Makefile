# make demo   serve the example project on http://127.0.0.1:8000/  (make demo PORT=8123 moves it)
# make test   run the tests with coverage
# make lint   ruff, mypy and a look for missing migrations
#
# All three need Python 3.11 or later and a package index, and put everything into .venv.

PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
MANAGE := $(BIN)/python example_project/manage.py

# Another project's Django settings or import path in the caller's shell are not meant for this one.
unexport DJANGO_SETTINGS_MODULE PYTHONPATH PYTHONHOME

.PHONY: help demo test lint clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "Name another one, for example: make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12" >&2; \
	  exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# One stamp for each extra: pip runs again when pyproject.toml has changed, and not otherwise.
$(VENV)/.installed-%: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

demo: $(VENV)/.installed-demo
	@$(MANAGE) migrate --verbosity 0
	@$(MANAGE) demo_accounts
	@echo "Serving http://127.0.0.1:$(PORT)/ (stop with Ctrl-C)"
	@exec $(MANAGE) runserver 127.0.0.1:$(PORT)

# Keys and addresses in the caller's shell are taken away: no test may reach the real API.
test: $(VENV)/.installed-test
	@unset $$(env | sed -n 's/^\(OPENAI_[A-Z0-9_]*\)=.*/\1/p') CHATKIT_OPENAI_API_KEY; \
	rm -f .coverage .coverage.*; \
	$(BIN)/python -m coverage run -m pytest $(ARGS) && \
	$(BIN)/python -m coverage combine --quiet && \
	$(BIN)/python -m coverage report

lint: $(VENV)/.installed-test $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	DJANGO_SETTINGS_MODULE=tests.settings PYTHONPATH=. $(BIN)/django-admin makemigrations --check --dry-run

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
