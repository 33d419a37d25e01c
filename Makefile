# Set-up and the main commands. Everything is installed into $(VENV), nothing elsewhere.
#
#   make digits   set up and search on the digits: about a minute or two, plus the installation
#   make test     set up and run all tests
#   make check    set up, then lint and types
#   make site     set up, then make the documentation as a site in build/site

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: digits test check site clean

digits: $(VENV)/run
	$(BIN)/python -m experiments.nash --preset=digits

test: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: $(VENV)/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site

$(BIN)/python:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python >= 3.11 with venv is needed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps: what is installed is installed anew when the metadata change.
$(VENV)/run: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/dev: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/run

clean:
	rm -rf $(VENV) build dist *.egg-info
