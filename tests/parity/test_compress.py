"""Merging: both C++ forms (a scatter-add on the CPU, a graph on devices) equal the reference.

A device may choose any of several equally similar rows. So the test first checks that the pivot
which C++ reports is one of the best, and then checks the rows for that pivot.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from lookm_cpp import arrays
from reference import lookm_numpy as ref

from parity.cases import Floats, Keywords, Layer, Prompt, layers, raises_about

METHODS = list(ref.METHODS)
EACH_METHOD = pytest.mark.parametrize("method", METHODS)
EACH_MERGE = pytest.mark.parametrize("method", [name for name in METHODS if name.endswith("merge")])
FORMS = pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
Result = tuple[Floats, Floats, npt.NDArray[np.int32], npt.NDArray[np.int32]]


def compress(layer: Layer, on_device: bool) -> Result:
    p = layer.prompt
    return arrays.compress(
        layer.k(),
        layer.v(),
        p.scores(),
        p.is_text(),
        squares=p.squares(),
        **p.keywords(),
        on_device=on_device,
    )


def cosine_tolerance(layer: Layer) -> float:
    """For a sum of head_dim products of unit rows in f32; f16 rows are converted to f32 first."""
    return layer.head_dim_k * 2.0**-24


def merge_of(options: ref.Options) -> ref.Merge:
    row = ref.method_of(options)
    return row.merge if row else "none"


def check_rows(
    x_out: Floats, x: Floats, kept: Any, pivot: Any, weight: Any, how: ref.Merge, tol_cosine: float
) -> None:
    """One head's merged rows, given the pivots (-1: dropped) and their cosines."""
    evicted = ref.evicted_cells(kept, len(x))
    expected = ref.merge(x, evicted, kept, pivot, weight, how)
    if how == "none":
        np.testing.assert_array_equal(x_out, x[kept])
        return
    # The sum of absolute values: roundings are relative to it, as terms of the sum may cancel
    size = ref.merge(np.abs(x), evicted, kept, pivot, np.ones(len(evicted)), "average")
    tolerance = size * 32 * 2.0**-24  # f32 sums: about sqrt(n_c) roundings, n_c below 1100 here
    if how == "weighted":
        tolerance += size * tol_cosine
    if x.dtype == np.float16:
        # half a step of f16, and half its smallest number
        tolerance += np.abs(expected) * 2.0**-11 + 2.0**-25
    worst = (np.abs(x_out - expected) - tolerance).max(initial=0)
    assert worst <= 0, f"{how}: off by {worst} more than allowed"


def ranks_taken(layer: Layer, kept: Any, weight: Any) -> Any:
    """The index of the evicted cell whose pivot each evicted cell gets; -1 if it is dropped.

    ``None`` if the filter is so close that rounding decides.
    """
    row = ref.method_of(layer.prompt.options)
    n_evict = weight.shape[1]
    if row is None or row.filter == "all" or n_evict == 0:
        return np.arange(n_evict)
    margin = weight.mean(axis=0) - weight.mean()
    if n_evict > 1 and (np.abs(margin) <= 4 * cosine_tolerance(layer)).any():
        return None
    ranks = np.flatnonzero(margin >= 0) if n_evict > 1 else np.arange(n_evict)
    taken = np.full(n_evict, -1)
    taken[np.arange(len(ranks)) if row.filter == "misaligned" else ranks] = ranks
    return taken


