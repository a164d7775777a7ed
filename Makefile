# Every target is a line or two that a reader could type. CMAKE_ARGS goes to CMake: CMAKE_ARGS="-DGGML_CUDA=ON" make setup
PYTHON ?= python3
PY      = .venv/bin/python
SOURCES = CMakeLists.txt pyproject.toml $(shell find cpp third_party tests/cpp -type f 2>/dev/null)

.PHONY: setup demo test lint format bench clean FORCE

setup: .venv/built

.venv/tools: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(PY) -m pip install --disable-pip-version-check --progress-bar off --group dev
	touch $@

# Other CMake options than last time mean another build.
.venv/cmake_args: .venv/tools FORCE
	@echo '$(CMAKE_ARGS)' | cmp -s - $@ || echo '$(CMAKE_ARGS)' > $@

.venv/built: .venv/tools .venv/cmake_args $(SOURCES)
	$(PY) -m pip install --disable-pip-version-check --no-build-isolation -v \
	  -Cbuild-dir=build/dev -Ccmake.define.LOOKM_BUILD_TESTING=ON -Ccmake.define.LOOKM_WERROR=ON -e .
	touch $@

demo: setup
	.venv/bin/lookm demo

test: setup
	$(PY) -m pytest

lint: .venv/tools
	.venv/bin/ruff check . && .venv/bin/ruff format --check .
	.venv/bin/clang-format --dry-run --Werror $$(git ls-files 'cpp/*.h' 'cpp/*.cpp' 'tests/*.cpp')
	.venv/bin/mypy
	.venv/bin/codespell

format: .venv/tools
	.venv/bin/ruff check --fix . ; .venv/bin/ruff format .
	.venv/bin/clang-format -i $$(git ls-files 'cpp/*.h' 'cpp/*.cpp' 'tests/*.cpp')

bench: setup
	$(PY) -m benchmarks

clean:
	rm -rf build .venv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
