# make demo    train a small GPT-2 on this machine, about two minutes
# make test    the fast tests          make check   ruff, mypy, the layer test
# make slow    parity with PyTorch, compiles for absent pods, several processes, a browser
# make soak    the long forms          make lock    remake the lock files
# make screenshots   take the README's pictures of the pages again, in a browser
# make clean   forget .venv and caches (runs/ stays)
#
# Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
WORKDIR ?= runs/demo
TORCH := torch==2.13.0
ORACLES := transformers==5.23.0 playwright==1.65.2 openai==3.57.0 lm-eval==0.4.13 tenacity==9.2.1 schemathesis==4.32.5 trl==1.9.0
LIBTPU := libtpu==0.0.52
UV := uv==0.13.9

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# A stamp carries the digest of what it was made from, so .venv is made again when that changes.
digest = $(shell cat $(1) 2>/dev/null | $(PYTHON) -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read() + sys.version.encode()).hexdigest()[:12])' 2>/dev/null)
CORE := $(VENV)/core-$(call digest,requirements.lock setup.py)
TEST := $(VENV)/test-$(call digest,requirements-test.lock)
SLOW := $(VENV)/slow-$(call digest,Makefile)

# Some machines forbid it, and then every command compiles all of lm again: a third of its start-up.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check slow soak screenshots lock clean python
.DELETE_ON_ERROR:

demo: $(CORE)
	@$(BIN)/python -m launch.train --experiment=gpt2:tiny --workdir=$(WORKDIR)
	@echo "The page of this run: $(abspath $(WORKDIR))/report.html"
	@echo "For the README's other commands: . $(VENV)/bin/activate"

test: $(TEST)
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=15

check: $(TEST)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/layers_test.py

slow: $(SLOW)
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --durations=25

soak: $(SLOW)
	$(BIN)/python -m pytest -m soak

screenshots: $(SLOW)
	LM_SCREENSHOTS=$(abspath docs) $(BIN)/python -m pytest -q -m slow tests/serve/loop_test.py -k shown

python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || \
	{ echo "Python 3.11, 3.12 or 3.13 is needed and $(PYTHON) is $$($(PYTHON) -V 2>&1): make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }

$(CORE): | python
	@echo "Making $(VENV) from requirements.lock ..."
	@$(PYTHON) -m venv --clear $(VENV) || { echo "$(PYTHON) cannot make a virtual environment (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(TEST): $(CORE)
	@echo "Adding requirements-test.lock ..."
	@$(PIP) install --require-hashes -r requirements-test.lock
	@touch $@

# PyTorch is not locked: its CPU and CUDA builds have different hashes.
$(SLOW): $(TEST)
	@echo "Adding $(TORCH) $(ORACLES) $(LIBTPU) ..."
	@$(PIP) install $(TORCH)
	@$(PIP) install $(ORACLES)
	@test "$$(uname -sm)" != "Linux x86_64" || $(PIP) install --no-deps --target $(VENV)/libtpu $(LIBTPU)
	@command -v chromium >/dev/null || { apt-get -qq update && apt-get -qq install -y chromium; } >/dev/null 2>&1 || \
	echo "chromium is not installed (apt install chromium): the tests that need a browser will skip"
	@touch $@

COMPILE = build/uv/bin/uv --no-config pip compile --quiet --universal --generate-hashes \
	--python-version 3.11 --custom-compile-command "make lock" $(UVFLAGS) \
	setup.py requirements/build.in -c requirements/legs.in

lock: | python
	@test -x build/uv/bin/uv || $(PYTHON) -m venv --clear build/uv
	@build/uv/bin/python -m pip --disable-pip-version-check --quiet install $(UV)
	$(COMPILE) --extra text --extra weights -o requirements.lock
	$(COMPILE) --extra test -c requirements.lock -o requirements-test.lock
	$(COMPILE) --extra text --extra weights --extra records --extra images --extra gcs --extra tpu \
		-c requirements.lock -o requirements/tpu.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find lm launch experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +
