# Everything here needs Python 3.11 or newer, make and a package index; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
ENVIRONMENTS := .venv-environments
BUILD := .venv-build
FUZZ := .venv-fuzz
UV := $(FUZZ)/bin/uv
CLIENTS := .venv-clients
MLSERVER := .venv-mlserver
SOURCES := client artifacts tasks training gateway benchmarks tests
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: help demo test test-all zoo parity faults soak test-newest test-oldest wheel fuzz fuzz-http lock audit clients bench bench-gateway bench-docs bench-memory lint format clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## train, publish, serve, score and promote under load, in a minute
	@$(BIN)/scoreline demo

# More processes than two cores have, each with servers of its own: tests of real workers mostly wait.
# With bytecode, whatever the shell says: the tests start hundreds of processes, which would all compile the same.
test: lint  ## format, lint, types, import rules, then all tests
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses 3 --no-loadscope-reorder $(ARGS)

# Each pool, option and refusal of the server, where `make test` has one of its kind; some minutes more.
test-all:  ## the same with the tests that are marked as exhaustive
	@$(MAKE) test ARGS='-m "exhaustive or not exhaustive" $(ARGS)'

settings: $(READY)  ## make docs/settings.md anew from the settings in the code
	@$(BIN)/python -m tests.support.settings_page > docs/settings.md.new && mv docs/settings.md.new docs/settings.md

zoo: $(READY)  ## publish what people put into pipelines, ask it elsewhere, print the table
	@$(BIN)/python -m tests.zoo $(ONLY)

# Not in CI, which runs a small part of it: 600 pipelines, each asked in 11 ways, take half an hour and more.
parity: $(READY)  ## hold every way in against training's own answers, print the table
	@nice $(BIN)/python -m tests.parity $(ONLY)

# Not in CI, which injects each fault a few times: two hours and more. `make faults ONLY='F1 F4 --n 5'` chooses.
faults: $(READY)  ## inject every fault as often as the table says, count what is lost, late, wrong, print the table
	@nice $(BIN)/python -m tests.faults $(ONLY)

soak: $(READY)  ## load, files, releases and kills for SOAK_MINUTES (30); memory, files, threads and keys stay flat
	@nice $(BIN)/python -m tests.faults.soak $(SOAK_MINUTES)

# Not in CI: what is newest changes without us, and it takes hours. ONLY=extra, ONLY=newest-scikit-learn, … chooses.
test-newest: $(UV)  ## each extra alone, and all tests, with the newest that an index gives, on each Python that is here
	@nice $(FUZZ)/bin/python -m tests.environments newest $(if $(ONLY),--only '$(ONLY)') $(if $(TESTS),--tests $(TESTS))

test-oldest: $(UV)  ## all tests with the lowest versions that pyproject.toml admits
	@nice $(FUZZ)/bin/python -m tests.environments oldest $(if $(TESTS),--tests $(TESTS))

wheel:  ## build what README's installation takes: dist/scoreline-….whl
	@test -x $(BUILD)/bin/python || $(PYTHON) -m venv $(BUILD)
	@$(BUILD)/bin/python -m pip --disable-pip-version-check -qq install --constraint constraints.txt build
	@$(BUILD)/bin/python -m build --wheel --outdir dist . > $(BUILD)/wheel.log 2>&1 || { cat $(BUILD)/wheel.log; exit 1; }
	@ls -t dist/scoreline-*.whl | head -1

# Not in CI: it takes hours. An environment of its own, since atheris needs a compiler on other systems than Linux.
fuzz:  ## look for bytes that a decoder neither reads nor refuses (ONLY='arrow body', SECONDS=600 each)
	@test -x $(FUZZ)/bin/python || $(PYTHON) -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip --disable-pip-version-check -qq install --constraint constraints.txt \
	  --editable '.[all]' atheris==3.0.0
	@nice $(FUZZ)/bin/python -m tests.fuzz $(or $(SECONDS),600) $(if $(ONLY),'$(ONLY)')

# What is pinned, with the hash of each file that the index has of it: for every system and Python.
LOCK := (echo 'hatchling>=1.27'; echo editables) | $(FUZZ)/bin/uv pip compile pyproject.toml - --universal --python-version 3.11 \
  --constraint constraints.txt --generate-hashes --no-annotate --quiet --custom-compile-command 'make lock'
