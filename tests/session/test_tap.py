"""What score_tap adds up while a model reads: all queries or the last ones, and squares."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from session.test_oracles import PROMPT

_oracle: Any = import_module("lookm_cpp._oracle")

Floats = npt.NDArray[np.float32]
N = len(PROMPT)

FLASH = pytest.mark.parametrize("flash_attn", [True, False], ids=["flash", "no flash"])
MODELS = {"gqa": (4, 2), "mqa": (4, 1), "mha": (3, 3)}

# Relative, of a layer's scores in the mean, between runs that split the prompt otherwise or do
# without flash attention: later layers' queries differ by the rounding of the layers before. In the
# first layer they are the same, and without flash attention llama.cpp rounds them to f16, 2^-11
# relative, of which most cancels in a sum.
TOLERANCES = (1e-4, 5e-3, 1e-2)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    n_head, n_head_kv = MODELS[request.param]
    return _oracle.Model.random(n_head=n_head, n_head_kv=n_head_kv)


@pytest.fixture(scope="module")
def gqa() -> Any:
    return _oracle.Model.random()


def scores(
    model: Any, tokens: list[int] = PROMPT, *, squares: bool = False, **options: Any
) -> list[Floats]:
    """Of every layer; ``first_query`` goes to the tap, the other options to the context."""
    first_query = options.pop("first_query", 0)
    context = _oracle.Context(model, **options)
    context.prefill(tokens, squares=squares, first_query=first_query)
    return [context.scores(layer, squares=squares) for layer in range(context.n_layer)]


def assert_near(found: list[Floats], expected: list[Floats]) -> None:
    for a, b, tolerance in zip(found, expected, TOLERANCES, strict=True):
        assert np.abs(a - b).sum() / b.sum() < tolerance


@FLASH
@pytest.mark.parametrize("first", [1, 37, 128, 200, N - 28, N - 1])
def test_a_window_is_what_its_queries_add(model: Any, flash_attn: bool, first: int) -> None:
    """All queries less those before the window, which attend as if the prompt ended there."""
    found = scores(model, flash_attn=flash_attn, first_query=first)
    everything = scores(model, flash_attn=flash_attn)
    before = scores(model, PROMPT[:first], flash_attn=flash_attn)
    for f, e, b, tolerance in zip(found, everything, before, TOLERANCES, strict=True):
        np.testing.assert_allclose(f.sum(axis=1, dtype=np.float64), N - first, rtol=1e-5)
        expected = e.astype(np.float64)
        expected[:, :first] -= b
        # 4e-4: f32 sums of some hundred, of which one is taken from another
        assert np.abs(f - expected).sum() < tolerance * f.sum() + 4e-4 * len(f)


@pytest.mark.parametrize("first", [0, 150, N - 28])
def test_a_window_depends_on_no_batch(gqa: Any, first: int) -> None:
    one = scores(gqa, first_query=first, n_ubatch=512)
    for n_ubatch, flash_attn in ((7, True), (16, False), (64, True), (64, False), (512, False)):
        assert_near(scores(gqa, first_query=first, n_ubatch=n_ubatch, flash_attn=flash_attn), one)


@FLASH
def test_a_window_past_the_prompt_costs_nothing(gqa: Any, flash_attn: bool) -> None:
    """No ubatch is observed: the tap's clock never ran."""
    context = _oracle.Context(gqa, flash_attn=flash_attn)
    context.prefill(PROMPT, first_query=N)
    for layer in range(context.n_layer):
        assert not context.scores(layer).any()
    assert context.compress(method="h2o")["score_seconds"] == 0.0


@FLASH
def test_squares_of_the_last_queries(flash_attn: bool) -> None:
    """With one query head for each KV head, windows one query apart give p, and so p^2."""
    mha = _oracle.Model.random(n_head=3, n_head_kv=3)
    n = 5
    p = [scores(mha, first_query=N - i, flash_attn=flash_attn) for i in range(n + 1)]
    found = scores(mha, first_query=N - n, squares=True, flash_attn=flash_attn)
    for layer, f in enumerate(found):
        expected = sum((p[i + 1][layer] - p[i][layer]) ** 2 for i in range(n))
        np.testing.assert_allclose(f, expected, rtol=1e-4, atol=1e-8)  # differences of f32 sums


@pytest.mark.parametrize("first", [0, N - 28])
def test_squares_depend_on_no_batch(model: Any, first: int) -> None:
    one = scores(model, first_query=first, squares=True)
    for n_ubatch, flash_attn in ((16, True), (512, False)):
        assert_near(
            scores(
                model, first_query=first, squares=True, n_ubatch=n_ubatch, flash_attn=flash_attn
            ),
            one,
        )


def test_squares_must_be_asked_for(gqa: Any) -> None:
    context = _oracle.Context(gqa)
    context.prefill(PROMPT, squares=True)
    context.prefill(PROMPT)
    with pytest.raises(RuntimeError, match="squares were not asked for"):
        context.scores(0, squares=True)


def test_a_first_query_below_zero_is_refused(gqa: Any) -> None:
    with pytest.raises(ValueError, match="first_query: -1"):
        _oracle.Context(gqa).prefill(PROMPT, first_query=-1)


@FLASH
@pytest.mark.parametrize("first", [0, 20])
def test_sequences_in_streams_of_their_own(gqa: Any, flash_attn: bool, first: int) -> None:
    """Each stream's rows are counted and added apart: sequence 0 is scored as if it were alone."""
    a = [(7 * i) % 128 for i in range(60)]
    b = [(11 * i + 3) % 128 for i in range(45)]
    context = _oracle.Context(gqa, n_seq=2, kv_unified=False, n_ubatch=32, flash_attn=flash_attn)
    context.prefill_together([a, b], squares=True, first_query=first)
    together = [context.scores(layer) for layer in range(context.n_layer)]
    assert_near(together, scores(gqa, a, first_query=first, flash_attn=flash_attn))
    squares = [context.scores(layer, squares=True) for layer in range(context.n_layer)]
    assert_near(squares, scores(gqa, a, first_query=first, flash_attn=flash_attn, squares=True))


@FLASH
def test_sequences_in_one_stream(gqa: Any, flash_attn: bool) -> None:
    """The mask keeps them apart."""
    a = [(7 * i) % 128 for i in range(60)]
    b = [(11 * i + 3) % 128 for i in range(45)]
    context = _oracle.Context(gqa, n_seq=2, kv_unified=True, n_ubatch=32, flash_attn=flash_attn)
    context.prefill_together([a, b])
    together = [context.scores(layer) for layer in range(context.n_layer)]
    assert_near(together, scores(gqa, a, flash_attn=flash_attn))
