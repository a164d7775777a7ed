"""The results of a run as tables: a row for each length and cache type, a column for each ratio."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lookm_cpp.bench.alternation import Speedup
from lookm_cpp.bench.result_rows import Row, find
from lookm_cpp.bench.text_table import Table
from lookm_cpp.bench.workload import SECOND_RATIO
from lookm_cpp.compression import PRUNING

MIB, GIB = 1 << 20, 1 << 30

PAPER = {1.0: (28.16, 1.52), 0.2: (20.98, 0.32), 0.05: (18.22, 0.13)}
"""LOOK-M's table 4, on an RTX 3090, no model named: ratio -> ms per token, GiB of KV."""
PAPER_SHARES = (1.0, 0.5, 0.35, 0.2, 0.05)
PAPER_CELLS = 3113
"""Mean length of its prompts, if its model is a 7B in f16: 1.52 GiB at 0.5 MiB per cell."""


def tables(run: Mapping[str, Any], rows: Sequence[Row]) -> Iterable[Table]:
    """All tables of each model, then the paper's table."""
    for model in run["models"]:
        here = [row for row in rows if row.model == model["name"]]
        if here:
            yield from _model_tables(model["label"], here, run["settings"])
        # runs of earlier versions have none
        asked = [one for one in run.get("second_questions", ()) if one["model"] == model["name"]]
        if asked:
            yield _second_questions(model["label"], asked)
        read = [one for one in run.get("fewer_cells", ()) if one["model"] == model["name"]]
        if read:
            yield _fewer_cells(model["label"], read, run["settings"])
    if rows:
        yield paper_table(run, rows)


def _model_tables(label: str, rows: Sequence[Row], settings: Mapping[str, Any]) -> Iterable[Table]:
    yield _pivot(
        f"{label}: decode, ms a token, and how many times as fast as with the full f16 cache",
        rows,
        lambda row: f"{1e3 * row.per_token:.2f} {row.times_full.median:.2f}x",
        f"Medians of {settings['blocks']} blocks of {settings['block_tokens']} tokens, "
        "by turns with that one.",
    )
    yield _pivot(
        f"{label}: decode beside llama.cpp at the depth that was kept",
        rows,
        lambda row: _ratio(row.times_native),
        "Times as fast, median (quartiles) of the blocks. "
        "Nothing to compare where nothing was compressed.",
    )
    yield _pivot(
        f"{label}: prefill in seconds; scoring and compression in % of it",
        rows,
        lambda row: (
            f"{row.prefill:.2f} "
            f"{_share(row.score, row.prefill)}+{_share(row.compress, row.prefill)}"
        ),
    )
    yield _pivot(
        f"{label}: seconds to the first token, and to the last of {settings['answer_tokens']}",
        rows,
        lambda row: f"{row.first_token:.2f} {row.end_to_end:.2f}",
        "With the encoding of images, where there are any.",
    )
    yield _pivot(
        f"{label}: memory of the process, peak and final, MiB",
        rows,
        lambda row: f"{_mib(row.rss_peak)} > {_mib(row.rss_final)}",
        "By how much it grew from before the model was opened.",
    )
    yield _pivot(
        f"{label}: KV buffers while reading and after, MiB",
        rows,
        lambda row: f"{row.kv_allocated_peak / MIB:.1f} > {row.kv_allocated / MIB:.1f}",
        "As llama.cpp allocates them, in steps of 256 cells and with room for the tokens that are "
        "decoded here.",
    )
    if any(row.token_bytes is not None for row in rows):
        yield _roofline(label, rows)


def _second_questions(label: str, asked: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        f"{label}: seconds to the first token of a second question, at {100 * SECOND_RATIO:g} %",
        [
            "cells",
            "the first question",
            "another one",
            "times as fast",
            "reused cells",
            "aside MiB",
        ],
        note="About the same images and contexts, whose cells stay in host memory.",
    )
    for one in asked:
        first, second = one["first_seconds"], one["second_seconds"]
        table.rows.append(
            [
                str(one["cells"]),
                f"{first:.2f}",
                f"{second:.3f}",
                f"{first / second:.1f}x",
                f"{one['reused_cells']} of {one['prompt_cells']}",
                _mib(one["prefix_bytes"]),
            ]
        )
    return table


