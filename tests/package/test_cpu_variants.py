"""Wheels contain code for several CPUs: the right one runs, and all of them answer alike."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import devices

X86 = {
    "x64": "",
    "sse42": "sse4_2",
    "ivybridge": "sse4_2 avx f16c",
    "haswell": "sse4_2 avx f16c fma avx2 bmi2",
    "alderlake": "sse4_2 avx f16c fma avx2 bmi2 avx_vnni",
    "skylakex": "avx2 fma f16c avx512f avx512cd avx512vl avx512dq avx512bw",
    "cascadelake": "avx512f avx512cd avx512vl avx512dq avx512bw avx512_vnni",
    "icelake": "avx512f avx512cd avx512vl avx512dq avx512bw avx512_vnni avx512vbmi",
    "zen4": "avx512f avx512cd avx512vl avx512dq avx512bw avx512_vnni avx512vbmi avx512_bf16",
    "sapphirerapids": "avx512_vnni avx512vbmi avx512_bf16 amx_tile amx_int8",
}
ARM = {
    "armv8_0": "",
    "armv8_2": "asimddp",
    "armv8_2_fp16": "asimddp asimdhp",
    "armv8_6": "asimddp asimdhp i8mm",
}
FEATURES = ARM if platform.machine() == "aarch64" else X86
"""What Linux calls the features that each variant needs."""
HWCAP, HWCAP2 = 16, 26
ARM_BITS = {"asimddp": (HWCAP, 20), "asimdhp": (HWCAP, 10), "i8mm": (HWCAP2, 13)}
"""Where the kernel says that an ARM has them: a key of `getauxval`, and a bit."""
COMPILED_FOR = "compiled for "
ASK = """
import json
from lookm_cpp import Llava, devices
from lookm_cpp.embedded import demo_prompts
llm = Llava.embedded(n_threads=1)
def top(prompt, kv_ratio):
    images = [{"type": "image_url", "image_url": str(image)} for image in prompt.images]
    content = [*images, {"type": "text", "text": prompt.question}]
    answer = llm.create_chat_completion([{"role": "user", "content": content}],
        kv_ratio=kv_ratio, logprobs=True, max_tokens=8, temperature=0)
    return [[t["token"], t["logprob"]] for t in answer["choices"][0]["logprobs"]["content"]]
print(json.dumps({"note": devices()[0]["note"],
    "answers": [top(p, r) for p in demo_prompts()[:6] for r in (1.0, 0.2)]}))
"""

pytestmark = pytest.mark.skipif(
    COMPILED_FOR not in devices()[0]["note"], reason="built for one CPU: make test-wheel"
)


def _flags() -> set[str]:
    if FEATURES is X86:
        line = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0]
        return set(line.split())
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    return {name for name, (key, bit) in ARM_BITS.items() if getauxval(key) >> bit & 1}


def _supported() -> list[str]:
    flags = _flags()
    return [name for name, needs in FEATURES.items() if set(needs.split()) <= flags]


@cache
def _answers(cpu: str) -> Any:
    child = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "LOOKM_CPU": cpu},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(child.stdout)


def test_the_best_variant_of_this_cpu_runs() -> None:
    assert devices()[0]["note"].endswith(COMPILED_FOR + _supported()[-1])


@pytest.mark.parametrize("cpu", FEATURES)
def test_every_variant_answers_alike(cpu: str) -> None:
    if cpu not in _supported():
        pytest.skip("this CPU cannot run it")
    found, best = _answers(cpu), _answers(_supported()[-1])
    assert found["note"].endswith(COMPILED_FOR + cpu)
    for answer, same in zip(found["answers"], best["answers"], strict=True):
        assert [token for token, _ in answer] == [token for token, _ in same]
        # Activations are rounded to 8 bits before they meet q8_0 weights, and code without AVX
        # rounds halves the other way. The largest difference seen is 0.093, without AVX.
        assert [p for _, p in answer] == pytest.approx([p for _, p in same], abs=0.15)


@pytest.mark.parametrize("cpu", ["", "pentium"])
def test_an_unknown_name_changes_nothing(cpu: str) -> None:
    assert _answers(cpu)["note"].endswith(COMPILED_FOR + _supported()[-1])
