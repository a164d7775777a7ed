"""``kv_cells``: a session under a cap, against the same pieces on a bare context, and what users
see of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_session import Session
from lookm_cpp import Llava
from lookm_cpp.cli import main
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL, DemoPrompt

from session.tiny_models import write_llama, write_mamba

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

Capture = pytest.CaptureFixture[str]
FIRST_BYTE = 3
N_TOKENS = 48
BEFORE, CONTEXT, AFTER = "Read this now: ", "The code of Anna is 4821. " * 30, " And what is it?"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of text alone; every byte is a token."""
    return str(write_llama(tmp_path_factory.mktemp("tiny") / "llama.gguf", n_ctx=4096))


def tokens_of(pieces: Sequence[bytes]) -> list[int]:
    return [FIRST_BYTE + piece[0] for piece in pieces]


def read_through(
    context: Any, cells: list[tuple[int, bool]], cap: int, method: str, n_answer: int
) -> Any:
    """What the session is to do, by a plan that tests/parity checks and squeezes that
    test_squeeze.py does.
    """
    kinds = [text for _, text in cells]
    starts = [i for i in range(len(cells)) if i == 0 or kinds[i] != kinds[i - 1]]
    prior_none = not method.startswith("text_prior")
    sizes = [end - start for start, end in zip(starts, [*starts[1:], len(cells)], strict=True)]
    parts = [
        (n, kinds[start], prior_none or not kinds[start], False)
        for n, start in zip(sizes, starts, strict=True)
    ]
    plan = _oracle.PromptCap(parts, cap, n_batch=2048, n_answer=n_answer)
    context.observe_all(method)
    squeezes, at, logits = 0, 0, None

    def room(n: int) -> int:
        runs = plan.room_for(n)
        if runs:
            context.squeeze(0, runs, method=method)
        assert context.n_used + n <= cap
        return bool(runs)

    while n := plan.n_next:
        squeezes += room(n)
        logits = context.text(0, [token for token, _ in cells[at : at + n]])
        plan.add(n)
        at += n
    if plan.n_held + plan.n_answer > cap:
        room(plan.n_answer)
    assert squeezes > 5
    return logits


