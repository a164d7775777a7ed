"""LOOK-M on NumPy arrays, one layer at a time: the very code that compresses a session's KV cache.

Arrays of heads come first, cells second. Every call runs on the CPU and releases the GIL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lookm_cpp import _core
from lookm_cpp.compression import IMPORTANT_RATIO, METHOD, RECENT_RATIO, MethodOverrides
from lookm_cpp.options import seed_of
from lookm_cpp.sizes import long_whole, number, whole
from lookm_cpp.words import flag

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["compress", "first_query", "scores", "select"]


class ArrayOptions(MethodOverrides, total=False):
    """Further fields of a ``lookm_cpp.Compression``, and the seed of ``random``."""

    seed: int


def scores(
    q: npt.ArrayLike,
    k: npt.NDArray[Any],
    *,
    scale: float | None = None,
    n_past: int = 0,
    on_device: bool = False,
) -> npt.NDArray[np.float32]:
    """Attention that each cell received: column sums of ``softmax(scale * q @ k^T)`` under a causal
    mask.

    Args:
        q: Queries ``[n_head, n_tokens, head_dim]``, taken as f32.
        k: Keys ``[n_head_kv, n_kv, head_dim]``, f32 or f16; ``n_head`` is a multiple of
            ``n_head_kv``.
        scale: Factor before the softmax; ``1 / sqrt(head_dim)`` unless given.
        n_past: Query ``i`` sees the cells ``0 .. n_past + i``.
        on_device: Score by the graph that accelerators run instead of the CPU's own loop; it rounds
            ``q`` to f16 where ``k`` is f16.

    Returns:
        ``[n_head_kv, n_kv]`` f32, the mean over each group's query heads.

    Raises:
        ValueError: The shapes do not fit each other, or a number is not finite.

    Two queries that attend evenly; the first sees one cell, the second both:

    >>> scores(np.zeros((1, 2, 4)), np.zeros((1, 2, 4), np.float32))
    array([[1.5, 0.5]], dtype=float32)
    """
    queries = np.ascontiguousarray(q, dtype=np.float32)
    factor = float(max(queries.shape[-1], 1)) ** -0.5 if scale is None else number("scale", scale)
    return _core.scores(
        _finite("q", queries),
        _finite("k", np.ascontiguousarray(k)),
        factor,
        long_whole("n_past", n_past),
        flag("on_device", on_device),
    )


def first_query(
    is_text: npt.ArrayLike,
    *,
    method: str = METHOD,
    important_ratio: float = IMPORTANT_RATIO,
    recent_ratio: float = RECENT_RATIO,
    **options: Unpack[ArrayOptions],
) -> int:
    """Index of the first query of a prompt whose attention counts; 0 unless the scorer is a window.

    Args:
        is_text: ``[n_kv]``, true for text cells.
        method: As in ``select``.
        important_ratio: As in ``select``.
        recent_ratio: As in ``select``.
        **options: As in ``select``.

    Raises:
        ValueError: An argument is outside its range.

    The text after the last image; or as many as the user says:

    >>> is_text = [True, False, False, True, True, True, True, True, True, True]
    >>> first_query(is_text), first_query(is_text, window=2), first_query(is_text, method="h2o")
    (3, 8, 0)
    """
    return _core.first_query(
        np.ascontiguousarray(is_text, dtype=np.bool_),
        _how(method, important_ratio, recent_ratio, options),
    )


def select(
    scores: npt.ArrayLike,
    is_text: npt.ArrayLike,
    *,
    method: str = METHOD,
    important_ratio: float = IMPORTANT_RATIO,
    recent_ratio: float = RECENT_RATIO,
    squares: npt.ArrayLike | None = None,
    layer: int = 0,
    **options: Unpack[ArrayOptions],
) -> npt.NDArray[np.int32]:
    """Which cells stay, for each KV head.

    Args:
        scores: ``[n_head_kv, n_kv]``, taken as f32: attention summed over the queries from
            ``first_query`` on. Only their shape counts where the scorer is ``none``.
        is_text: ``[n_kv]``, true for text cells.
        method: A name of ``lookm_cpp.methods()``.
        important_ratio: ``floor(important_ratio * n_kv)`` cells stay for their score.
        recent_ratio: The last ``floor(recent_ratio * n_kv)`` cells always stay.
        squares: As ``scores``, of squared attention; for ``roco``.
        layer: Of the model; ``random`` draws other cells in every layer.
        **options: ``text_overflow``, ``fidelity``, ``scorer``, ``window``, ``merge_keys``,
            ``merge_within_modality``
            and ``visual_quota`` as in ``Llava``; ``seed``, 0 unless given, of ``random``.

    Returns:
        ``kept [n_head_kv, n_keep]`` i32, ascending in each row.

    Raises:
        ValueError: An argument is outside its range, or the shapes do not fit each other.

    All text stays (cells 0, 3 and the recent 5), then the best image cell:

    >>> is_text = [True, False, False, True, False, True]
    >>> select([[1, 9, 8, 2, 7, 0]], is_text, method="text_prior_h2o", important_ratio=0.5, recent_ratio=0.17)
    array([[0, 1, 3, 5]], dtype=int32)
    """
    return _core.select(
        np.ascontiguousarray(scores, dtype=np.float32),
        np.ascontiguousarray(is_text, dtype=np.bool_),
        _how(method, important_ratio, recent_ratio, options),
        squares=_optional(squares),
        layer=whole("layer", layer),
    )


def compress(
    k: npt.NDArray[Any],
    v: npt.NDArray[Any],
    scores: npt.ArrayLike,
    is_text: npt.ArrayLike,
    *,
    method: str = METHOD,
    important_ratio: float = IMPORTANT_RATIO,
    recent_ratio: float = RECENT_RATIO,
    squares: npt.ArrayLike | None = None,
    layer: int = 0,
    on_device: bool = False,
    **options: Unpack[ArrayOptions],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Select cells and merge the evicted ones into them.

    Args:
        k: Keys ``[n_head_kv, n_kv, head_dim_k]``, f32 or f16.
        v: Values ``[n_head_kv, n_kv, head_dim_v]``, of the keys' type.
        scores: As in ``select``.
        is_text: ``[n_kv]``, true for text cells.
        method: As in ``select``.
        important_ratio: As in ``select``.
        recent_ratio: As in ``select``.
        squares: As in ``select``.
        layer: As in ``select``.
        on_device: Merge by the graph that accelerators run instead of the host's scatter-add; equal
            to rounding.
        **options: As in ``select``.

    Returns:
        ``(k, v, kept, merged_into)``: rows ``[n_head_kv, n_keep, head_dim]`` in the input's type,
        ``kept [n_head_kv, n_keep]`` ascending, and ``merged_into [n_head_kv, n_kv]``: for an
        evicted cell the kept cell that took it in, -1 for kept cells and for those that are
        dropped.

    Raises:
        ValueError: An argument is outside its range, or the shapes do not fit each other.

    The image cells 1 and 2 are merged into cell 0, whose key is nearest to theirs:

    >>> k = np.array([[[1, 0], [2, 0], [3, 1], [0, 1]]], np.float32)
    >>> v = np.array([[[10], [20], [30], [99]]], np.float32)
    >>> new_k, new_v, kept, merged_into = compress(
    ...     k, v, np.ones((1, 4)), [True, False, False, True], method="text_prior_pivot_merge",
    ...     important_ratio=0.25, recent_ratio=0.25
    ... )
    >>> kept, merged_into
    (array([[0, 3]], dtype=int32), array([[-1,  0,  0, -1]], dtype=int32))
    >>> new_k.tolist(), new_v.tolist()
    ([[[1.5, 0.1666666...], [0.0, 1.0]]], [[[15.0], [99.0]]])
    """
    return _core.compress(
        np.ascontiguousarray(k),
        np.ascontiguousarray(v),
        np.ascontiguousarray(scores, dtype=np.float32),
        np.ascontiguousarray(is_text, dtype=np.bool_),
        _how(method, important_ratio, recent_ratio, options),
        squares=_optional(squares),
        layer=whole("layer", layer),
        on_device=flag("on_device", on_device),
    )


def _how(
    method: str, important_ratio: float, recent_ratio: float, options: ArrayOptions
) -> _core.Compression:
    """What the core takes of a method.

    Raises:
        TypeError: There is no such option.
        ValueError: One is no number, string or switch where that is expected.
    """
    named: dict[str, Any] = {**options}
    seed = seed_of(named.pop("seed", 0))
    for name in named:
        if name not in ArrayOptions.__annotations__:
            raise TypeError(f"{name} is no option of a method on arrays")
    ratios = {"important_ratio": important_ratio, "recent_ratio": recent_ratio}
    return _core.Compression(method=method, seed=seed, **ratios, **named)


def _optional(sums: npt.ArrayLike | None) -> npt.NDArray[np.float32] | None:
    return None if sums is None else np.ascontiguousarray(sums, dtype=np.float32)


def _finite(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A softmax would make plausible numbers of what is none."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} has NaN or infinity, expected finite numbers")
    return array
