"""How fast llama.cpp reads a prompt on this CPU, by compiler, library and type of the weights.

``python -m benchmarks.cpu_builds MODEL.gguf``: builds ggml's CPU backend in several ways, runs
llama.cpp's own llama-bench with each of them in turn, and prints medians. A way whose compiler or
library is missing is left out: clang-16, libopenblas-dev and libblis-dev are Debian's names. The
sources are those that ``make setup`` has fetched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from lookm_cpp.bench.machine import CORES
from rich.console import Console

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "cpu-builds"
COMMON = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DCMAKE_SKIP_RPATH=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_OPENSSL=OFF",
]
# GCC before 13 breaks the AMX kernels otherwise (third_party/README.md)
CURE = "-fno-tree-dse -fno-dse"
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
BUILDS = {
    "as here": [f"-DCMAKE_CXX_FLAGS={CURE}"],
    "clang 16": ["-DCMAKE_C_COMPILER=clang-16", "-DCMAKE_CXX_COMPILER=clang++-16"],
    "any AVX2": ["-DGGML_NATIVE=OFF"],
    "any AVX2, tuned": [
        "-DGGML_NATIVE=OFF",
        "-DCMAKE_C_FLAGS=-mtune=native",
        "-DCMAKE_CXX_FLAGS=-mtune=native",
    ],
    "no AMX": [f"-DCMAKE_C_FLAGS={NO_AMX}", f"-DCMAKE_CXX_FLAGS={NO_AMX}"],
    "OpenBLAS": [f"-DCMAKE_CXX_FLAGS={CURE}", "-DGGML_BLAS=ON", "-DGGML_BLAS_VENDOR=OpenBLAS"],
    "BLIS": [f"-DCMAKE_CXX_FLAGS={CURE}", "-DGGML_BLAS=ON", "-DGGML_BLAS_VENDOR=FLAME"],
    "no llamafile": [f"-DCMAKE_CXX_FLAGS={CURE}", "-DGGML_LLAMAFILE=OFF"],
}
TYPES = ("Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "IQ4_NL", "F16", "BF16")


def source() -> Path:
    """Where llama.cpp's sources are."""
    found = sorted((ROOT / "build").glob("*/_llama_cpp/*/CMakeLists.txt"))
    if not found:
        raise typer.BadParameter("llama.cpp's sources are not there; expected `make setup` first")
    return found[0].parent


def built(name: str, targets: list[str]) -> Path | None:
    """The folder with this build's libraries; ``None`` if it cannot be built here."""
    folder = FOLDER / name.replace(" ", "-")
    configure = ["cmake", "-S", str(source()), "-B", str(folder), *COMMON, *BUILDS[name]]
    build = ["cmake", "--build", str(folder), "-j", str(len(CORES)), "--target", *targets]
    for command in (configure, build):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            Console(stderr=True).print(f"{name} is left out: {' '.join(last)}")
            return None
    return folder / "bin"


def tokens_a_second(libraries: Path, model: Path, n_tokens: int, n_ubatch: int) -> float:
    """Of one prompt."""
    base = FOLDER / "as-here" / "bin"
    command = [base / "llama-bench", "-m", model, "-p", n_tokens, "-n", 0, "-r", 1, "-o", "json"]
    command += ["-t", len(CORES), "-ub", n_ubatch, "-fa", 1, "--no-warmup"]
    path = os.pathsep.join(str(folder) for folder in (libraries, base))
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LD_LIBRARY_PATH": path},
    )
    return float(json.loads(done.stdout)[0]["avg_ts"])


def in_type(model: Path, name: str) -> Path:
    """A copy of the model with weights of another type."""
    base = FOLDER / "as-here" / "bin"
    copy = FOLDER / f"{model.stem}-{name}.gguf"
    if not copy.exists():
        subprocess.run(
            [str(base / "llama-quantize"), "--allow-requantize", str(model), str(copy), name],
            capture_output=True,
            check=True,
            env={**os.environ, "LD_LIBRARY_PATH": str(base)},
        )
    return copy


def main(
    model: Annotated[Path, typer.Argument(help="A GGUF language model.")],
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 2048,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
    ubatch: Annotated[list[int] | None, typer.Option(help="Batch sizes.")] = None,
) -> None:
    """Print tokens a second while reading, by build, by type of the weights and by batch size."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, CORES)
    if not shutil.which("cmake"):
        raise typer.BadParameter("cmake is not there")
    base = built("as here", ["llama-bench", "llama-quantize"])
    if base is None:
        raise typer.Exit(1)
    builds = {name: built(name, ["ggml"]) for name in BUILDS if name != "as here"}
    default = 512
    cases = {"as here": (base, model, default)}
    cases |= {name: (path, model, default) for name, path in builds.items() if path is not None}
    cases |= {f"weights in {name}": (base, in_type(model, name), default) for name in TYPES}
    cases |= {f"n_ubatch {n}": (base, model, n) for n in ubatch or (256, 1024, 2048)}
    seen: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds):
        for name in list(cases)[:: -1 if number % 2 else 1]:
            seen[name].append(tokens_a_second(*cases[name][:2], tokens, cases[name][2]))
    for name, rates in seen.items():
        Console().print(
            f"{name}: {median(rates):.0f} tokens a second ({min(rates):.0f} to {max(rates):.0f})"
        )


if __name__ == "__main__":
    typer.run(main)
