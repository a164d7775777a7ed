"""Every method on random models: what score_tap adds up, which cells stay, what is answered."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from lookm_cpp import Llava, arrays, methods
from lookm_cpp.embedded import DemoPrompt
from reference import lookm_numpy as reference

from session.test_oracles import IS_TEXT, PROMPT, decode, difference

_oracle: Any = import_module("lookm_cpp._oracle")

CHOICES = [
    reference.Options(method="snapkv"),
    reference.Options(method="snapkv", window=9),
    reference.Options(method="roco"),
    reference.Options(method="roco", scorer="window"),
    reference.Options(method="streaming_llm"),
    reference.Options(method="random", seed=5),
    reference.Options(method="text_prior_h2o", scorer="window"),
    reference.Options(method="text_prior_h2o", visual_quota=0.8, text_overflow="evict"),
]
MERGES = [
    reference.Options(method="avg_merge", fidelity="upstream"),
    reference.Options(method="text_prior_weighted_merge", fidelity="upstream"),
    reference.Options(method="pivot_merge", merge_within_modality=True),
    reference.Options(
        method="text_prior_pivot_merge", merge_keys=False, scorer="window", window=20
    ),
    reference.Options(method="snapkv_question", merge="pivot"),
    reference.Options(method="pivot_merge", merge="average"),
]


def name_of(options: reference.Options) -> str:
    changed = [
        f"{k}={v}"
        for k, v in options._asdict().items()
        if v != reference.Options._field_defaults[k]
    ]
    return " ".join(changed).removeprefix("method=")


@pytest.fixture(scope="module", params=[(4, 2), (3, 3)], ids=["gqa", "mha"])
def model(request: pytest.FixtureRequest) -> Any:
    n_head, n_head_kv = request.param
    return _oracle.Model.random(n_head=n_head, n_head_kv=n_head_kv)


def sums(model: Any, options: reference.Options) -> tuple[list[Any], list[Any]]:
    """Of every layer, without flash attention: llama.cpp's probabilities of the scored queries."""
    context = _oracle.Context(model, flash_attn=False)
    context.prefill(PROMPT, squares=True, first_query=reference.first_query(IS_TEXT, options))
    layers = range(context.n_layer)
    return [context.scores(il) for il in layers], [
        context.scores(il, squares=True) for il in layers
    ]


@pytest.mark.parametrize("flash_attn", [True, False], ids=["flash", "no flash"])
@pytest.mark.parametrize("options", CHOICES, ids=name_of)
def test_kept_cells_equal_the_reference_and_decode_equals_masked_attention(
    model: Any, options: reference.Options, flash_attn: bool
) -> None:
    options = options._replace(important_ratio=0.2, recent_ratio=0.1)
    packed = _oracle.Context(model, flash_attn=flash_attn)
    packed.prefill_for(PROMPT, **options._asdict())
    result = packed.compress(**options._asdict())
    assert result["n_keep"] == int(0.2 * len(PROMPT)) + int(0.1 * len(PROMPT))

    for il, (score, squares) in enumerate(zip(*sums(model, options), strict=True)):
        expected = reference.select(score, IS_TEXT, options, squares, il)
        # later layers' scores differ by its rounding: near ties may fall either way, nothing else
        if flash_attn:
            same = [np.isin(a, b).mean() for a, b in zip(result["kept"][il], expected, strict=True)]
            assert min(same) > 0.95
        else:
            np.testing.assert_array_equal(result["kept"][il], expected)

    masked, unmasked = (_oracle.Context(model, flash_attn=False) for _ in range(2))
    for context in (masked, unmasked):
        context.prefill(PROMPT, scored=False)
    masked.mask(result["kept"], len(PROMPT))
    answers = decode(masked)
    # as in test_oracles: flash attention sums V in f16 where the oracle does not
    assert difference(decode(packed), answers) < (1e-5 if flash_attn else 1e-6)
    assert difference(decode(unmasked), answers) > 1e-3, (
        "the mask must matter, or this test could not fail"
    )


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
@pytest.mark.parametrize("options", MERGES, ids=name_of)
def test_merged_rows_equal_the_reference(
    model: Any, options: reference.Options, on_device: bool
) -> None:
    options = options._replace(important_ratio=0.15, recent_ratio=0.1)
    context = _oracle.Context(model, flash_attn=False)
    context.prefill_for(PROMPT, **options._asdict())
    before = [
        (context.rows(il, False), context.rows(il, True), context.scores(il))
        for il in range(context.n_layer)
    ]
    result = context.compress(on_device=on_device, **options._asdict())
    for il, (k, v, scores) in enumerate(before):
        expected = reference.compress(k, v, scores, IS_TEXT, options, layer=il)
        np.testing.assert_array_equal(result["kept"][il], expected.kept)
        # rows come back as f16: one step of it, 2^-11 relative, and sums of up to ~100 rows before
        np.testing.assert_allclose(context.rows(il, False), expected.k, rtol=2**-10, atol=2**-9)
        np.testing.assert_allclose(context.rows(il, True), expected.v, rtol=2**-10, atol=2**-9)


