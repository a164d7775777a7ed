#!/usr/bin/env bash
# On a machine with a GPU: builds for it, tests with caches on it, and measures. Results go to
# build/gpu.
#
#   benchmarks/gpu.sh cuda|vulkan|metal [arguments of the benchmark suite]
#
# cuda needs the CUDA toolkit (nvcc), vulkan what tests/backends/vulkan.sh names, and metal Apple's
# command line tools.
set -euo pipefail
cd "$(dirname "$0")/.."
backend=${1:?expected cuda, vulkan or metal}
shift
case $backend in
    cuda) options="-DGGML_CUDA=ON" ;;
    vulkan) options=$(tests/backends/vulkan.sh) ;;
    metal) options="-DGGML_METAL=ON" ;;
    *)
        echo "gpu.sh: $backend is unknown; expected cuda, vulkan or metal" >&2
        exit 2
        ;;
esac
out=$PWD/build/gpu/$backend
mkdir -p "$out"
python=$out/venv/bin/python

make setup VENV="$out/venv" BUILD="$out/cmake" CMAKE_ARGS="$options"
"$out/venv/bin/lookm" info --devices | tee "$out/devices.txt"
"$python" -m pytest --backend gpu --backend rpc \
    tests/session/test_oracles.py tests/session/test_embedded.py tests/session/test_backends.py | tee "$out/tests.txt"
cp benchmarks/README.md "$out"
"$python" -m benchmarks --output "$out" "$@" | tee "$out/benchmarks.txt"
