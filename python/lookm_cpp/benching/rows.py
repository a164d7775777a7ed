"""From raw records to what is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from lookm_cpp.benching.pairs import Ratio, times_as_fast


@dataclass(frozen=True)
class Row:
    """One case. Times are seconds, sizes bytes.

    Attributes:
        model: The subject's name.
        cells: Cells of the prompt as asked for.
        cache: Type of the K and V cache.
        kv_ratio: Share of cells as asked for.
        prompt_cells: Cells that the prompt had.
        kept_cells: Cells that were left of them.
        encode: Of the images.
        prefill: Of the language model over the prompt.
        score: Of taking scores.
        compress: Of selecting, merging, packing, and of moving to the smaller cache.
        first_token: From the call to the first token.
        end_to_end: To the last token of an answer of ``answer_tokens``.
        answer_tokens: Its length.
        per_token: Of decoding, the blocks' median.
        times_full: How many times as fast as with the full f16 cache.
        times_native: How many times as fast as llama.cpp at the depth that was kept; none where
            nothing was compressed.
        kv_bytes: Of the kept cells.
        kv_allocated_peak: Of the KV buffers while the prompt is read.
        kv_allocated: Of them after it, with room for the answer and what is decoded by turns.
        compress_peak: What scoring and compression took at most.
        rss_peak: By how much the process grew at most from before the model was opened.
        rss_final: By how much it had grown in the end.
        token_bytes: Weights and cache that a token reads, halfway through the blocks.
        bytes_per_second: Their rate.
        of_bandwidth: Share of the measured memory bandwidth.
        times_by_bytes: How many times as fast as the full f16 cache, if bytes were all.
    """

    model: str
    cells: int
    cache: str
    kv_ratio: float
    prompt_cells: int
    kept_cells: int
    encode: float
    prefill: float
    score: float
    compress: float
    first_token: float
    end_to_end: float
    answer_tokens: int
    per_token: float
    times_full: Ratio
    times_native: Ratio | None
    kv_bytes: int
    kv_allocated_peak: int
    kv_allocated: int
    compress_peak: int
    rss_peak: int | None
    rss_final: int | None
    token_bytes: int | None
    bytes_per_second: float | None
    of_bandwidth: float | None
    times_by_bytes: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def rows_of(run: Mapping[str, Any]) -> list[Row]:
    """A row for each case of a run that was measured."""
    models = {model["name"]: model for model in run["models"]}
    return [_row(case, models[case["model"]], run) for case in run["cases"] if "error" not in case]


def _row(case: Mapping[str, Any], model: Mapping[str, Any], run: Mapping[str, Any]) -> Row:
    stats, blocks = case["stats"], case["seconds_per_token"]
    per_token = median(blocks["ours"])
    halfway = run["settings"]["block_tokens"] * (run["settings"]["blocks"] + 1) // 2
    moved = _token_bytes(model, case["cache"], case["depth"] + halfway)
    full = _token_bytes(model, "f16", case["full_depth"] + halfway)
    rate = None if moved is None else moved / per_token
    bandwidth = run["bandwidth"]
    rss = case["rss"]
    return Row(
        case["model"],
        case["cells"],
        case["cache"],
        case["kv_ratio"],
        stats["prompt_cells"],
        stats["kept_cells"],
        stats["encode_seconds"],
        stats["prefill_seconds"],
        stats["score_seconds"],
        stats["compress_seconds"] + stats["move_seconds"],
        case["first_token_seconds"],
        case["end_to_end_seconds"],
        case["answer_tokens"],
        per_token,
        times_as_fast(blocks["ours"], blocks["full"]),
        times_as_fast(blocks["ours"], blocks["native"]) if "native" in blocks else None,
        stats["kv_bytes_used_after"],
        stats["kv_bytes_allocated_before"],
        stats["kv_bytes_allocated_after"],
        stats["compress_bytes_peak"],
        _growth(rss, "peak"),
        _growth(rss, "final"),
        moved,
        rate,
        rate / bandwidth if rate and bandwidth else None,
        full / moved if full and moved else None,
    )


def _token_bytes(model: Mapping[str, Any], cache: str, depth: int) -> int | None:
    weights = model["token_weight_bytes"]
    return None if weights is None else int(weights + depth * model["kv_bytes_per_cell"][cache])


def _growth(rss: Mapping[str, int | None], at: str) -> int | None:
    before, then = rss["before"], rss[at]
    return None if before is None or then is None else then - before


def find(rows: Sequence[Row], model: str, cells: int, cache: str, kv_ratio: float) -> Row | None:
    """The one row of a case."""
    wanted = (model, cells, cache, kv_ratio)
    return next(
        (row for row in rows if (row.model, row.cells, row.cache, row.kv_ratio) == wanted), None
    )
