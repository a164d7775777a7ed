"""A prompt read with other sequences around keeps the same bits as one read alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lookm_cpp import methods

from session.kinds import (
    AFTER,
    ANSWER,
    BEFORE,
    BETWEEN,
    HEIGHT,
    KINDS,
    N_PROMPT,
    WIDTH,
    Floats,
    context,
    nmse,
)

SEQ = 1
METHODS = [name for name in methods() if name != "origin"]
LONG = [(7 * i + 3) % 128 for i in range(300)]
SHORT = [(11 * i + 2) % 128 for i in range(40)]


class Prompt:
    """One prompt, read and compressed in a cache that four sequences share."""

    def __init__(self, kind: str, neighbours: bool, method: str, **options: Any) -> None:
        self.c = c = context(KINDS[kind], KINDS[kind].make(), n_seq=4, n_ctx=2048, **options)
        self.neighbours = neighbours
        if neighbours:
            c.text(0, LONG)
            c.text(2, SHORT)
            c.text(0, SHORT)
            c.text(3, SHORT)
            c.copy(2, 3)
            c.remove(2, 10, 20)  # cells that only one sequence has left, and holes
            c.remove(3, 0, 5)
            self.rows = c.rows(0, 1, False), c.rows(0, 1, True)
            self.is_text = c.is_text(0)
        c.isolate(SEQ, N_PROMPT)
        c.observe_all(method)
        c.text(SEQ, BEFORE)
        self._go_on(lambda: c.text(0, SHORT))  # a prompt that is read meanwhile
        c.image(SEQ, 1, WIDTH, HEIGHT)
        self._go_on(lambda: c.together({0: [3], 2: [4], 3: [5]}))  # answers
        c.text(SEQ, BETWEEN)
        self._go_on(lambda: c.remove(2, 0, 10_000))  # one has ended
        c.image(SEQ, 2, HEIGHT, WIDTH)
        self._go_on(lambda: c.text(3, SHORT))  # takes freed cells
        self.last = c.text(SEQ, AFTER)
        scored = method not in {"random", "streaming_llm"}
        self.scores = [c.scores(SEQ, i) for i in range(len(c.layers))] if scored else []
        self.result = c.compress(SEQ, method=method, important_ratio=0.2, recent_ratio=0.1)
        c.unite()

    def _go_on(self, do: Any) -> None:
        """The neighbours do something, of which the tap hears nothing."""
        if self.neighbours:
            do()

    def kept_rows(self) -> list[Floats]:
        return [
            self.c.rows(SEQ, i, values)
            for i in range(len(self.c.layers))
            for values in (False, True)
        ]


@pytest.mark.parametrize("flash_attn", [True, False], ids=["fa", "no-fa"])
@pytest.mark.parametrize("method", METHODS)
def test_kept_cells_do_not_depend_on_neighbours(method: str, flash_attn: bool) -> None:
    alone, beside = (
        Prompt("gqa-64", here, method, flash_attn=flash_attn) for here in (False, True)
    )
    assert np.array_equal(alone.last, beside.last)
    for one, other in zip(alone.scores, beside.scores, strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(alone.result["kept"], beside.result["kept"], strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(alone.kept_rows(), beside.kept_rows(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("qwen2vl", {}),  # positions of two dimensions
        ("lfm2", {}),  # a hybrid's attention part
        ("gqa-64", {"type_k": "q8_0", "type_v": "q8_0"}),
        ("gqa-64", {"type_k": "q4_0", "type_v": "f16"}),
        ("heads-by-layer", {"flash_attn": False}),
    ],
)
def test_prompts_in_any_cache_do_not_see_each_other(kind: str, types: dict[str, Any]) -> None:
    options = {"flash_attn": True} | types
    alone, beside = (
        Prompt(kind, here, "text_prior_pivot_merge", **options) for here in (False, True)
    )
    assert np.array_equal(alone.last, beside.last)
    for one, other in zip(alone.kept_rows(), beside.kept_rows(), strict=True):
        assert np.array_equal(one, other)


def test_without_isolation_sums_differ() -> None:
    """Else the tests above could not fail.

    With flash attention on, the CPU's kernel may give the same bits whatever is beside.
    """
    kind = KINDS["gqa-64"]
    sums = []
    for n_others in (0, 37):
        c = context(kind, kind.make(), n_seq=4, n_ctx=2048, flash_attn=False)
        if n_others:
            c.text(0, LONG[:n_others])
        c.arm()
        c.text(SEQ, BEFORE)
        c.image(SEQ, 1, WIDTH, HEIGHT)
        c.text(SEQ, AFTER)
        sums.append(c.scores(SEQ, 1))
    assert not np.array_equal(sums[0], sums[1])
    assert np.allclose(sums[0], sums[1], rtol=0.02)


@pytest.mark.parametrize("flash_attn", [True, False], ids=["fa", "no-fa"])
def test_neighbours_stay_what_they_are(flash_attn: bool) -> None:
    """Rows move byte for byte, with their tokens' kinds, and the next tokens are right.

    They are those of a cache of their own.
    """
    p = Prompt("gqa-64", True, "h2o", flash_attn=flash_attn)
    n = len(LONG) + len(SHORT)
    for before, after in zip(p.rows, (p.c.rows(0, 1, False), p.c.rows(0, 1, True)), strict=True):
        assert np.array_equal(before, after[:, :n])
    assert p.c.is_text(0)[:n] == p.is_text
    kind = KINDS["gqa-64"]
    own = context(kind, kind.make(), n_seq=1, n_ctx=2048, flash_attn=flash_attn)
    for tokens in (LONG, SHORT, SHORT, [3]):
        own.text(0, tokens)
    expected = np.stack([own.text(0, [token]) for token in ANSWER])
    assert nmse(np.stack([p.c.text(0, [token]) for token in ANSWER]), expected) < (
        1e-5 if flash_attn else 1e-6
    )


def test_cells_are_packed_afterwards() -> None:
    p = Prompt("gqa-64", True, "h2o")
    cells = sorted({cell for seq in range(4) for cell in p.c.cells(seq)})
    assert cells == list(range(p.c.n_used))
    assert p.c.cells(SEQ) == list(range(p.result["n_keep"]))


def test_a_second_turn_is_the_same_too() -> None:
    """Its cells, compressed ones first, come together again before more is read."""
    more = []
    for neighbours in (False, True):
        p = Prompt("gqa-64", neighbours, "h2o")
        c = p.c
        for i, token in enumerate(SHORT[:10]):
            c.together({SEQ: [token], 0: [i]} if neighbours else {SEQ: [token]})
        n_before = len(c.cells(SEQ))
        c.isolate(SEQ, n_before + len(AFTER))
        assert c.cells(SEQ) == list(range(n_before))
        c.arm()
        c.text(SEQ, AFTER)
        more.append([c.scores(SEQ, i) for i in range(len(c.layers))])
        c.unite()
    for one, other in zip(*more, strict=True):
        # the ten tokens of the answer shared their batches with others, so that only sums are alike
        assert np.allclose(one, other, rtol=0.02)


def test_no_room_is_no_isolation() -> None:
    kind = KINDS["gqa-64"]
    c = context(kind, kind.make(), n_seq=4, n_ctx=512)
    c.text(0, LONG)
    c.isolate(SEQ, 300)
    assert c.n_used == len(LONG)
    c.unite()
    c.isolate(SEQ, 200)
    assert c.n_used == len(LONG), "held cells are free"
    assert min(c.cells(0)) == 200
    c.text(0, [1])
    c.text(SEQ, SHORT)
    assert c.cells(SEQ) == list(range(len(SHORT)))
    c.unite()
    assert sorted(c.cells(0) + c.cells(SEQ)) == list(range(len(LONG) + 1 + len(SHORT)))