def _fewer_cells(
    label: str, read: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> Table:
    how = ", ".join(f"{name} {settings[name]}" for name in PRUNING if settings.get(name))
    table = Table(
        f"{label}: reading fewer cells of each image, {how}, at {100 * SECOND_RATIO:g} %",
        ["cells", "read", "first token, s", "fewer", "times as fast", "kept", "fewer"],
        note="Seconds to the first token, with the encoding of images; and cells kept.",
    )
    for one in read:
        whole, pruned = one["whole"], one["pruned"]
        table.rows.append(
            [
                str(whole["prompt_cells"]),
                str(pruned["prompt_cells"]),
                f"{whole['seconds']:.2f}",
                f"{pruned['seconds']:.2f}",
                f"{whole['seconds'] / pruned['seconds']:.1f}x",
                str(whole["kept_cells"]),
                str(pruned["kept_cells"]),
            ]
        )
    return table


def _roofline(label: str, rows: Sequence[Row]) -> Table:
    def cell(row: Row) -> str:
        if row.token_bytes is None or row.bytes_per_second is None or row.times_by_bytes is None:
            return "-"
        rate = (
            f"{row.bytes_per_second / 1e9:.0f} GB/s"
            if row.of_bandwidth is None
            else f"{row.of_bandwidth:.0%}"
        )
        return f"{row.token_bytes / MIB:.0f} {rate} {row.times_by_bytes:.2f}x"

    return _pivot(
        f"{label}: roofline: MiB a token, share of the memory bandwidth, "
        "times as fast by bytes alone",
        rows,
        cell,
        "Weights and the cache at its depth, each read once. "
        "Above 100 %: what the processor's own caches hold.",
    )


def _pivot(title: str, rows: Sequence[Row], cell: Callable[[Row], str], note: str = "") -> Table:
    ratios = sorted({row.kv_ratio for row in rows}, reverse=True)
    table = Table(title, ["cells", "cache", *(f"{100 * ratio:g} %" for ratio in ratios)], note=note)
    for cells, cache in dict.fromkeys((row.cells, row.cache) for row in sorted(rows, key=_order)):
        found = [find(rows, rows[0].model, cells, cache, ratio) for ratio in ratios]
        table.rows.append([str(cells), cache, *("" if row is None else cell(row) for row in found)])
    return table


_CACHES = ("f16", "q8_0", "q4_0", "f16:q8_0", "f16:q4_0")


def _order(row: Row) -> tuple[int, int]:
    return row.cells, _CACHES.index(row.cache) if row.cache in _CACHES else len(_CACHES)


def _ratio(ratio: Speedup | None) -> str:
    return "-" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if part else "0"


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / MIB:.0f}"


def paper_table(run: Mapping[str, Any], rows: Sequence[Row]) -> Table:
    """The paper's table next to our figures.

    They are those of the 7B shape if it was measured, at the length nearest to the paper's prompts.
    """
    names = [row.model for row in rows]
    name = "7b" if "7b" in names else names[0]
    label = next(model["label"] for model in run["models"] if model["name"] == name)
    lengths = sorted({row.cells for row in rows if row.model == name})
    cells = min(lengths, key=lambda n: abs(math.log(n / PAPER_CELLS)))
    table = Table(
        f"The paper's table: {label}, {cells} cells, f16 cache",
        ["budget", "ms/token", "faster", "KV GiB", "paper ms/token", "faster", "KV GiB"],
        note=(
            f"The paper's: an RTX 3090, no model named; if a 7B in f16, its KV is of {PAPER_CELLS} "
            f"cells. It gives three budgets. The figures on the left are of {label}, never scaled "
            "up; faster there is by turns with the full cache as llama.cpp has it by default, not "
            "the quotient of the column before it."
        ),
    )
    for share in PAPER_SHARES:
        row = find(rows, name, cells, "f16", share)
        ours = ["-"] * 3
        if row is not None:
            ours = [
                f"{1e3 * row.per_token:.2f}",
                f"{row.times_full.median:.2f}x",
                f"{row.kv_bytes / GIB:.4f}",
            ]
        theirs = ["-"] * 3
        if share in PAPER:
            milliseconds, size = PAPER[share]
            theirs = [f"{milliseconds:.2f}", f"{PAPER[1.0][0] / milliseconds:.2f}x", f"{size:.2f}"]
        table.rows.append([f"{100 * share:g} %", *ours, *theirs])
    return table


def origin(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the figures come from."""
    machine, versions = run["machine"], run["versions"]
    vectors = ", ".join(machine["vectors"]) or "no vectors named"
    bandwidth = "not measured" if run["bandwidth"] is None else f"{run['bandwidth'] / 1e9:.1f} GB/s"
    return [
        (
            "machine",
            f"{machine['cpu']}, {machine['cores']} cores ({vectors})",
        ),
        ("devices", ", ".join(device["description"] for device in run["devices"])),
        ("memory", f"{machine['memory_bytes'] / GIB:.0f} GiB, read at {bandwidth}"),
        ("load before", f"{machine['load']} (mean of a minute)"),
        (
            "software",
            f"lookm_cpp {versions['lookm_cpp']}, {versions['llama.cpp']}, {versions['compiler']}",
        ),
        ("command", run["command"]),
        ("taken", f"{run['date']}, in {run['seconds'] / 60:.1f} minutes"),
        *((model["name"], model["title"]) for model in run["models"]),
    ]


def left_out(run: Mapping[str, Any]) -> list[str]:
    """What was not measured, and why: a line for each length or case."""
    skipped = [
        f"{one['model']}, {one['cells']} cells, left out: {one['why']}" for one in run["left_out"]
    ]
    failed = [
        f"{case['model']}, {case['cells']} cells, {case['cache']} at {case['kv_ratio']:g}, "
        f"failed: {case['error']}"
        for case in run["cases"]
        if "error" in case
    ]
    return skipped + failed


def markdown(run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The page ``bench.md``: origin, what was left out, and all tables."""
    lines = [
        "# lookm bench",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in origin(run)),
        "",
    ]
    lines += [*(f"- {line}" for line in left_out(run)), "", ""]
    return "\n".join(lines) + "\n\n".join(table.markdown() for table in tables(run, rows)) + "\n"
