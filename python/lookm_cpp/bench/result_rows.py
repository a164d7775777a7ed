"""Computes from the raw records of each case what the tables compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from lookm_cpp.bench.alternation import Speedup, speedup


@dataclass(frozen=True)
class Row:
    """One case. Times are in seconds, sizes in bytes.

    Attributes:
        model: Name of the model.
        cells: Requested length of the prompt, in cells.
        cache: Type of the K and V cache.
        kv_ratio: Requested fraction of the cells.
        prompt_cells: Cells of the prompt.
        kept_cells: Cells that were kept.
        encode: Time to encode the images.
        prefill: Time of the language model over the prompt.
        score: Time to take scores.
        compress: Time to select, merge, pack, and move to the smaller cache.
        first_token: Time from the call to the first token.
        end_to_end: Time from the call to the last token of the answer.
        answer_tokens: Length of the answer.
        per_token: Time to decode one token, median of the blocks.
        times_full: How many times as fast as with the full f16 cache.
        times_native: How many times as fast as llama.cpp with the same number of cells; ``None``
            if nothing was compressed.
        kv_bytes: Size of the kept cells.
        kv_allocated_peak: Size of the KV buffers while the prompt is read.
        kv_allocated: Their size afterwards, with room for all tokens that are decoded.
        compress_peak: Maximum memory of scoring and compression.
        rss_peak: Maximum growth of the process since before the model was opened.
        rss_final: Its growth at the end of the answer.
        token_bytes: Weights and cache that one token reads, halfway through the blocks.
        bytes_per_second: Rate at which they are read.
        of_bandwidth: This rate as a fraction of the measured memory bandwidth.
        times_by_bytes: How many times as fast as the full f16 cache, if only bytes counted.
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
    times_full: Speedup
    times_native: Speedup | None
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
    """One row for each case that was measured."""
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
        speedup(blocks["ours"], blocks["full"]),
        speedup(blocks["ours"], blocks["native"]) if "native" in blocks else None,
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
    """The row of a case, or ``None``."""
    wanted = (model, cells, cache, kv_ratio)
    return next(
        (row for row in rows if (row.model, row.cells, row.cache, row.kv_ratio) == wanted), None
    )
