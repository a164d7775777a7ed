#!/usr/bin/env bash
# Compiles and links the CUDA build without a GPU: nvcc and the toolkit's libraries come as wheels from the package index.
# Nothing of it can run here. About an hour on two cores; ccache, where installed, makes a second time short.
#
# Options of ggml that only make more of the same kernels are left out: one architecture, no flash attention in ggml-cuda
# (ours is plain graphs either way), no NCCL, and no virtual memory, which would need the driver's library.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-$PWD/.venv/bin/python}
arch=${CUDA_ARCH:-80-real}
build=$PWD/build/cuda
toolkit=$build/toolkit/nvidia/cu13

if [ ! -e "$build/toolkit/done" ]; then
    rm -rf "$build/toolkit"
    "$python" -m pip install --disable-pip-version-check --progress-bar off --target "$build/toolkit" \
        'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-runtime==13.0.*' \
        'nvidia-cuda-cccl==13.0.*' 'nvidia-cublas==13.*'
    # The wheels are made to be loaded, not to be linked against: names without versions, and lib64 as nvcc expects it.
    for library in "$toolkit"/lib/*.so.*; do
        ln -sf "$(basename "$library")" "${library%%.so.*}.so"
    done
    ln -sfn lib "$toolkit/lib64"
    touch "$build/toolkit/done"
fi

sources=(build/dev/_llama_cpp/*/) # where they are fetched already, ccache knows them by that path
[ -d "${sources[0]}" ] && llama=(-DLOOKM_LLAMA_CPP_DIR="$PWD/${sources[0]%/}") || llama=()
PATH=$(dirname "$python"):$PATH
cmake -S . -B "$build/check" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DPython_EXECUTABLE="$python" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" "${llama[@]}" \
    -DGGML_CUDA=ON -DCMAKE_CUDA_COMPILER="$toolkit/bin/nvcc" -DCUDAToolkit_ROOT="$toolkit" \
    -DCMAKE_CUDA_ARCHITECTURES="$arch" -DGGML_CUDA_FA=OFF -DGGML_CUDA_NO_VMM=ON -DGGML_CUDA_NCCL=OFF
cmake --build "$build/check" --target _core "$@"
echo "CUDA: _core is compiled and linked for $arch; not run"
