# Every target works on a fresh machine that has Python >= 3.10 with venv, and make: `make test PYTHON=python3.12`.
# Another Python beside the first has an environment of its own: `make test PYTHON=python3.10 VENV=.venv310`.

PYTHON ?= python3
VENV ?= .venv
INSTALLED := $(VENV)/.installed
# The modules where an installation puts them, for import-linter, which does not follow package_dir of setup.py.
AS_INSTALLED := build/as_installed

.PHONY: test test-slow demo lint clean

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest --durations=10

test-slow: $(INSTALLED)
	$(VENV)/bin/python -m pytest --durations=10 -m slow

demo: $(INSTALLED)
	$(VENV)/bin/rl_nnunet_demo

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	rm -rf $(AS_INSTALLED)
	$(VENV)/bin/python setup.py --quiet build_py --build-lib $(AS_INSTALLED)
	cp pyproject.toml $(AS_INSTALLED)
	cd $(AS_INSTALLED) && $(abspath $(VENV))/bin/lint-imports --no-cache --no-logo

# rl_nnunet/__init__.py holds the version, which the installation states.
$(INSTALLED): setup.py pyproject.toml rl_nnunet/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo 'Python >= 3.10 is needed: choose one with make PYTHON=/path/to/python3' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	echo '*' > $(VENV)/.gitignore
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo_output demo_output_[0-9]* *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