def check_layer(layer: Layer, result: Result) -> None:
    k_out, v_out, kept, merged_into = result
    p = layer.prompt
    k, v, is_text = layer.k(), layer.v(), p.is_text()
    how = merge_of(p.options)
    assert k_out.dtype == v_out.dtype == k.dtype
    assert kept.dtype == merged_into.dtype == np.int32
    assert merged_into.shape == (p.n_head_kv, p.n)
    assert k_out.shape == (*kept.shape, layer.head_dim_k)
    assert v_out.shape == (*kept.shape, layer.head_dim_v)
    np.testing.assert_array_equal(kept, ref.select(p.scores(), is_text, p.options, p.squares()))

    # for each head: similarities of the pairs that may be merged
    evicted = [ref.evicted_cells(row, p.n) for row in kept]
    sims = [ref.cosine(k[h], evicted[h], kept[h]) for h in range(p.n_head_kv)]
    if p.options.merge_within_modality:
        sims = [
            np.where(is_text[evicted[h]][:, None] == is_text[kept[h]], sims[h], -np.inf)
            for h in range(p.n_head_kv)
        ]
    best = np.stack([sim.max(axis=1, initial=-np.inf) for sim in sims])
    taken = ranks_taken(layer, kept, np.where(np.isinf(best), 0, best))
    if taken is None:
        return
    for h in range(p.n_head_kv):
        e = np.arange(len(evicted[h]))
        assert (merged_into[h, kept[h]] == -1).all()
        into = merged_into[h, evicted[h]]
        pivot = np.where(into >= 0, np.searchsorted(kept[h], np.maximum(into, 0)), -1)
        if how == "none":
            assert (into == -1).all()
        else:
            source = np.maximum(taken, 0)  # the cell whose best pivot it must be
            np.testing.assert_array_equal(into >= 0, (taken >= 0) & np.isfinite(best[h][source]))
            met = e[into >= 0]
            assert np.isin(into[met], kept[h]).all()
            # both the best and the found similarity may be off by the tolerance
            off = best[h][source[met]] - sims[h][source[met], pivot[met]]
            assert (off <= 2 * cosine_tolerance(layer)).all(), "not the most similar kept cell"
            top = np.sort(np.maximum(sims[h], -9), axis=1)[:, -2:]  # -9: may not be merged
            clear = met[(top[:, -1] - top[:, 0] > 2 * cosine_tolerance(layer))[source[met]]]
            if sims[h].shape[1] > 1:
                np.testing.assert_array_equal(
                    into[clear], kept[h][sims[h].argmax(axis=1)[source[clear]]]
                )
        weight = ref.cosine(k[h], evicted[h], kept[h])[e, pivot] if len(e) else np.zeros(0)
        of_keys = how if p.options.merge_keys else "none"
        check_rows(k_out[h], k[h], kept[h], pivot, weight, of_keys, cosine_tolerance(layer))
        check_rows(v_out[h], v[h], kept[h], pivot, weight, how, cosine_tolerance(layer))


ORIGIN = ref.Options("origin")


def large(dtype: Literal["float16", "float32"], options: ref.Options = ORIGIN) -> Layer:
    """More cells than fit into a small tile, with four evicted for each kept one."""
    prompt = Prompt(1100, 2, "mixed", "continuous", options._replace(text_overflow="evict"), seed=5)
    return Layer(prompt, head_dim_k=128, head_dim_v=80, dtype=dtype, n_zero=3, magnitude=1.0)


@FORMS
@EACH_METHOD
@settings(max_examples=25)
@example(layer=large("float16"))
@example(layer=large("float32"))
@example(
    layer=large("float32", ref.Options("origin", merge_within_modality=True, merge_keys=False))
)
@given(layer=layers())
def test_compress_equals_the_reference(method: str, on_device: bool, layer: Layer) -> None:
    layer = layer.by(method)
    check_layer(layer, compress(layer, on_device))


@EACH_MERGE
@settings(max_examples=20)
@example(layer=large("float16"))
@example(layer=large("float32"))
@given(layer=layers())
def test_host_and_device_agree(method: str, layer: Layer) -> None:
    layer = layer.by(method)
    k_host, v_host, kept_host, into_host = compress(layer, on_device=False)
    k_device, v_device, kept_device, into_device = compress(layer, on_device=True)
    np.testing.assert_array_equal(kept_host, kept_device)
    if (into_host != into_device).any():
        return  # a tie with two choices; the test above checks that both are best
    # The forms add in different orders (some tens of f32 roundings), and may then round to
    # neighbouring f16 numbers
    rounding = 2.0**-10 if layer.dtype == "float16" else 2.0**-19
    if merge_of(layer.prompt.options) == "weighted":
        rounding += 2 * cosine_tolerance(layer)
    for host, device, x in ((k_host, k_device, layer.k()), (v_host, v_device, layer.v())):
        np.testing.assert_allclose(
            host, device, rtol=rounding, atol=rounding * float(np.abs(x).max())
        )


