"""After compression the sequence moves to a smaller cache, and its answer does not change.

Other memories (M-RoPE, windows, hybrids) are in tests/zoo, where a session's tokens are compared
with those of a bare context.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from core_session import Session
from lookm_cpp import Llava
from lookm_cpp.embedded import MMPROJ, MODEL, demo_prompts

from session.tiny_models import write_llama

N_ANSWER = 64


def _answer(
    session: Session, prompt: str, images: list[Any], n: int = N_ANSWER, **options: Any
) -> list[bytes]:
    session.prefill(prompt, images, n_answer=n, **{"kv_ratio": 0.3, "method": "h2o", **options})
    session.start(temperature=0.0)
    return list(islice(iter(session.next, None), n))


@pytest.mark.parametrize("flash_attn", ["on", "off"])
@pytest.mark.parametrize("cache_type", ["f16", "q8_0", "f32"])
def test_the_answer_is_the_same(tmp_path: Path, cache_type: str, flash_attn: str) -> None:
    """64 greedy tokens; K alone is quantized where V may not be."""
    model = str(write_llama(tmp_path / "model.gguf", n_ctx=2048))
    type_v = "f16" if cache_type == "q8_0" and flash_attn == "off" else cache_type
    prompt = "A long text. " * 90
    answers, sizes = [], []
    for shrink in (False, True):
        types: Any = {"type_k": cache_type, "type_v": type_v}
        session = Session(model, "", n_threads=1, flash_attn=flash_attn, shrink=shrink, **types)
        answers.append(_answer(session, prompt, []))
        stats = session.stats
        sizes.append(
            stats["kv_bytes_allocated_after"]
            / (stats["kv_bytes_used_before"] / stats["prompt_cells"])
        )
    assert len(answers[0]) == N_ANSWER
    assert answers[0] == answers[1]
    kept = stats["kept_cells"]
    assert kept == 2 * int(0.15 * stats["prompt_cells"])
    assert sizes == [2048, -(-(kept + N_ANSWER) // 256) * 256]


def test_a_trial_whose_answer_outgrew_its_cache(tmp_path: Path) -> None:
    """The context that read the prompt is gone; uncompressed, the prompt is still there."""
    session = Session(str(write_llama(tmp_path / "model.gguf", n_ctx=2048)), "", n_threads=1)
    session.read("A text. " * 25, [], kv_ratio=0.3, method="h2o")
    answers = []
    for _ in range(2):
        session.trial(kv_ratio=1.0, method="origin")
        session.start(temperature=1.0, seed=5, ignore_eos=True)
        answers.append([session.next() for _ in range(300)])
        with pytest.raises(ValueError, match="trial: an answer has outgrown the context"):
            session.trial(kv_ratio=0.3, method="h2o")
    assert answers[0] == answers[1]


def test_a_trial_under_a_cap(tmp_path: Path) -> None:
    """As after ``prefill``, an answer that fills the cap forgets its own cells only."""
    session = Session(
        str(write_llama(tmp_path / "model.gguf", n_ctx=2048)), "", n_threads=1, kv_cells=256
    )
    answers = []
    for begin in (session.prefill, session.read):
        begin("A text. " * 15, [], kv_ratio=1.0, method="origin")
        if begin == session.read:
            session.trial(kv_ratio=1.0, method="origin")
        session.start(temperature=1.0, seed=5, ignore_eos=True)
        answers.append([session.next() for _ in range(300)])
    assert answers[0] == answers[1]


def test_an_answer_outgrows_its_cache(tmp_path: Path) -> None:
    """A cache with space for one token grows by 400, and the answer is as without growing."""
    model = str(write_llama(tmp_path / "model.gguf", n_ctx=2048))
    answers = []
    for shrink in (False, True):
        session = Session(model, "", n_threads=1, shrink=shrink)
        session.prefill("A text. " * 100, [], kv_ratio=0.2, method="h2o", n_answer=1)
        session.start(temperature=0.0)
        answers.append(list(islice(iter(session.next, None), 400)))
    assert len(answers[0]) == 400
    assert answers[0] == answers[1]


def test_demo_answers_are_the_same() -> None:
    answers: list[list[str]] = []
    for shrink in (False, True):
        with Llava(MODEL, mmproj=MMPROJ, n_threads=1, kv_ratio=0.2, shrink=shrink) as llm:
            answers.append(
                [llm.ask(p.content, p.images, max_tokens=48) for p in demo_prompts()[::3]]
            )
    assert answers[0] == answers[1]


MEMORY = """
import re, sys
from lookm_cpp import _core

def resident():
    with open("/proc/self/smaps_rollup") as f:
        return int(re.search(r"Rss: +([0-9]+) kB", f.read())[1]) * 1024

types = {"type_k": "f32", "type_v": "f32"}
shrink = sys.argv[2] == "True"
options = _core.ModelOptions(model_path=sys.argv[1], n_threads=1, shrink=shrink, **types)
session = _core.Session(options)
before = resident()
how = _core.Compression(kv_ratio=0.1, method="h2o")
session.prefill("A long text. " * 600, [], how, n_answer=64)
allocated = [session.stats[f"kv_bytes_allocated_{when}"] for when in ("before", "after")]
print(before, resident(), *allocated)
"""


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells what is resident"
)
def test_memory_goes_back_to_the_system(tmp_path: Path) -> None:
    """The system's figure falls by what the cache gave up, within 4 MiB of other buffers."""
    model = write_llama(tmp_path / "model.gguf", n_embd=512, n_ctx=16384)

    def run(shrink: bool) -> list[int]:
        command = [sys.executable, "-c", MEMORY, str(model), str(shrink)]
        return [int(x) for x in subprocess.check_output(command, text=True).split()]

    _, resident_all, _, allocated_all = run(False)
    _, resident_shrunk, before, after = run(True)
    assert allocated_all == 16384 * 4096
    assert after < 0.15 * before
    given_back = allocated_all - after
    assert resident_all - resident_shrunk > given_back - (4 << 20)
