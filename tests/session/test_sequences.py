"""Several sequences, in one cache or in streams: one is compressed, the others stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from session.kinds import (
    AFTER,
    ANSWER,
    BEFORE,
    HEIGHT,
    KINDS,
    N_PROMPT,
    WIDTH,
    Floats,
    context,
    decode,
    nmse,
    prefill,
)

KIND = KINDS["gqa-64"]
H2O = {"method": "h2o", "important_ratio": 0.2, "recent_ratio": 0.1}
N_KEEP = int(0.2 * N_PROMPT) + int(0.1 * N_PROMPT)
OTHER = [(11 * i + 2) % 128 for i in range(40)]


@pytest.fixture(scope="module")
def model() -> Any:
    return KIND.make()


@pytest.fixture(params=[True, False], ids=["unified", "streams"])
def unified(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def open_two(model: Any, unified: bool, flash_attn: bool = False) -> Any:
    return context(KIND, model, n_seq=2, n_ctx=2048, unified=unified, flash_attn=flash_attn)


def fill_in_turn(c: Any) -> None:
    """Sequence 0 has cells before, between and after those of sequence 1."""
    c.arm()
    c.text(0, OTHER)
    c.text(1, BEFORE)
    c.image(1, 1, WIDTH, HEIGHT)
    c.text(0, OTHER)
    c.text(1, AFTER)
    c.image(1, 2, HEIGHT, WIDTH)
    c.text(0, OTHER)
    c.text(1, AFTER)
    c.text(0, OTHER)


def decode_in_turn(c: Any) -> tuple[Floats, Floats]:
    pairs = [(c.text(0, [token]), c.text(1, [token + 1])) for token in ANSWER]
    return np.stack([zero for zero, _ in pairs]), np.stack([one for _, one in pairs])


@pytest.mark.parametrize("flash_attn", [True, False])
def test_one_of_two_is_compressed(model: Any, unified: bool, flash_attn: bool) -> None:
    packed = open_two(model, unified, flash_attn)
    masked, full = open_two(model, unified), open_two(model, unified, flash_attn)
    for c in (packed, masked, full):
        fill_in_turn(c)
    cells = packed.cells(0)
    rows = [packed.rows(0, il, values) for il in KIND.layers for values in (False, True)]
    n_full, last = packed.n_used, packed.pos_max(1)
    result = packed.compress(1, **H2O)
    n_prompt = n_full - len(cells)
    assert packed.n_used == n_full - n_prompt + result["n_keep"]
    assert result["n_keep"] < 0.31 * n_prompt
    assert packed.pos_max(1) == last
    assert packed.cells(0) == cells
    for before, il_values in zip(
        rows, [(il, v) for il in KIND.layers for v in (False, True)], strict=True
    ):
        np.testing.assert_array_equal(packed.rows(0, *il_values), before)

    masked.mask(1, result["kept"])
    zero, one = decode_in_turn(packed)
    zero_full, one_full = decode_in_turn(full)
    zero_masked, one_masked = decode_in_turn(masked)
    bound = 1e-5 if flash_attn else 1e-6
    assert nmse(one, one_masked) < bound
    assert nmse(one_full, one_masked) > 1e-4, "the mask must matter, or this test could not fail"
    if (
        unified
    ):  # the rows are the same bits, summed in another order: fewer hidden cells lie between them
        assert nmse(zero, zero_full) < (1e-5 if flash_attn else 1e-10)
    else:
        np.testing.assert_array_equal(zero, zero_full)
    assert nmse(zero, zero_masked) < bound


def test_the_same_choice_as_alone(model: Any, unified: bool) -> None:
    """What is kept of a sequence depends on no other one, wherever its cells are."""
    alone, beside = context(KIND, model, n_ctx=2048), open_two(model, unified)
    alone.arm()
    prefill(alone)
    beside.text(0, OTHER)
    beside.arm()
    prefill(beside, 1)
    for a, b in zip(
        alone.compress(0, **H2O)["kept"], beside.compress(1, **H2O)["kept"], strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_prompts_in_one_batch(model: Any, unified: bool) -> None:
    """Queries of several sequences in one ubatch; both are compressed and decoded together."""
    prompts = {seq: [(7 * i * (seq + 1) + seq) % 128 for i in range(150)] for seq in (0, 1)}
    together = open_two(model, unified)
    together.arm()
    together.together(prompts)
    expected = []
    results = {}
    for seq, prompt in prompts.items():
        alone, masked = (context(KIND, model, n_ctx=1024, flash_attn=False) for _ in range(2))
        alone.arm()
        alone.text(0, prompt)
        masked.text(0, prompt)
        for il in range(2):
            np.testing.assert_allclose(
                together.scores(seq, il), alone.scores(0, il), rtol=2e-3, atol=1e-4
            )
        results[seq] = together.compress(seq, **H2O)
        masked.mask(0, results[seq]["kept"])
        expected.append(decode(masked))
    answers = [together.together({0: [token], 1: [token]}) for token in ANSWER]
    for seq in (0, 1):
        assert nmse(np.stack([a[seq] for a in answers]), expected[seq]) < 1e-6
    assert together.n_used == 2 * (len(ANSWER) + results[0]["n_keep"])


@pytest.mark.parametrize("flash_attn", [True, False])
@pytest.mark.parametrize("compressed", [0, 1])
def test_cells_of_two_sequences_stay_for_the_other_one(
    model: Any, unified: bool, compressed: int, flash_attn: bool
) -> None:
    """Cells of two sequences stay for the other one; the kept rows get cells of their own."""
    other = 1 - compressed

    def fill(flash_attn: bool) -> Any:
        c = open_two(model, unified, flash_attn)
        c.arm()
        prefill(c, 0)
        c.copy(0, 1)
        return c

    packed, masked, full = fill(flash_attn), fill(False), fill(flash_attn)
    # straight after the copy: between streams llama.cpp has not moved a row yet
    result = packed.compress(compressed, **H2O)
    assert packed.n_used == N_PROMPT + N_KEEP
    assert result["n_keep"] == N_KEEP
    masked.text(other, AFTER)
    masked.mask(compressed, result["kept"])
    for c in (packed, full):
        c.text(other, AFTER)
    for seq, bound in (
        (compressed, 1e-5 if flash_attn else 1e-6),
        (other, 1e-5 if flash_attn else 1e-6),
    ):
        answers, expected = decode(packed, seq), decode(masked, seq)
        assert nmse(answers, expected) < bound
    assert nmse(decode(full, compressed), decode(packed, compressed)) > 1e-4, "eviction must matter"


def test_a_shared_prefix_without_free_cells_is_refused(model: Any) -> None:
    c = context(KIND, model, n_seq=2, n_ctx=512, flash_attn=False)
    c.arm()
    prefill(c, 0)
    c.copy(0, 1)
    c.text(0, [(3 * i) % 128 for i in range(512 - N_PROMPT - 10)])
    cells = c.cells(1)
    with pytest.raises(
        RuntimeError, match=rf"sequence 1 shares cells.*{N_KEEP} kept rows.*room for 10"
    ):
        c.compress(1, **H2O)
    assert c.cells(1) == cells
    c.remove(0, -1, -1)
    assert c.compress(1, **H2O)["n_keep"] == N_KEEP


def test_packed_cells_that_are_shared_need_no_room(model: Any) -> None:
    """The next turn after a shared compressed prompt takes cells only for its own rows."""
    c = context(KIND, model, n_seq=2, n_ctx=512, flash_attn=False)
    c.arm()
    prefill(c, 0)
    c.compress(0, **H2O)
    c.copy(0, 1)
    c.arm()
    turn = [(3 * i) % 128 for i in range(200)]
    c.text(0, turn)
    c.text(1, [(5 * i) % 128 for i in range(512 - N_KEEP - len(turn) - 20)])
    assert c.compress(0, **H2O)["n_keep"] == 40 + 20
    assert len(c.cells(0)) == N_KEEP + 60
    assert c.n_used == 512 - 20 - len(turn) + 60


@pytest.mark.parametrize("kind", ["gqa-64", "qwen2vl"])
def test_packed_cells_that_are_shared_stay_the_others(kind: str) -> None:
    """A turn, and one more, of a sequence that shares its compressed prompt: the other sequence
    goes on as if nothing had happened, and the turns as if nothing was shared.
    """
    made = KINDS[kind].make()
    turns = [[(k * i) % 128 for i in range(80)] for k in (3, 7)]

    def fill(*, share: bool) -> Any:
        c = context(KINDS[kind], made, n_seq=2, n_ctx=2048, flash_attn=False)
        c.arm()
        prefill(c, 0)
        c.compress(0, **H2O)
        if share:
            c.copy(0, 1)
        return c

    shared, alone, untouched = fill(share=True), fill(share=False), fill(share=True)
    decode(shared, 1), decode(untouched, 1)
    for n, turn in enumerate(turns, 1):
        results = []
        for c in (shared, alone):
            c.arm()
            c.text(0, turn)
            results.append(c.compress(0, **H2O))
            assert len(c.cells(0)) == N_KEEP + n * results[-1]["n_keep"]
        for kept, expected in zip(results[0]["kept"], results[1]["kept"], strict=True):
            np.testing.assert_array_equal(kept, expected)
        assert nmse(decode(shared, 1), decode(untouched, 1)) < 1e-6
    assert nmse(decode(shared, 0), decode(alone, 0)) < 1e-6
    shared.remove(1, -1, -1)
    assert shared.n_used == alone.n_used


def test_freed_cells_below_are_taken(model: Any) -> None:
    """Packed into the lowest cells that are empty, so that fewer cells are attended over."""
    c = context(KIND, model, n_seq=2, n_ctx=1024, flash_attn=False)
    c.text(0, OTHER * 8)
    c.arm()
    prefill(c, 1)
    c.remove(0, -1, -1)
    masked = context(KIND, model, flash_attn=False)
    prefill(masked)
    result = c.compress(1, **H2O)
    assert c.cells(1) == list(range(N_KEEP))
    masked.mask(0, result["kept"])
    c.mask(1, [])
    assert nmse(decode(c, 1), decode(masked)) < 1e-6
    assert c.last_n_kv == 256


@pytest.mark.parametrize("kind", ["gqa-64", "qwen2vl"])
def test_a_prompt_in_scattered_cells(kind: str) -> None:
    """In cells freed between those of another sequence."""
    model = KINDS[kind].make()
    alone, scattered = (
        context(KINDS[kind], model, n_seq=2, n_ctx=512, flash_attn=False) for _ in range(2)
    )
    scattered.text(1, OTHER * 10)
    for first in range(0, 300, 50):
        scattered.remove(1, first, first + 35)
    for c in (alone, scattered):
        c.arm()
        prefill(c)
    assert alone.cells(0) == list(range(N_PROMPT))
    gaps = np.diff(scattered.cells(0))
    assert np.all(gaps > 0)
    assert np.sum(gaps > 1) == 6
    a, b = alone.compress(0, **H2O), scattered.compress(0, **H2O)
    for x, y in zip(a["kept"], b["kept"], strict=True):
        np.testing.assert_array_equal(x, y)
    assert nmse(decode(scattered), decode(alone)) < 1e-6


@pytest.mark.parametrize("kind", ["qwen2vl", "qwen3vl", "gemma3", "lfm2"])
def test_another_image_after_compression(kind: str) -> None:
    """The next turn goes on at the position that it has without compression."""
    k = KINDS[kind]
    model = k.make()
    packed, masked = (context(k, model, flash_attn=False) for _ in range(2))
    packed.arm()
    for c in (packed, masked):
        prefill(c)
    masked.mask(0, packed.compress(0, **H2O)["kept"])
    answers = []
    for c in (packed, masked):
        first = decode(c)
        c.image(0, 3, 6, 4)
        answers.append(np.concatenate([first, decode(c)]))
        # text, two images of 12 by 10 that take 12 positions each where positions are of two
        # dimensions, and so on
        n_image = {"qwen2vl": (12, 6), "qwen3vl": (12, 6)}.get(kind, (120, 24))
        assert c.pos_max(0) == 38 + 2 * n_image[0] + 32 + n_image[1] + 32 - 1
    assert nmse(*answers) < 1e-6


def test_a_sequence_that_cannot_be(model: Any, unified: bool) -> None:
    c = open_two(model, unified)
    for seq in (-1, 256 if unified else 2):
        with pytest.raises(ValueError, match=rf"seq: {seq} is outside \[0, "):
            c.compress(seq)
    assert c.compress(1, **H2O)["note"]
