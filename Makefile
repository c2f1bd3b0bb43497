# Everything runs in the environment .venv, which the first target that needs it makes.
# Another interpreter: make test PYTHON=python3.12        More options for pytest: make test ARGS="-k text -x"

PYTHON ?= python3
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
HOSTS := .hosts/monai_label/.installed .hosts/monai_deploy/.installed

.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow test-hosts test-all hosts lint format hooks clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(INSTALLED) ## Make .venv with every tested version

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else "Python must be 3.10 to 3.13, got %d.%d: choose another one with PYTHON=python3.11" % v)'
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[test,dicom,jpeg-lossless,export]'
	@touch $@

demo: $(INSTALLED) ## Phantom data, training, evaluation, prediction and report, into output/demo
	$(RUN) -m tools.demo --output output/demo

test: $(INSTALLED) ## The quick tests
	$(RUN) -m pytest -m "not slow and not hosts" $(ARGS)

test-slow: $(INSTALLED) ## The slow tests alone
	$(RUN) -m pytest -m "slow and not hosts" $(ARGS)

hosts: $(HOSTS) ## Make .hosts/ with MONAI Label and MONAI Deploy, an environment each

.hosts/%/.installed: tools/hosts/%/install.sh tools/hosts/%/requirements.txt
	PYTHON=$(PYTHON) bash $< .hosts/$*
	@touch $@

test-hosts: $(INSTALLED) $(HOSTS) ## The tests in the real MONAI Label and MONAI Deploy
	$(RUN) -m pytest -m hosts $(ARGS)

test-all: $(INSTALLED) ## Every test (those of the hosts only after `make hosts`)
	$(RUN) -m pytest $(ARGS)

lint: $(INSTALLED) ## Check style and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(INSTALLED) ## Format the code and mend what can be mended
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

hooks: $(INSTALLED) ## Run the checks of .pre-commit-config.yaml before every commit
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt pre-commit
	$(RUN) -m pre_commit install

clean: ## Remove the environment, caches and build folders (never output/ or weights)
	rm -rf $(VENV) .hosts build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find common tools tests bundles -type d -name __pycache__ -prune -exec rm -rf {} +
