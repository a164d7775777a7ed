"""A prompt read through few cells, against llama.cpp over a full cache with a mask that changes
while it is read.

What a layer's head evicts before a batch is hidden from that batch's queries and all later ones,
and was seen by those before it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from reference import lookm_numpy as reference

from session.kinds import (
    AFTER,
    BEFORE,
    BETWEEN,
    HEIGHT,
    KINDS,
    N_PROMPT,
    WIDTH,
    Kind,
    context,
    decode,
    nmse,
)

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

Ints = npt.NDArray[np.int32]
N_IMAGE = WIDTH * HEIGHT
CAP, CAP_WHOLE = 120, 170


def parts(*, whole: bool) -> list[tuple[int, bool, bool, bool]]:
    first, middle, last = ((len(text), True, False, False) for text in (BEFORE, BETWEEN, AFTER))
    image = (N_IMAGE, False, True, whole)
    return [first, image, middle, image, last]


class Reader:
    """The prompt in ``packed``, through the cap, and in ``masked``, which keeps all of it."""

    def __init__(self, kind: Kind, model: Any, flash_attn: bool, method: str) -> None:
        self.kind, self.method = kind, method
        self.packed = context(kind, model, flash_attn=flash_attn)
        self.masked = context(kind, model, flash_attn=False)
        self.cap = CAP if kind.causal_images else CAP_WHOLE
        self.plan = _oracle.PromptCap(parts(whole=not kind.causal_images), self.cap, n_batch=512)
        self.heads = [
            self.packed.rows(0, il, False).shape[0] for il in range(len(self.packed.layers))
        ]
        self.tokens = [np.zeros((n, 0), dtype=np.int32) for n in self.heads]
        """Of each layer, which tokens its heads' cells hold."""
        self.n_read = self.n_squeezes = 0
        self.packed.observe_all(method)

    def room(self, n: int) -> None:
        runs = self.plan.room_for(n)
        if runs:
            before = [self.packed.scores(0, il) for il in range(len(self.heads))]
            kept = self.packed.squeeze(0, runs, method=self.method)
            for il, (score, stay) in enumerate(zip(before, kept, strict=True)):
                check_kept(score, stay, runs)
                # a score is read where its row was, and comes back where it is
                np.testing.assert_array_equal(
                    self.packed.scores(0, il), np.take_along_axis(score, stay, axis=1)
                )
            self.tokens = [
                np.take_along_axis(t, k, axis=1) for t, k in zip(self.tokens, kept, strict=True)
            ]
            self.n_squeezes += 1
        assert self.packed.n_used + n <= self.cap

    def added(self, n: int) -> None:
        new = np.arange(self.n_read, self.n_read + n, dtype=np.int32)
        self.tokens = [np.hstack([t, np.tile(new, (len(t), 1))]) for t in self.tokens]
        self.n_read += n
        self.plan.add(n)

    def text(self, tokens: list[int]) -> Any:
        while tokens:
            n = self.plan.n_next
            self.room(n)
            self.masked.mask(0, self.tokens)
            logits = self.packed.text(0, tokens[:n]), self.masked.text(0, tokens[:n])
            self.added(n)
            tokens = tokens[n:]
        return logits

    def image(self, seed: int, width: int, height: int) -> None:
        n_batch = self.plan.n_next
        masks: list[list[Ints]] = []

        def next_batch(n_done: int) -> None:
            self.added(n_batch)
            self.room(min(n_batch, N_IMAGE - n_done))
            masks.append(self.tokens)

        self.room(n_batch)
        masks.append(self.tokens)
        self.packed.image_in_batches(0, seed, width, height, n_batch, next_batch)
        self.added(N_IMAGE - (len(masks) - 1) * n_batch)
        self.masked.mask(0, masks.pop(0))

        def next_mask(_: int) -> None:
            self.masked.mask(0, masks.pop(0))

        self.masked.image_in_batches(0, seed, width, height, n_batch, next_mask)

    def read(self) -> Any:
        self.text(BEFORE)
        self.image(1, WIDTH, HEIGHT)
        self.text(BETWEEN)
        self.image(2, HEIGHT, WIDTH)
        return self.text(AFTER)


def check_kept(scores: Any, kept: Ints, runs: list[tuple[int, int, int]]) -> None:
    """The best cells of every run, the lower one of two equals; outside of runs, every cell."""
    for score, row in zip(scores, kept, strict=True):
        expected = set(range(len(score)))
        for first, n, n_keep in runs:
            order = sorted(range(first, first + n), key=lambda c: (-score[c], c))
            expected -= set(order[n_keep:])
        np.testing.assert_array_equal(row, sorted(expected))


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest) -> tuple[Kind, Any]:
    kind = KINDS[request.param]
    return kind, kind.make()