@pytest.mark.parametrize("flash_attn", ["on", "off"])
@pytest.mark.parametrize("method", ["text_prior_pivot_merge", "h2o", "streaming_llm"])
@pytest.mark.parametrize("cap", [90, 200])
def test_the_session_does_what_the_plan_says(
    tiny: str, cap: int, method: str, flash_attn: str
) -> None:
    session = Session(tiny, "", n_threads=1, flash_attn=flash_attn, kv_cells=cap)
    assert session.kv_cells == cap
    prompt = BEFORE + session.context_marker + AFTER
    session.prefill(prompt, [], kv_ratio=1.0, method=method, contexts=[CONTEXT], n_answer=N_TOKENS)
    stats = session.stats
    cells = _oracle.prompt_cells(tiny, "", BEFORE + "<context>" + AFTER, [], [CONTEXT])
    assert stats["prompt_cells"] == len(cells)
    assert stats["kept_cells"] == stats["prompt_cells"] - stats["squeezed_cells"] <= cap
    assert (
        stats["kv_bytes_allocated_before"]
        == 256 * stats["kv_bytes_used_after"] / stats["kept_cells"]
    )
    session.start(temperature=0.0)
    pieces = list(islice(iter(session.next, None), min(N_TOKENS, cap // 8)))

    context = _oracle.Sequences(
        _oracle.Model.load(tiny),
        n_ctx=1024,
        n_ubatch=512,
        flash_attn=flash_attn == "on",
        unified=False,
    )
    logits = read_through(context, cells, cap, method, N_TOKENS)
    assert context.n_used == stats["kept_cells"]
    expected = []
    for _ in pieces:
        expected.append(int(np.argmax(logits)))
        logits = context.text(0, expected[-1:])
    assert tokens_of(pieces) == expected


def test_the_ratio_is_a_share_of_the_whole_prompt(tiny: str) -> None:
    session = Session(tiny, "", n_threads=1, kv_cells=300)
    for ratio, method in ((0.2, "h2o"), (0.2, "snapkv"), (0.2, "random"), (0.9, "h2o")):
        session.prefill(BEFORE + CONTEXT + AFTER, [], kv_ratio=ratio, method=method)
        stats = session.stats
        n = stats["prompt_cells"]
        assert n > 800
        assert stats["squeezed_cells"] > 400
        if ratio == 0.2:
            assert stats["kept_cells"] == 2 * int(0.1 * n)
        else:
            assert stats["kept_cells"] <= 300 - 300 // 8
        assert stats["note"] == ""


@pytest.mark.parametrize("kv_ratio", [1.0, 0.3])
def test_a_cap_that_is_not_reached_changes_nothing(longest: DemoPrompt, kv_ratio: float) -> None:
    answers, stats = [], []
    for cap in (None, 1300):
        with Llava.embedded(kv_ratio=kv_ratio, kv_cells=cap) as llm:
            answers.append(llm.ask(longest.content, longest.images, max_tokens=64))
            stats.append({k: v for k, v in llm.stats.as_dict().items() if k.endswith("_cells")})
    assert answers[0] == answers[1]
    assert stats[0] == stats[1]
    assert stats[0]["squeezed_cells"] == 0


@pytest.mark.parametrize("shrink", [True, False])
def test_an_answer_never_ends_because_the_cache_is_full(tiny: str, shrink: bool) -> None:
    """The older half of its own cells goes whenever it has filled the cap; what is left of the
    prompt stays.
    """
    session = Session(tiny, "", n_threads=1, kv_cells=300, shrink=shrink)
    session.prefill("Hello, world! " * 9, [], kv_ratio=1.0, method="h2o", n_answer=8)
    assert session.stats["prompt_cells"] < 256
    session.start(temperature=0.0)
    pieces = list(islice(iter(session.next, None), 700))
    assert session.can_continue
    assert len(pieces) == 700, "a random model says no end"

    context = _oracle.Sequences(_oracle.Model.load(tiny), n_ctx=2048, n_ubatch=512, unified=False)
    cells = _oracle.prompt_cells(tiny, "", "Hello, world! " * 9, [], [])
    logits = context.text(0, [token for token, _ in cells])
    first = n_past = len(cells)
    n_forgotten, expected = 0, list[int]()
    while len(expected) < len(pieces):
        expected.append(int(np.argmax(logits)))
        if context.n_used == 300:
            n_forgotten += 1
            n = (n_past - first) // 2
            context.remove(0, first, first + n)
            first += n
        logits = context.text(0, expected[-1:])
        n_past += 1
    assert n_forgotten > 5
    assert tokens_of(pieces) == expected


def forty_eight() -> tuple[str, list[str]]:
    names = [f"pic{1 + i % 12:02}.png" for i in range(48)]
    return " ".join(f"Image {i + 1}:<image>" for i in range(48)), [
        str(DEMO / name) for name in names
    ]


def test_48_images_under_a_tenth_of_their_cells(capfd: Capture) -> None:
    numbered, files = forty_eight()
    n_cells = 48 * 64 + 48 * 5 + 11  # images, numbers, the rest
    images = [word for file in files for word in ("-i", file)]
    question = f"{numbered} What is in image 48?"
    ask = ["ask", "-m", "embedded", *images, question, "--kv-cells", str(n_cells // 10), "--json"]
    assert main(ask) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["answer"]
    stats = found["stats"]
    assert stats["image_cells"] == 48 * 64
    assert abs(stats["prompt_cells"] - n_cells) < 120
    assert stats["kept_cells"] <= n_cells // 10
    assert stats["kv_bytes_allocated_before"] == 512 * 3072, (
        "the steps of 256 cells that hold the cap"
    )


def test_bytes_bound_the_buffers(longest: DemoPrompt) -> None:
    with Llava.embedded(kv_memory="1.6MiB") as llm:
        assert llm.kv_cells == 512  # 546 cells of 3072 bytes
        llm.ask(longest.content, longest.images, max_tokens=8)
        assert llm.stats.kv_bytes_allocated_before == 512 * 3072 <= 1.6 * 2**20
        assert llm.stats.squeezed_cells > 0


def test_errors(tiny: str, tmp_path: Path, longest: DemoPrompt, capfd: Capture) -> None:
    with pytest.raises(ValueError, match="kv_cells is 0, expected 1 to"):
        Llava.embedded(kv_cells=0)
    with pytest.raises(ValueError, match="kv_memory is 'much', expected bytes such as 512MiB"):
        Llava.embedded(kv_memory="much")
    with pytest.raises(ValueError, match="kv_memory: 1000 bytes, expected 786432 or more"):
        Llava.embedded(kv_memory=1000)
    with pytest.raises(
        ValueError, match="kv_memory: 1048576 is given with kv_cells, expected one of them"
    ):
        Llava.embedded(kv_memory="1MiB", kv_cells=100)
    mamba = write_mamba(tmp_path / "mamba.gguf")
    with pytest.raises(ValueError, match="kv_cells: 300 asks for compression, but memory type"):
        Llava(mamba, mmproj=False, kv_cells=300)
    with Llava.embedded(kv_cells=200) as llm:
        for method, why in (
            ("origin", "evicts nothing"),
            ("roco", "needs the attention of all queries"),
        ):
            with pytest.raises(ValueError, match=f"do not fit into 200, and method {method} {why}"):
                llm.ask(longest.content, longest.images, method=method)
        assert llm.ask(longest.content, longest.images)
    assert main(["ask", "-m", "embedded", "Hi", "--kv-cells", "9", "--compare"]) == 2
    assert "--compare needs the full cache" in capfd.readouterr().err


def test_the_least_cap_that_would_do(longest: DemoPrompt) -> None:
    with (
        Llava.embedded(kv_cells=20) as llm,
        pytest.raises(ValueError, match="kv_cells: a prompt of") as error,
    ):
        llm.ask(longest.content, longest.images)
    least = int(str(error.value).split("expected ")[1].split()[0])
    assert 20 < least < 150
    with Llava(MODEL, mmproj=MMPROJ, n_threads=1, kv_cells=least) as llm:
        assert llm.ask(longest.content, longest.images, max_tokens=8)
        assert llm.stats.kept_cells <= least
