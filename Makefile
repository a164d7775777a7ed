# Every target is a line or two that you could type yourself. Variables:
#   CMAKE_ARGS   options for CMake: CMAKE_ARGS="-DGGML_CUDA=ON" make setup
#   VENV, BUILD  folders; set both for a second build next to the usual one
#   WEB_UI       ON builds the server's web page as well, which needs npm and the network.
#                `make web` turns it on for later builds.
PYTHON ?= python3
VENV   ?= .venv
BUILD  ?= build/dev
WEB_UI ?= $(if $(wildcard $(BUILD)/web_ui),ON,OFF)
PY      = $(VENV)/bin/python
SOURCES = CMakeLists.txt pyproject.toml $(shell find cpp third_party tests/cpp -type f 2>/dev/null)

.PHONY: setup web demo test test-fast test-backends test-rpc test-vulkan test-web test-load \
        test-newest fuzz wheel wheel-vulkan test-wheel check-cuda lint format docs bench \
        bench-server llama-server asan tsan clean FORCE

setup: $(VENV)/built

$(VENV)/tools: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(PY) -m pip install --disable-pip-version-check --progress-bar off --group dev
	touch $@

# Builds again if the CMake options differ from those of the last build.
$(VENV)/cmake_args: $(VENV)/tools FORCE
	@echo '$(CMAKE_ARGS) $(WEB_UI)' | cmp -s - $@ || echo '$(CMAKE_ARGS) $(WEB_UI)' > $@

# Installs again if there are other modules: an editable install knows them by name.
$(VENV)/modules: $(VENV)/tools FORCE
	@find python -name '*.py' | LC_ALL=C sort | cmp -s - $@ || \
	  find python -name '*.py' | LC_ALL=C sort > $@

$(VENV)/built: $(VENV)/tools $(VENV)/cmake_args $(VENV)/modules $(SOURCES)
	$(PY) -m pip install --disable-pip-version-check --no-build-isolation -v \
	  -Cbuild-dir=$(BUILD) -Ccmake.define.LOOKM_BUILD_TESTING=ON -Ccmake.define.LOOKM_WERROR=ON \
	  -Ccmake.define.GGML_RPC=ON -Ccmake.define.LOOKM_WEB_UI=$(WEB_UI) -e .
	touch $@

# Builds the server with its web page, now and in later builds
web:
	mkdir -p $(BUILD) && touch $(BUILD)/web_ui
	$(MAKE) setup WEB_UI=ON

demo: setup
	$(VENV)/bin/lookm demo

# Files of tests run side by side, as many as there are cores, but no more than four
SIDE_BY_SIDE = -n auto --maxprocesses 4 --dist loadscope
test: setup
	$(PY) -m pytest $(SIDE_BY_SIDE)

# What a change breaks most often, in less than a minute
FAST_TESTS = tests/parity tests/test_minimal.py tests/package \
  tests/session/test_oracles.py::test_eviction_per_head_equals_masked_attention \
  tests/session/test_embedded.py::test_stats_of_a_compressed_cache \
  tests/session/test_cli.py::test_ask tests/bench/test_report.py \
  tests/server/test_answers.py::test_a_request_chooses_its_ratio \
  tests/evaluation/test_statistics.py tests/evaluation/test_milebench_rules.py \
  tests/zoo/test_chunks.py::test_one_image_at_a_time
SLOW_TESTS = tests/package/test_readme.py tests/package/test_stubs.py
test-fast: setup
	$(PY) -m pytest --backend cpu $(SLOW_TESTS:%=--deselect %) $(FAST_TESTS)

# Tests with the cache on RPC servers, then on Vulkan (Mesa's lavapipe if there is no GPU)
DEVICE_TESTS = tests/session/test_oracles.py tests/session/test_embedded.py \
               tests/session/test_backends.py
test-backends: test-rpc test-vulkan

test-rpc: setup
	$(PY) -m pytest --backend rpc --backend rpc-2 $(DEVICE_TESTS) tests/session/test_metal.py

test-vulkan: setup
	llama=$$(sed -n 's/^llama.cpp_SOURCE_DIR:STATIC=//p' $(BUILD)/CMakeCache.txt) && \
	  options=$$(tests/backends/vulkan.sh) && \
	  $(MAKE) setup VENV=build/vulkan/venv BUILD=build/vulkan/cmake \
	    CMAKE_ARGS="$$options -DLOOKM_LLAMA_CPP_DIR=$$llama" && \
	  { [ ! -e build/keep_buffers.so ] || \
	    export LD_PRELOAD=$$PWD/build/keep_buffers.so GGML_VK_DISABLE_F16=1; } && \
	  GGML_VK_VISIBLE_DEVICES=$${GGML_VK_VISIBLE_DEVICES-0} \
	  build/vulkan/venv/bin/python -m pytest --backend gpu --timeout 1800 $(DEVICE_TESTS)

# Tests of the server's page in a browser; needs chromium (on Debian: apt-get install chromium)
test-web: web
	$(PY) -m pip install --quiet --disable-pip-version-check --group web
	$(PY) -m pytest tests/server/test_web.py tests/explaining/test_page.py

# The load test of the server at full length: eight clients with fifty requests each over four slots
test-load: setup
	LOOKM_LOAD_REQUESTS=50 $(PY) -m pytest tests/server/test_load.py --timeout 3600