lock: $(UV)  ## write what constraints.txt pins with hashes: requirements.lock for images, requirements-dev.lock
	@$(LOCK) --extra worker --extra gateway --extra frames --extra files --extra s3 --output-file requirements.lock
	@$(LOCK) --extra all --group dev --output-file requirements-dev.lock

# Not in CI: it takes as long as it is given. An environment of its own, for what schemathesis brings.
fuzz-http: $(READY)  ## hold the gateway to its OpenAPI documents with schemathesis (SECONDS=600)
	@test -x $(FUZZ)/bin/python || $(PYTHON) -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip --disable-pip-version-check -qq install schemathesis==4.32.5
	@nice $(BIN)/python -m tests.fuzz.gateway $(CURDIR)/$(FUZZ)/bin/st $(or $(SECONDS),600)

# Not in CI, which may not reach advisories. ARGS='-s osv' asks another database, PAGES is where an index has NAME/json.
PAGES ?= https://pypi.org/pypi
audit: $(READY)  ## look for known vulnerabilities of the pinned dependencies
	@test -x $(FUZZ)/bin/python || $(PYTHON) -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip --disable-pip-version-check -qq install --constraint constraints.txt pip-audit==2.10.1
	@$(FUZZ)/bin/python -m tests.audit $(FUZZ)/bin/pip-audit $(VENV)/lib/python3.*/site-packages --pages $(PAGES) $(ARGS)

# Not in CI: these clients cannot be installed beside each other, nor beside the product. tritonclient and
# open-inference-openapi are asked by `make test`.
clients: $(READY)  ## let kserve's, MLServer's and MLflow's clients ask the gateway, in environments of their own
	@for client in kserve==0.21.0 mlserver==1.7.1 mlflow-skinny==3.17.2; do \
	  folder=$(CLIENTS)/$$(echo $$client | sed 's/[=-].*//'); \
	  test -e $$folder/ready || { $(PYTHON) -m venv $$folder && $$folder/bin/python -m pip \
	    --disable-pip-version-check -qq install $$client 'pandas<3' scipy && touch $$folder/ready; } || exit 1; \
	done
	@$(BIN)/python -m tests.clients $(CLIENTS)

bench-gateway: $(READY)  ## measure the gateway beside MLServer, which is set up in an environment of its own
	@test -x $(MLSERVER)/bin/mlserver || { $(PYTHON) -m venv $(MLSERVER) && $(MLSERVER)/bin/python -m pip \
	  --disable-pip-version-check -qq install mlserver==1.7.1 mlserver-sklearn==1.7.1 scikit-learn==1.6.1 \
	  'pandas<3' sklearn-pandas six; }
	@$(BIN)/python -m benchmarks gateway

# With bytecode, whatever the shell says: programs start as they do for people.
bench: $(READY)  ## measure against Celery and pandas (ONLY=online, bulk, ...)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m benchmarks $(ONLY)

bench-docs: $(READY)  ## put the newest figures of each benchmark into docs/performance.md
	@$(BIN)/python -m benchmarks --docs

bench-memory: $(READY)  ## measure what a worker's processes take together with a 300 MB model
	@$(BIN)/python -m benchmarks memory

lint: $(READY)  ## everything of `make test` but the tests
	@$(BIN)/ruff format --check --quiet $(SOURCES) \
	  || { echo 'files above are not formatted: make format'; exit 1; }
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }

format: $(READY)  ## format the code and fix what can be fixed
	@$(BIN)/ruff format --quiet $(SOURCES)
	@$(BIN)/ruff check --quiet --fix $(SOURCES)

clean:  ## remove what make and the tools have made; keeps the artifact store
	rm -rf $(VENV) $(ENVIRONMENTS) $(BUILD) $(FUZZ) $(CLIENTS) $(MLSERVER) .fuzz build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	  .import_linter_cache benchmarks/results
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV):
	@test -x $(FUZZ)/bin/python || $(PYTHON) -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip --disable-pip-version-check -qq install --constraint constraints.txt uv==0.13.9

# The stamp is younger than what it was made from, or the environment is brought up to date.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	@echo "setting up $(VENV) (about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
# HASHES=1 takes nothing whose hash is not in requirements-dev.lock, for an index that is not believed.
ifdef HASHES
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
else
	@$(PIP) install --constraint constraints.txt --upgrade pip
	@$(PIP) install --constraint constraints.txt --build-constraint constraints.txt \
	  --editable '.[all]' --group dev
endif
	@touch $@