@pytest.mark.parametrize("flash_attn", [True, False])
def test_eviction_while_reading_equals_masked_attention(
    opened: tuple[Kind, Any], flash_attn: bool
) -> None:
    kind, model = opened
    reader = Reader(kind, model, flash_attn, "text_prior_h2o")
    packed, masked = reader.packed, reader.masked
    logits, expected_logits = reader.read()
    noise = kind.flash_noise if flash_attn else 1e-6
    assert reader.n_squeezes >= (3 if kind.causal_images else 2)
    assert packed.n_used == reader.plan.n_held <= reader.cap < N_PROMPT == masked.n_used
    assert packed.pos_max(0) == masked.pos_max(0), "the next token comes after the whole prompt"
    assert nmse(logits, expected_logits) < noise
    if not kind.sinks:
        scores = packed.scores(0, 0)
        assert np.all(scores.sum(axis=1) < N_PROMPT), "what is gone took its attention along"
        assert np.all(scores >= 0.0)

    # and then once more, over what is left
    np.testing.assert_array_equal(packed.is_text(0), reader.plan.is_text)
    kept = packed.compress(0, method="text_prior_h2o", important_ratio=0.4, recent_ratio=0.2)[
        "kept"
    ]
    masked.mask(
        0, [np.take_along_axis(t, k, axis=1) for t, k in zip(reader.tokens, kept, strict=True)]
    )
    answers, expected = decode(packed), decode(masked)
    assert nmse(answers, expected) < noise
    full = context(kind, model, flash_attn=False)
    full.text(0, BEFORE)
    full.image(0, 1, WIDTH, HEIGHT)
    full.text(0, BETWEEN)
    full.image(0, 2, HEIGHT, WIDTH)
    full.text(0, AFTER)
    assert nmse(decode(full), expected) > 1e-4, "the mask must matter, or this test could not fail"


def test_queries_add_one_each_to_what_is_left(opened: tuple[Kind, Any]) -> None:
    """No score of an evicted token is left in a cell that a new one takes."""
    kind, model = opened
    if kind.sinks:
        pytest.skip("sinks take a share of every query")
    reader = Reader(kind, model, True, "text_prior_h2o")
    reader.text(BEFORE)
    reader.image(1, WIDTH, HEIGHT)
    before = [reader.packed.scores(0, il).sum(axis=1) for il in range(len(reader.heads))]
    runs = [(4, 30, 10)]
    for il, kept in enumerate(reader.packed.squeeze(0, runs, method="text_prior_h2o")):
        after = reader.packed.scores(0, il).sum(axis=1)
        assert np.all(after < before[il])
        assert kept.shape[1] == reader.packed.n_used
    left = [reader.packed.scores(0, il).sum(axis=1) for il in range(len(reader.heads))]
    reader.packed.text(0, AFTER)
    for il in range(len(reader.heads)):
        np.testing.assert_allclose(
            reader.packed.scores(0, il).sum(axis=1), left[il] + len(AFTER), rtol=1e-5
        )


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("flash_attn", [True, False])
def test_squeezed_rows_are_merged(
    opened: tuple[Kind, Any], flash_attn: bool, on_device: bool
) -> None:
    """Rows of the run as NumPy merges them by themselves; no other row changes by a bit."""
    kind, model = opened
    c = context(kind, model, flash_attn=flash_attn)
    c.observe_all("text_prior_pivot_merge")
    c.text(0, BEFORE)
    c.image(0, 1, WIDTH, HEIGHT)
    c.text(0, BETWEEN)
    layers = range(len(c.layers))
    before = [(c.rows(0, il, False), c.rows(0, il, True), c.scores(0, il)) for il in layers]
    first, n, n_keep = run = (len(BEFORE), N_IMAGE, 30)
    kept = c.squeeze(0, [run], method="text_prior_pivot_merge", on_device=on_device)
    options = reference.Options(
        method="pivot_merge", important_ratio=(n_keep + 0.5) / n, recent_ratio=0.0
    )
    for il, (k, v, score) in enumerate(before):
        end = first + n
        expected = reference.compress(
            k[:, first:end], v[:, first:end], score[:, first:end], np.zeros(n, dtype=bool), options
        )
        np.testing.assert_array_equal(kept[il][:, first : first + n_keep], expected[2] + first)
        for values, old, new in ((False, k, expected[0]), (True, v, expected[1])):
            rows = c.rows(0, il, values)
            # rows come back as f16: one step of it, 2^-11 relative, and sums of up to 90 rows
            # before
            np.testing.assert_allclose(
                rows[:, first : first + n_keep], new, rtol=2**-10, atol=2**-9
            )
            np.testing.assert_array_equal(rows[:, :first], old[:, :first])
            np.testing.assert_array_equal(rows[:, first + n_keep :], old[:, end:])


def test_runs_that_do_not_fit(opened: tuple[Kind, Any]) -> None:
    kind, model = opened
    c = context(kind, model)
    c.observe_all("h2o")
    c.text(0, BEFORE)
    for runs, message in (
        ([(0, 2, 3)], "runs: 3 of 2 cells from 0 on"),
        ([(0, 2, 0)], "runs: 0 of 2 cells"),
        ([(2, 2, 1), (0, 2, 1)], "expected ascending runs"),
        ([(2, 3, 1)], "runs: they end at cell 5 of 4"),
    ):
        with pytest.raises(ValueError, match=message):
            c.squeeze(0, runs, method="h2o")