# Builds and tests against the llama.cpp of the newest llama-cpp-python, even if it has drifted
test-newest: $(VENV)/tools
	rm -rf build/newest/llama.cpp
	$(PY) third_party/fetch_sdist.py llama-cpp-python newest any vendor/llama.cpp \
	  build/newest/llama.cpp
	$(MAKE) setup VENV=build/newest/venv BUILD=build/newest/cmake WEB_UI=OFF CMAKE_ARGS="\
	  -DLOOKM_LLAMA_CPP_DIR=$(CURDIR)/build/newest/llama.cpp -DLOOKM_ACCEPT_HEADER_DRIFT=ON \
	  -DLOOKM_UNITY_BUILD=OFF"
	build/newest/venv/bin/python -m pytest $(SIDE_BY_SIDE)

# Hostile inputs for SECONDS, the same time for each kind of input; SEED decides which ones
SECONDS ?= 600
SEED    ?= 1
fuzz: setup
	PYTHONPATH=tests $(PY) -m fuzz --seconds $(SECONDS) --seed $(SEED)

# Compiles and links for CUDA without running it, for one architecture (default: CUDA_ARCH=75-real)
check-cuda: setup
	tests/backends/cuda.sh

lint: $(VENV)/tools
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run --Werror $$(git ls-files 'cpp/*.h' 'cpp/*.cpp' 'tests/*.cpp')
	$(VENV)/bin/mypy
	$(VENV)/bin/codespell

format: $(VENV)/tools
	$(VENV)/bin/ruff check --fix . ; $(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $$(git ls-files 'cpp/*.h' 'cpp/*.cpp' 'tests/*.cpp')

# Builds the site in build/docs. Its pages can be opened as files; its search needs `mkdocs serve`.
docs: $(VENV)/tools
	$(PY) -m pip install --quiet --disable-pip-version-check --group docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build

# A wheel in dist/ for this Python, which contains code for every CPU of this architecture
wheel: WEB_UI = ON
wheel: $(VENV)/tools
	$(PY) -m pip install --quiet --disable-pip-version-check --group wheel
	rm -rf build/wheel && $(PY) -m pip wheel --no-deps --wheel-dir build/wheel \
	  -Ccmake.define.LOOKM_CPU_VARIANTS=ON -Ccmake.define.LOOKM_WEB_UI=$(WEB_UI) $(WHEEL_ARGS) .
	PATH=$(abspath $(VENV)/bin):$$PATH \
	  $(VENV)/bin/auditwheel repair --wheel-dir dist build/wheel/*.whl

# The same with Vulkan: a wheel of the build "1vulkan", which runs on the CPU where no GPU is
wheel-vulkan:
	options=$$(tests/backends/vulkan.sh | sed -E 's/(^| )-D/\1-Ccmake.define./g') && \
	  $(MAKE) wheel WHEEL_ARGS="-Cbuild-dir=build/vulkan/wheel -Cwheel.build-tag=1vulkan $$options"

# Installs the newest wheel of dist/ in a fresh environment and tries it there
WHEEL_TESTS = tests/package/test_cpu_variants.py tests/package/test_version.py \
  tests/test_minimal.py tests/parity/test_scores.py tests/parity/test_compress.py \
  tests/parity/test_prune.py tests/session/test_embedded.py tests/session/test_cli.py \
  tests/session/test_chat.py tests/session/test_images.py tests/server/test_answers.py \
  tests/server/test_reuse.py tests/explaining/test_command.py
WHEEL_PY = build/wheel/venv/bin/python
test-wheel:
	rm -rf build/wheel/venv && $(PYTHON) -m venv build/wheel/venv
	$(WHEEL_PY) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(WHEEL_PY) -m pip install --quiet --disable-pip-version-check --group test \
	  $$(ls -t dist/*.whl | head -1)
	build/wheel/venv/bin/lookm demo
	$(WHEEL_PY) -m pytest --backend cpu $(WHEEL_TESTS)

bench: setup
	$(PY) -m benchmarks

# The unmodified llama-server, for tests/server/test_upstream.py and the benchmark
llama-server: setup
	$(VENV)/bin/ninja -C $(BUILD) llama-server

bench-server: llama-server
	$(PY) -m benchmarks.server
	$(PY) -m benchmarks.server_users

# Tests of lookm-server under AddressSanitizer and UBSan, or under ThreadSanitizer. Run both when
# the server's hook has changed.
asan: SANITIZE = address,undefined
tsan: SANITIZE = thread
asan tsan: setup
	$(VENV)/bin/cmake -S . -B build/$@ -G Ninja \
	  -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(VENV)/bin/ninja -DCMAKE_BUILD_TYPE=Release -DLOOKM_WEB_UI=OFF \
	  -DGGML_RPC=ON -DLOOKM_SANITIZE=$(SANITIZE) \
	  -DLOOKM_LLAMA_CPP_DIR=$(wildcard $(CURDIR)/build/dev/_llama_cpp/*) \
	  -DPython_EXECUTABLE=$(CURDIR)/$(PY) -Dpybind11_DIR=$$($(PY) -m pybind11 --cmakedir)
	$(VENV)/bin/ninja -C build/$@ lookm-server
	LSAN_OPTIONS=suppressions=$(CURDIR)/tests/server/leaks.txt \
	  LOOKM_SERVER_BINARY=build/$@/cpp/lookm/server/lookm-server \
	  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  TSAN_OPTIONS=halt_on_error=1:suppressions=$(CURDIR)/tests/server/races.txt \
	  $(PY) -m pytest tests/server

clean:
	rm -rf build $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
