# The two commands: `make demo` and `make test`. Both set up what they need on a fresh machine (Python 3.10 or later, a C
# compiler, the package registries) and do nothing of the kind the second time. What they install stands in .ci/lock/, with
# hashes, so that a fresh clone is the same in a year; only test-newest takes what is new.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROGRAMS := $(VENV)/programs
OLDEST := build/oldest
NEWEST := build/newest
PY ?= 3.10
ANOTHER := build/python-$(PY)
TARGET ?= rk3588
# The editable install lists the modules there are: a file that changes with that list makes it anew.
MODULES := build/modules.txt
$(shell mkdir -p build && find ort_rknn converters conformance -name '*.py' | sort >$(MODULES).new && \
    if cmp -s $(MODULES).new $(MODULES); then rm $(MODULES).new; else mv $(MODULES).new $(MODULES); fi)
INSTALLED_FROM := pyproject.toml ort_rknn/native/CMakeLists.txt $(wildcard ort_rknn/native/*.c ort_rknn/native/*.h) $(MODULES)
INSTALLED_FROM += $(wildcard ort_rknn/native/ep/*.c ort_rknn/native/ep/*.h)
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# Installs the lock file $(2) and then ort_rknn into the environment $(1). The tools that build it are in the lock, too. uv
# is taken where it exists, because it is faster; pip does the same.
define install
	@echo "installing $(2) and ort_rknn into $(1) (under a minute) ..."
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(1)/bin/python --require-hashes -r $(2) && \
	    uv pip install --quiet --python $(1)/bin/python --no-deps --no-build-isolation -e .; \
	else $(1)/bin/python $(PIP_INSTALL) --require-hashes -r $(2) && \
	    $(1)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .; fi
	@touch $@
endef

.PHONY: docs demo demo-ocr emulator setup lint lock wheels release test test-board test-board-short test-changed-onnxruntime test-page test-ray test-serving test-frozen test-programs test-endurance test-large test-oldest test-newest test-python test-aarch64 test-plugin test-sanitizers conformance-nodes bench bench-engine bench-sharing fuzz soak readme clean

demo: $(READY)
	@$(BIN)/python examples/digits/demo.py

test: lint
	$(BIN)/ort-rknn toolkit install
	$(BIN)/python -m pytest -m "not slow and not aarch64 and not board"

# The device tests once more as aarch64 programs under qemu, with the vendor's real rknn-toolkit-lite2 (about a minute).
test-aarch64: $(READY)
	$(BIN)/python tests/aarch64/prepare.py
	build/aarch64/python -m pytest -p no:cacheprovider --confcutdir=tests/ort_rknn/devices tests/aarch64 \
	    tests/emulator tests/ort_rknn/engine/lanes/test_native.py \
	    $(addprefix tests/ort_rknn/devices/rknnrt/test_,$(addsuffix .py,device bound_context weight_sharing custom_ops open \
	    quirks interleave))

# Wheels for x86-64 and aarch64 in dist/, from one machine by Zig's compiler: checked by auditwheel, and installed into clean
# environments of every Python from 3.10 to 3.13 that is here (two minutes). `release` adds the sdist, with and without a
# compiler, and the notes of CHANGELOG.md.
WHEEL_TOOLS := build/wheel-tools
wheels: $(WHEEL_TOOLS)/.ready
	$(WHEEL_TOOLS)/bin/python .ci/wheels.py

release: $(WHEEL_TOOLS)/.ready
	$(WHEEL_TOOLS)/bin/python .ci/wheels.py --release

$(WHEEL_TOOLS)/.ready: .ci/lock/wheels.txt
	@test -x $(WHEEL_TOOLS)/bin/python || $(PYTHON) -m venv $(WHEEL_TOOLS) || uv venv --python $(PYTHON) $(WHEEL_TOOLS)
	@echo "installing .ci/lock/wheels.txt into $(WHEEL_TOOLS) (400 MB, most of it Zig's compiler) ..."
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(WHEEL_TOOLS)/bin/python --require-hashes -r .ci/lock/wheels.txt; \
	else $(WHEEL_TOOLS)/bin/python $(PIP_INSTALL) --require-hashes -r .ci/lock/wheels.txt; fi
	@touch $@

# The aarch64 wheel in an emulated board: Debian 12 and 13 for arm64 by unpacked packages under qemu, as an ordinary user,
# without a network: install, doctor, demo, toolkit, convert, session, board-test; without device nodes, in a container's
# view, without HOME, read-only (a quarter of an hour or more). `test-board-short`: Debian 12 without the toolkit (95 MB).
BOARD_WHEEL := build/board-wheel
test-board: $(READY) $(WHEEL_TOOLS)/.ready
	$(WHEEL_TOOLS)/bin/python .ci/wheels.py --cpu aarch64 --no-install --out $(BOARD_WHEEL)
	$(BIN)/python tests/board/prepare.py --wheel $(BOARD_WHEEL)/*.whl --toolkit --suite bookworm --suite trixie
	$(BIN)/python -m pytest -p no:cacheprovider -s -m board tests/board

test-board-short: $(READY) $(WHEEL_TOOLS)/.ready
	$(WHEEL_TOOLS)/bin/python .ci/wheels.py --cpu aarch64 --no-install --out $(BOARD_WHEEL)
	$(BIN)/python tests/board/prepare.py --wheel $(BOARD_WHEEL)/*.whl
	$(BIN)/python -m pytest -p no:cacheprovider -s -m "board and not slow" tests/board/test_first_contact.py

# Sessions once more with the oldest onnxruntime, and the oldest pure-Python packages, that pyproject.toml takes (a minute
# or two). numpy and onnx are those of the other lock: old ones have no wheels for new Pythons.
SESSIONS := tests/parity tests/converters/onnx_file/test_external_data.py \
    $(addprefix tests/ort_rknn/,$(addsuffix .py,test_surface api/test_session api/test_install_shim options/test_providers \
    $(addprefix ort_types/test_,session_options iobinding ortvalue profiling) sessions/test_feed opening/test_epcontext_options))
test-oldest: $(OLDEST)/.ready
	$(OLDEST)/bin/python -m pytest -p no:cacheprovider -m "not slow and not toolkit" $(SESSIONS)

$(OLDEST)/.ready: $(READY) .ci/lock/oldest.txt
	@test -x $(OLDEST)/bin/python || $(BIN)/python -m venv $(OLDEST) || uv venv --python $(BIN)/python $(OLDEST)
	$(call install,$(OLDEST),.ci/lock/oldest.txt)

# Sessions and zero copy once more with the newest onnxruntime, onnx and numpy that the registry has today (a minute or two).
MOVING := onnxruntime onnx onnx-ir numpy
test-newest: $(NEWEST)/.ready
	@echo "upgrading $(NEWEST) to the newest $(MOVING) ..."
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(NEWEST)/bin/python --upgrade $(MOVING); \
	else $(NEWEST)/bin/python $(PIP_INSTALL) --upgrade $(MOVING); fi
	@$(NEWEST)/bin/python -c 'from importlib.metadata import version; import sys; \
	    print("newest:", ", ".join(f"{name} {version(name)}" for name in sys.argv[1:]))' $(MOVING)
	$(NEWEST)/bin/python -m pytest -p no:cacheprovider -m "not slow and not toolkit" $(SESSIONS) tests/ort_rknn/sessions/test_zero_copy.py

$(NEWEST)/.ready: $(READY) .ci/lock/dev.txt
	@test -x $(NEWEST)/bin/python || $(BIN)/python -m venv $(NEWEST) || uv venv --python $(BIN)/python $(NEWEST)
	$(call install,$(NEWEST),.ci/lock/dev.txt)

# Takes the newest of everything into the lock files: what `make test` and the others install from then on.
lock: $(READY)
	$(BIN)/python .ci/lock/renew.py

# The suite on another Python (PY=3.13), without the toolkit's tests and the slow ones: a few minutes. The interpreter is
# that of the system, pyenv's, or uv's.
test-python: $(ANOTHER)/.ready
	$(ANOTHER)/bin/python -m pytest -p no:cacheprovider -m "not slow and not toolkit and not aarch64 and not board"

$(ANOTHER)/.ready: $(INSTALLED_FROM) .ci/lock/dev.txt
	@for python in python$(PY) $(HOME)/.pyenv/versions/$(PY).*/bin/python; do \
	    test -x $(ANOTHER)/bin/python || ! "$$python" -c "import ensurepip" 2>/dev/null || "$$python" -m venv $(ANOTHER); done
	@test -x $(ANOTHER)/bin/python || uv venv --python $(PY) $(ANOTHER) || { echo "there is no Python $(PY) here"; exit 1; }
	$(call install,$(ANOTHER),.ci/lock/dev.txt)

# The plugin execution provider (minutes): under valgrind; beside the package's sessions, bit for bit, on every case of the ONNX
# standard; and with the oldest onnxruntime it works with.
PLUGIN_OLDEST := build/plugin-oldest
test-plugin: $(READY) $(PLUGIN_OLDEST)/.ready
	$(BIN)/python -m pytest -m slow tests/plugin
	PYTHONPATH=$(PLUGIN_OLDEST) $(BIN)/python -m pytest -p no:cacheprovider -m "not slow" \
	    $(addprefix tests/plugin/test_,$(addsuffix .py,sessions types runs registration options library))
	PYTHONPATH=.:converters:conformance $(BIN)/python -m tests.plugin.parity

$(PLUGIN_OLDEST)/.ready: $(READY) .ci/lock/plugin.txt
	@rm -rf $(PLUGIN_OLDEST)
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r .ci/lock/plugin.txt --no-deps --target $(PLUGIN_OLDEST)
	@touch $@

# The native lanes under ThreadSanitizer, AddressSanitizer and UndefinedBehaviorSanitizer.
test-sanitizers:
	tests/native/sanitizers.sh

# A program frozen by PyInstaller converts and runs a model (five minutes).
test-frozen: $(READY)
	$(BIN)/python $(PIP_INSTALL) -c .ci/lock/programs.txt pyinstaller
	$(BIN)/ort-rknn toolkit install
	$(BIN)/python -m pytest -m slow tests/programs/test_frozen.py

# The HTML report and the documentation's site in headless Chromium (Debian: apt-get install chromium); skipped where there is none.
test-page: $(READY) docs
	$(BIN)/python -m pytest -m slow tests/conformance/report tests/docs

# The documentation as a site in build/site: pages that programs write must be up to date, no warning, every link leads somewhere,
# and nothing is fetched when a page is read (half a minute). `python -m http.server -d build/site` shows it, with its search.
DOCS := build/docs-env
docs: $(READY) $(DOCS)/.ready
	$(BIN)/python -m docs.list_options --check && $(BIN)/python -m docs.list_errors --check && \
	    $(BIN)/python -m docs.list_tolerances --check || { echo "pages are out of date: make readme"; exit 1; }
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs --quiet build
	$(BIN)/python -m docs.check_site build/site

$(DOCS)/.ready: $(READY) .ci/lock/docs.txt
	@test -x $(DOCS)/bin/python || $(BIN)/python -m venv $(DOCS) || uv venv --python $(BIN)/python $(DOCS)
	@echo "installing .ci/lock/docs.txt into $(DOCS) ..."
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(DOCS)/bin/python --require-hashes -r .ci/lock/docs.txt; \
	else $(DOCS)/bin/python $(PIP_INSTALL) --require-hashes -r .ci/lock/docs.txt; fi
	@touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(READY)
	$(BIN)/ort-rknn toolkit install

$(READY): $(INSTALLED_FROM) .ci/lock/dev.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || uv venv --python $(PYTHON) $(VENV)
	$(call install,$(VENV),.ci/lock/dev.txt)

# Unmodified programs from the package registry, in an environment of their own; compiles real OCR models (minutes).
test-programs: $(READY)
	$(BIN)/ort-rknn toolkit install
	$(BIN)/python -m pytest -m slow tests/programs

# A page of text read by RapidOCR, its networks on the simulated NPU (the first time compiles them: minutes).
demo-ocr: $(PROGRAMS)/.ready
	$(BIN)/ort-rknn toolkit install
	@PYTHONPATH=.:converters $(PROGRAMS)/bin/python examples/ocr/demo.py

$(PROGRAMS)/.ready: $(READY) .ci/lock/programs.txt
	@test -x $(PROGRAMS)/bin/python || $(BIN)/python -m venv $(PROGRAMS)
	@echo "installing RapidOCR into $(PROGRAMS) ..."
	@$(PROGRAMS)/bin/python $(PIP_INSTALL) -c .ci/lock/programs.txt rapidocr-onnxruntime \
	    click filelock numpy onnx onnx-ir onnxruntime pillow platformdirs rich
	@touch $@

# Sessions on many boards by Ray, in an environment of its own (the first time installs Ray and its Serve: 320 MB).
RAY := build/ray
test-ray: $(RAY)/.ready
	PYTHONPATH=.:converters:conformance $(RAY)/bin/python -m pytest -p no:cacheprovider -m slow tests/ort_rknn/ray

$(RAY)/.ready: $(READY) .ci/lock/dev.txt .ci/lock/ray.txt
	@test -x $(RAY)/bin/python || $(BIN)/python -m venv $(RAY) || uv venv --python $(BIN)/python $(RAY)
	$(call install,$(RAY),.ci/lock/dev.txt)
	@echo "installing Ray into $(RAY) ..."
	@$(RAY)/bin/python $(PIP_INSTALL) -c .ci/lock/ray.txt "ray[serve]" || { rm -f $@; exit 1; }

# Serving, the long way: 10,000 calls with a server killed in them, 10,000 mangled requests, a bad line, the parity cases over
# gRPC and HTTP, and the real Ultralytics package as a client in an environment of its own (the first time installs it with
# PyTorch for CPUs: 400 MB). Some minutes.
ULTRALYTICS := build/ultralytics
test-serving: $(READY) $(ULTRALYTICS)/.ready
	ORT_RKNN_LONG_TESTS=1 $(BIN)/python -m pytest -m "slow or not slow" tests/ort_rknn/serving tests/ort_rknn/remote \
	    tests/parity/test_remote.py
	PYTHONPATH=.:converters:conformance YOLO_CONFIG_DIR=$(ULTRALYTICS)/settings $(ULTRALYTICS)/bin/python -m pytest \
	    -p no:cacheprovider -m slow tests/ort_rknn/serving/test_ultralytics.py

$(ULTRALYTICS)/.ready: $(READY) .ci/lock/dev.txt .ci/lock/ultralytics.txt
	@test -x $(ULTRALYTICS)/bin/python || $(BIN)/python -m venv $(ULTRALYTICS) || uv venv --python $(BIN)/python $(ULTRALYTICS)
	$(call install,$(ULTRALYTICS),.ci/lock/dev.txt)
	@echo "installing Ultralytics into $(ULTRALYTICS) ..."
	@$(ULTRALYTICS)/bin/python $(PIP_INSTALL) -c .ci/lock/ultralytics.txt \
	    --extra-index-url https://download.pytorch.org/whl/cpu ultralytics || { rm -f $@; exit 1; }

# A thousand sessions made and dropped, on each device.
test-endurance: $(READY)
	$(BIN)/python -m pytest -m slow tests/ort_rknn/api/test_endurance.py

# A model of 2.5 GB converted, saved, moved and opened again: three minutes, 12 GB of memory.
test-large: $(READY)
	$(BIN)/python -m pytest -m slow tests/converters/onnx_file/test_external_data.py -k in_and_out

# The tests' emulated librknnrt, for `ort-rknn board-test` and `--device emulated` without a board.
emulator: $(READY)
	@$(BIN)/python -c 'from tests.helpers.emulator import build_emulator; \
	    print(f"export ORT_RKNN_RUNTIME_LIBRARY={build_emulator()}")'

# All of the ONNX standard's backend test cases on the simulator (minutes); after an interruption it goes on where it was.
conformance-nodes: $(READY)
	$(BIN)/ort-rknn toolkit install
	@mkdir -p out
	$(BIN)/ort-rknn conformance --flow simulator --target $(TARGET) --json out/conformance-$(TARGET).json --resume

bench: $(READY)
	$(BIN)/ort-rknn toolkit install
	for script in benchmarks/[a-z]*.py; do \
	    grep -q __main__ $$script || continue; echo "== $$script"; $(BIN)/python $$script || exit 1; done

SECONDS ?= 600
# Mutated files for every reader of what comes from a disk (ten minutes): only errors of ours, in 2 s and 500 MB each.
fuzz: $(READY)
	PYTHONPATH=.:converters:conformance $(BIN)/python -m tests.fuzz.run --seconds $(SECONDS)

# Ten minutes of faults, hangs, cancels, closes and re-opens over both kinds of lanes: nothing may be lost, nothing may leak.
soak: $(READY)
	$(BIN)/python benchmarks/soak.py --seconds $(SECONDS)

# The engine's figures on the emulated runtime beside their targets (about three minutes; the computer should be idle).
bench-engine: $(READY)
	$(BIN)/python benchmarks/engine.py

# Sessions and processes that share one emulated NPU, beside their targets (about two minutes; the computer should be idle).
bench-sharing: $(READY)
	$(BIN)/python benchmarks/sharing.py

# What is written by programs: the pages of options, hardware, errors and tolerances.
readme: $(READY)
	$(BIN)/python -m docs.write_hardware
	$(BIN)/python -m docs.list_options
	$(BIN)/python -m docs.list_errors
	$(BIN)/python -m docs.list_tolerances

clean:
	rm -rf $(VENV) build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# onnxruntime's private names taken away or changed, every one of them, each in a process of its own (some minutes).
test-changed-onnxruntime: $(READY)
	$(BIN)/python -m pytest -m slow tests/ort_rknn/ort_private