@FORMS
@EACH_METHOD
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_keeping_all_changes_no_bit(
    method: str, dtype: Literal["float16", "float32"], on_device: bool
) -> None:
    options = ref.Options(method, 1.0, 0.0)
    layer = Layer(
        Prompt(37, 3, "mixed", "continuous", options, seed=1),
        80,
        64,
        dtype,
        n_zero=1,
        magnitude=1.0,
    )
    k, v, kept, merged_into = compress(layer, on_device)
    assert k.tobytes() == layer.k().tobytes()
    assert v.tobytes() == layer.v().tobytes()
    assert kept.tolist() == [list(range(37))] * 3
    assert (merged_into == -1).all()


@FORMS
@EACH_MERGE
@settings(max_examples=8)
@given(layer=layers(max_n=120))
def test_heads_are_compressed_alone(method: str, on_device: bool, layer: Layer) -> None:
    """Permuting heads permutes the result bit for bit."""
    layer = layer.by(method)
    p = layer.prompt
    order = np.random.default_rng(p.seed).permutation(p.n_head_kv)
    k, v = layer.k()[order], layer.v()[order]
    scores, squares = p.scores()[order], p.squares()[order]
    permuted = arrays.compress(
        k, v, scores, p.is_text(), squares=squares, **p.keywords(), on_device=on_device
    )
    for a, b in zip(permuted, compress(layer, on_device), strict=True):
        np.testing.assert_array_equal(a, b[order])