def test_a_method_without_scores_is_not_observed(model: Any) -> None:
    for method, observed in (("random", False), ("streaming_llm", False), ("h2o", True)):
        context = _oracle.Context(model)
        context.prefill_for(PROMPT, method=method, important_ratio=0.1, recent_ratio=0.1)
        result = context.compress(method=method)
        assert (result["score_seconds"] > 0) == observed


@pytest.mark.parametrize("method", methods())
def test_a_session_runs_every_method(llm: Llava, describe: DemoPrompt, method: str) -> None:
    llm.ask(describe.content, describe.images, method=method, kv_ratio=0.5, max_tokens=4)
    stats = llm.stats
    assert stats.method == method
    n = stats.prompt_cells
    shares = (0.45, 0.05) if method == "lookm_plus" else (0.25, 0.25)
    assert stats.kept_cells == (
        n if method == "origin" else sum(int(share * n) for share in shares)
    )
    assert bool(stats.note) == (method == "origin")
    assert (stats.score_seconds > 0) == (method not in ("origin", "streaming_llm", "random"))


@pytest.mark.parametrize("fidelity", ["paper", "upstream"])
@pytest.mark.parametrize("method", ["snapkv", "h2o", "roco", "streaming_llm", "random"])
def test_text_alone_is_compressed_too(llm: Llava, method: str, fidelity: str) -> None:
    question = "The code of Anna is 4821. What is the code of Anna? " * 4
    llm.ask(question, kv_ratio=0.5, method=method, fidelity=fidelity, max_tokens=2)
    assert llm.stats.text_cells == llm.stats.prompt_cells
    assert llm.stats.kept_cells == 2 * int(0.25 * llm.stats.prompt_cells)


def test_options_of_the_object_hold_until_a_call_has_others(
    describe: DemoPrompt, llm: Llava
) -> None:
    images = describe.images
    with Llava.embedded(kv_ratio=0.3, method="text_prior_h2o", visual_quota=1.0) as quota:
        quota.ask(describe.content, images, max_tokens=1)
        with_quota = quota.stats.kept_cells
        quota.ask(describe.content, images, max_tokens=1, visual_quota=0.0)
        assert quota.stats.kept_cells < with_quota, (
            "all text, and a whole budget of images in addition"
        )
        quota.ask(describe.content, images, max_tokens=1)
        assert quota.stats.kept_cells == with_quota


def test_random_follows_the_seed(describe: DemoPrompt) -> None:
    with Llava.embedded(kv_ratio=0.2, method="random") as llm:
        answers = [llm.ask(describe.content, describe.images, seed=seed) for seed in (1, 2, 3, 1)]
        assert answers[0] == answers[3]
        assert len(set(answers)) > 1
        unseeded = [llm.ask(describe.content, describe.images) for _ in range(2)]
        assert unseeded == [llm.ask(describe.content, describe.images, seed=0)] * 2


def test_the_arrays_say_where_a_window_begins() -> None:
    for options in CHOICES:
        assert arrays.first_query(IS_TEXT, **options._asdict()) == reference.first_query(
            IS_TEXT, options
        )
