#!/usr/bin/env bash
# Compiles and links the CUDA build without a GPU. nvcc and the toolkit's libraries come as wheels
# from the package index. The result is not run, so the device code need not be fast: -Ofc=max is
# nvcc's quickest setting. With ccache, a second build is short.
#
# Options of ggml that only add more of the same kernels are left out: one architecture, the oldest
# that this nvcc knows; no flash attention in ggml-cuda (ours is plain graphs either way); no NCCL;
# and no virtual memory, which needs the driver's library.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-$PWD/.venv/bin/python}
arch=${CUDA_ARCH:-75-real}
build=$PWD/build/cuda
toolkit=$build/toolkit/nvidia/cu13

if [ ! -e "$build/toolkit/done" ]; then
    rm -rf "$build/toolkit"
    "$python" -m pip install --disable-pip-version-check --progress-bar off --target "$build/toolkit" \
        'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-nvvm==13.0.*' \
        'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*' 'nvidia-cublas==13.*'
    # The wheels are made for loading. Linking needs names without versions, and nvcc needs lib64.
    for library in "$toolkit"/lib/*.so.*; do
        ln -sf "$(basename "$library")" "${library%%.so.*}.so"
    done
    ln -sfn lib "$toolkit/lib64"
    touch "$build/toolkit/done"
fi

# ccache knows the sources by this path
llama_cpp=$(sed -n 's/^llama.cpp_SOURCE_DIR:STATIC=//p' build/dev/CMakeCache.txt)
command -v ccache >/dev/null && launcher=(-DCMAKE_CUDA_COMPILER_LAUNCHER=ccache) || launcher=()
PATH=$(dirname "$python"):$PATH
cmake -S . -B "$build/check" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DPython_EXECUTABLE="$python" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" \
    -DLOOKM_LLAMA_CPP_DIR="$llama_cpp" \
    -DGGML_CUDA=ON -DCMAKE_CUDA_COMPILER="$toolkit/bin/nvcc" -DCUDAToolkit_ROOT="$toolkit" \
    -DCMAKE_CUDA_ARCHITECTURES="$arch" -DCMAKE_CUDA_FLAGS=-Ofc=max "${launcher[@]}" \
    -DGGML_CUDA_FA=OFF -DGGML_CUDA_NO_VMM=ON -DGGML_CUDA_NCCL=OFF
cmake --build "$build/check" --target _core "$@"
echo "CUDA: _core is compiled and linked for $arch; not run"
