# The same by hand: python3 -m venv .venv; .venv/bin/pip install -r requirements.txt; .venv/bin/python scripts/demo.py
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo studio web test test-all test-browser coverage test-gpu prove-gpu lint install
.DELETE_ON_ERROR:

demo: install
	$(BIN)/python scripts/demo.py

studio: install
	$(BIN)/python scripts/studio.py

# The page without a server: static files, the models run in the visitor's browser. Needs npm.
WEB ?= build/web
web: install
	$(BIN)/python -c 'from psp.commands.main import run; run()' web $(WEB)

PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4
test: install
	$(PYTEST) --dist worksteal

# With the tests that are marked thorough, and the whole page in a headless Chromium: before a release.
ALL := 'not slow and not gpu and not browser'
test-all: install
	$(PYTEST) --dist worksteal -m $(ALL)
	$(MAKE) test-browser BROWSER=browser

BROWSER ?= browser and not thorough
test-browser: install
	$(BIN)/python -m pytest -n auto --maxprocesses 2 --dist loadfile -m '$(BROWSER)' tests/studio/test_studio_browser*.py

# The tests once more, counting the lines that they run; fails below the share that pyproject.toml names. Counting takes
# time of its own, so the test of how long names take is left out.
coverage: install
	$(PYTEST) --dist worksteal -m $(ALL) --cov --cov-report=term:skip-covered --deselect tests/inference/test_outputs.py::test_many_names_take_no_time

# Where there is a GPU, nvcc and compute-sanitizer: the tests marked gpu, then the kernels alone under the sanitizer.
# With another Python than .venv's: make test-gpu GPU_PYTHON=python3. The tests named here need torch and pytest alone.
GPU_PYTHON ?= $(BIN)/python
GPU_TESTS ?= $(addprefix tests/, ops/test_kernels_gpu.py ops/test_upfirdn2d.py ops/test_bias_act.py ops/test_ops_loader.py inference/test_engine.py training/test_ranger.py)
NVCC ?= nvcc -std=c++20 -O2 -lineinfo -I stylegan2_ops/csrc
test-gpu: build/kernels_device
	$(GPU_PYTHON) -m pytest -m gpu $(GPU_TESTS)
	build/kernels_device 300
	for tool in memcheck racecheck synccheck initcheck; do compute-sanitizer --tool $$tool --error-exitcode 3 build/kernels_device 5 || exit; done

# Everything that a GPU can tell about this project, in at most 8 minutes: PROOF has the results afterwards.
PROOF ?= output/proof
prove-gpu:
	$(GPU_PYTHON) scripts/prove_gpu.py --out $(PROOF)

build/kernels_%: tests/ops/kernels_%.cu $(wildcard stylegan2_ops/csrc/*)
	mkdir -p build
	$(NVCC) -arch=native $< stylegan2_ops/csrc/*.cu -o $@

# By name: folders of your own beside them are nobody's business.
CHECKED := psp stylegan2_ops criteria datasets scripts docs tests setup.py
lint: install
	$(BIN)/python -m ruff check $(CHECKED)
	$(BIN)/python -m ruff format --check $(CHECKED)
	$(BIN)/python -m mypy psp stylegan2_ops criteria datasets scripts

install: $(STAMP)

# A .venv that was made by hand stays; what it lacks is installed. Only changed requirements make it run again.
$(STAMP): requirements.txt constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit("error: needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12") if sys.version_info < (3, 10) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo 'Installing what requirements.txt names into .venv (two minutes, once)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