@FORMS
@EACH_MERGE
def test_merging_identical_rows_changes_nothing(method: str, on_device: bool) -> None:
    """Cells are copies of four rows, all in the recent window: each row is merged into its copy."""
    n, n_recent = 120, 12
    rng = np.random.default_rng(3)
    which = rng.integers(0, 4, n)
    which[n - n_recent :] = np.arange(n_recent) % 4
    k = rng.standard_normal((2, 4, 64)).astype(np.float32)[:, which]
    v = rng.standard_normal((2, 4, 64)).astype(np.float32)[:, which]
    scores = rng.lognormal(size=(2, n)).astype(np.float32)
    k_out, v_out, kept, _ = arrays.compress(
        k, v, scores, np.arange(n) < 5, method=method, on_device=on_device
    )
    for h in range(2):
        # 1e-5: sums of up to n equal f32 rows; weighted: a cosine of 1 has an error of up to
        # 64 * 2^-24 = 4e-6
        np.testing.assert_allclose(k_out[h], k[h, kept[h]], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(v_out[h], v[h, kept[h]], rtol=1e-5, atol=1e-5)


def test_host_settles_ties_by_the_lower_cell() -> None:
    """Cells are copies of four rows and of a zero row: all go into the first kept copy."""
    n = 400
    rng = np.random.default_rng(4)
    rows = np.concatenate([rng.standard_normal((4, 64)), np.zeros((1, 64))]).astype(np.float32)
    which = rng.integers(0, 5, n)
    k = rows[which][None]
    scores = rng.lognormal(size=(1, n)).astype(np.float32)
    _, _, kept, merged_into = arrays.compress(k, k, scores, np.arange(n) < 5, method="avg_merge")
    for cell in ref.evicted_cells(kept[0], n):
        equal = (
            kept[0][which[kept[0]] == which[cell]] if which[cell] < 4 else kept[0]
        )  # cosine 0 to all
        assert merged_into[0, cell] == equal[0]


@FORMS
@pytest.mark.parametrize("method", ["avg_merge", "pivot_merge", "text_prior_pivot_merge"])
@settings(max_examples=10)
@given(layer=layers(max_n=128))
def test_share_of_each_cell(method: str, on_device: bool, layer: Layer) -> None:
    """V row i is the i-th unit vector, so that a merged row shows the weight of each cell in it."""
    p = layer.prompt.by(method)
    p = p._replace(options=p.options._replace(merge=None))
    v = np.broadcast_to(np.eye(p.n, dtype=np.float32), (p.n_head_kv, p.n, p.n)).copy()
    k = layer.k().astype(np.float32)
    _, share, kept, merged_into = arrays.compress(
        k, v, p.scores(), p.is_text(), **p.keywords(), on_device=on_device
    )
    for h in range(p.n_head_kv):
        for row, c in zip(share[h], kept[h], strict=True):
            taken = np.flatnonzero(merged_into[h] == c)
            n_c = len(taken)
            own, each = 1 / (1 + n_c), 1 / (1 + n_c)
            if "pivot" in method:
                own, each = (1 + n_c / 2) / (1 + n_c), 0.5 / (1 + n_c)
                assert row[c] >= 0.5 * (1 - 1e-6), "a pivot keeps at least half of itself"
            expected = np.zeros(p.n)
            expected[c], expected[taken] = own, each
            # 1e-6: one division and at most two additions in f32
            np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_values_never_choose_the_pivot() -> None:
    """V uses K's pivots regardless of its own content, and may have another head_dim."""
    layer = large("float32").by("text_prior_pivot_merge")
    p = layer.prompt
    _, _, kept, merged_into = compress(layer, on_device=False)
    other = arrays.compress(
        layer.k(), layer.v()[:, ::-1, :8].copy(), p.scores(), p.is_text(), **p.keywords()
    )
    np.testing.assert_array_equal(other[2], kept)
    np.testing.assert_array_equal(other[3], merged_into)


K = np.ones((2, 11, 8), dtype=np.float32)
SCORES = np.ones((2, 11), dtype=np.float32)
IS_TEXT = np.ones(11, dtype=np.bool_)
GOOD = Keywords(method="h2o", important_ratio=0.1, recent_ratio=0.1, text_overflow="keep")


@FORMS
def test_arrays_of_other_shapes_are_refused(on_device: bool) -> None:
    with raises_about("k"):
        arrays.compress(K[0], K, SCORES, IS_TEXT, on_device=on_device)
    with raises_about("v"):
        arrays.compress(K, K[0], SCORES, IS_TEXT, on_device=on_device)
    with raises_about("v", "10", "11"):
        arrays.compress(K, K[:, :10].copy(), SCORES, IS_TEXT, on_device=on_device)
    with raises_about("v", "1", "2"):
        arrays.compress(K, K[:1], SCORES, IS_TEXT, on_device=on_device)
    with raises_about("scores", "1", "2"):
        arrays.compress(K, K, SCORES[:1], IS_TEXT, on_device=on_device)
    with raises_about("scores", "10", "11"):
        arrays.compress(K, K, SCORES[:, :10].copy(), IS_TEXT, on_device=on_device)
    with raises_about("is_text", "10", "11"):
        arrays.compress(K, K, SCORES, IS_TEXT[:10], on_device=on_device)
    with raises_about("k", "0"):
        arrays.compress(K[:, :, :0], K, SCORES, IS_TEXT, on_device=on_device)


def test_arrays_of_other_types_are_refused() -> None:
    with raises_about("k", "float64", "float32", "float16"):
        arrays.compress(K.astype(np.float64), K, SCORES, IS_TEXT)
    with raises_about("v", "float16", "float32"):
        arrays.compress(K, K.astype(np.float16), SCORES, IS_TEXT)


def test_wrong_options_are_refused_by_name() -> None:
    for argument, value, shown in (
        ("important_ratio", float("nan"), "nan"),
        ("recent_ratio", -0.5, "-0.5"),
        ("method", "best_merge", "best_merge"),
        ("text_overflow", "spill", "spill"),
    ):
        with raises_about(argument, shown):
            arrays.compress(K, K, SCORES, IS_TEXT, **{**GOOD, argument: value})  # type: ignore[arg-type]
    with raises_about("important_ratio", "recent_ratio", "0.75", "0.5"):
        arrays.compress(K, K, SCORES, IS_TEXT, important_ratio=0.75, recent_ratio=0.5)


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
def test_strided_views_are_read_as_numpy_reads_them(on_device: bool) -> None:
    layer = large("float32").by("text_prior_pivot_merge")
    p = layer.prompt
    k = np.ascontiguousarray(layer.k().transpose(1, 0, 2)).transpose(1, 0, 2)
    assert not k.flags.c_contiguous
    expected = compress(layer, on_device)
    found = arrays.compress(
        k, layer.v(), p.scores(), p.is_text(), **p.keywords(), on_device=on_device
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
