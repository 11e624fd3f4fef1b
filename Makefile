# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Python packages are installed from locked, hashed lists into .venv; nothing else is touched
# by `make demo`. `make test` also installs Debian packages and npm parts (see tools/).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-strip-extras
# Compiled is what is imported, when it is: a tenth of what is installed.
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile
# What the component imports: it starts hundreds of times in the tests, always with -B, which keeps nothing compiled.
OF_THE_COMPONENT := asn1crypto awscrt awsiot cryptography pkcs11 yaml

# The tests start hundreds of processes, which share what one of them has compiled unless the environment forbids it.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check unit soak component-matrix component-wheels component-windows synth pictures docs lock clean

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 26

demo: $(VENV)/.demo ## bring a drifted fleet into sync, on this machine
	$(BIN)/certfleet demo

test: $(VENV)/.test ## install what the tests need, then every check and every test
	PYTHON=$(BIN)/python tools/install-test-tools
	$(MAKE) --no-print-directory check unit

check: $(VENV)/.test ## format, lint, English, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tools/style_check.py
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

unit: $(VENV)/.test ## the tests, on every core
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term:skip-covered $(PYTEST_ARGS)
	$(BIN)/python tools/coverage_floors.py

soak: $(VENV)/.test ## the longer trials, some hours of them (one takes 6 GB)
	$(BIN)/python -m pytest -n auto --dist worksteal -m soak $(PYTEST_ARGS)

component-matrix: $(VENV)/.test ## the component's tests on every Python from 3.9 to 3.13 that is here
	$(BIN)/python tools/component_matrix.py $(PYTHONS)

component-wheels: $(VENV)/.test ## whether every requirement has a wheel for each Python, x86-64 and arm64
	$(BIN)/python tools/component_wheels.py $(PYTHONS)

component-windows: $(VENV)/.test ## the component's tests on Windows' own Python, under Wine
	$(BIN)/python tools/component_windows.py $(TESTS)

synth: $(VENV)/.test ## renew the backend's checked-in template (needs Node)
	$(BIN)/python -m backend.synth

pictures: $(VENV)/.test ## make the pictures of the reports in docs/ anew (needs Chromium)
	$(BIN)/python tools/pictures.py

docs: build/docs/.done build/mermaid.min.js ## build the documentation site into build/site (needs npm)
	build/docs/bin/python -W ignore tools/reading_grade.py *.md docs/*.md
	$(PYTHON) tools/messages.py docs
	build/docs/bin/sphinx-build -q -W --keep-going --fresh-env -d build/doctrees docs build/site

lock: ## renew every locked list of packages (needs uv)
	$(LOCK) --universal pyproject.toml -o requirements/controller.txt
	$(LOCK) --universal pyproject.toml --extra sandbox -o requirements/demo.txt
	$(LOCK) --universal pyproject.toml --extra sandbox --extra backend --extra dev -o requirements/test.txt
	echo "hatchling>=1.27" | $(LOCK) --universal --constraint requirements/test.txt - -o requirements/build.txt
	$(LOCK) --no-annotate --universal --python-version 3.9 component/requirements.in -o component/requirements.txt
	$(LOCK) --universal requirements/docs.in -o requirements/docs.txt
	$(LOCK) --universal --python-version 3.9 --constraint component/requirements.txt requirements/component-tests.in -o requirements/component-tests.txt
	$(LOCK) --python-version 3.14 --python-platform aarch64-manylinux_2_28 backend/requirements.in -o backend/requirements.txt
	$(LOCK) --python-version 3.14 --python-platform aarch64-manylinux_2_28 pyproject.toml -o backend/reconcile-requirements.txt

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"certfleet needs Python 3.11 or later, found {sys.version.split()[0]}: set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements/demo.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable . 2>/dev/null || $(PIP_INSTALL) --no-deps --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements/test.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable . 2>/dev/null || $(PIP_INSTALL) --no-deps --editable .
	$(BIN)/python -m compileall -q $(addprefix $(VENV)/lib/python3*/site-packages/,$(OF_THE_COMPONENT))
	@touch $@ $(VENV)/.demo

# An environment of its own: awscli, which the tests need, holds docutils back.
build/docs/.done: requirements/docs.txt
	$(PYTHON) -m venv build/docs
	build/docs/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/docs.txt
	@touch $@

# The one file of the package that is used: it draws the diagrams in the reader's browser.
MERMAID := mermaid-11.17.2
build/mermaid.min.js:
	mkdir -p build
	npm pack --silent --pack-destination build $(subst -,@,$(MERMAID)) >/dev/null
	echo "6ad2f42c3fc26bbf9e45cbb6d11898972573ea52b33a5f4ff51952899f950ffd  build/$(MERMAID).tgz" | sha256sum --check --quiet
	tar -xzf build/$(MERMAID).tgz -C build --strip-components 2 package/dist/mermaid.min.js
	touch $@

clean: ## remove what was installed and built here
	rm -rf $(VENV) node_modules build cdk.out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*
