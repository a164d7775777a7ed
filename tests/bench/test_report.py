"""Rows, tables and plots of a run that is written here, so that figures follow by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lookm_cpp.bench.plots import draw_all
from lookm_cpp.bench.report import left_out, markdown, paper_table, tables
from lookm_cpp.bench.result_rows import rows_of
from lookm_cpp.bench.time_estimate import Line, Paces, lengths_of
from lookm_cpp.bench.workload import Case, Workload

MIB = 1 << 20


def _case(cells: int, cache: str, ratio: float, **changes: Any) -> dict[str, Any]:
    kept = round(ratio * cells)
    per_cell = {"f16": 1000, "q8_0": 600}[cache]
    blocks = {"ours": [0.02, 0.01, 0.03], "full": [0.03, 0.02, 0.06]}
    if ratio < 1:
        blocks["native"] = [0.018, 0.011, 0.03]
    return {
        "model": "7b",
        "cells": cells,
        "cache": cache,
        "kv_ratio": ratio,
        "depth": kept + 4,
        "full_depth": cells + 4,
        "first_token_seconds": 2.5,
        "end_to_end_seconds": 3.0,
        "answer_tokens": 5,
        "rss": {"before": 100 * MIB, "peak": 164 * MIB, "final": 132 * MIB},
        "seconds_per_token": blocks,
        "stats": {
            "prompt_cells": cells,
            "kept_cells": kept,
            "encode_seconds": 0.0,
            "prefill_seconds": 2.0,
            "score_seconds": 0.1 if ratio < 1 else 0.0,
            "compress_seconds": 0.03 if ratio < 1 else 0.0,
            "move_seconds": 0.01 if ratio < 1 else 0.0,
            "kv_bytes_used_after": kept * per_cell,
            "kv_bytes_allocated_before": cells * per_cell,
            "kv_bytes_allocated_after": (kept + 20) * per_cell,
            "compress_bytes_peak": 5 * MIB,
        },
        **changes,
    }


@pytest.fixture
def run() -> dict[str, Any]:
    cases = [
        _case(n, cache, ratio)
        for n in (1024, 4096)
        for cache in ("f16", "q8_0")
        for ratio in (1.0, 0.2)
    ]
    return {
        "command": "lookm bench",
        "date": "2000-01-01",
        "seconds": 90.0,
        "bandwidth": 1e9,
        "machine": {
            "cpu": "A",
            "cores": 2,
            "vectors": ["avx2"],
            "memory_bytes": 8 << 30,
            "load": 0.1,
        },
        "devices": [{"description": "A"}],
        "versions": {"lookm_cpp": "0", "llama.cpp": "1", "compiler": "2"},
        "settings": {
            "blocks": 3,
            "block_tokens": 4,
            "answer_tokens": 5,
            "image_ratio": 0.25,
            "pruner": "grid",
        },
        "models": [
            {
                "name": "7b",
                "label": "7b, 4 of 32 layers",
                "title": "random weights",
                "token_weight_bytes": 10_000_000,
                "kv_bytes_per_cell": {"f16": 1000, "q8_0": 600},
            }
        ],
        "left_out": [{"model": "7b", "cells": 16384, "why": "it would take too much"}],
        "cases": [
            *cases,
            {
                "model": "7b",
                "cells": 4096,
                "cache": "q4_0",
                "kv_ratio": 1.0,
                "error": "no such blocks",
            },
        ],
        "second_questions": [
            {
                "model": "7b",
                "cells": 4096,
                "first_seconds": 12.5,
                "second_seconds": 0.25,
                "prompt_cells": 4096,
                "reused_cells": 3932,
                "prefix_bytes": 3 << 20,
            }
        ],
        "fewer_cells": [
            {
                "model": "7b",
                "cells": 4096,
                "whole": {"seconds": 12.0, "prompt_cells": 4096, "kept_cells": 818},
                "pruned": {"seconds": 3.75, "prompt_cells": 1120, "kept_cells": 224},
            }
        ],
    }


def test_rows_equal_figures_computed_by_hand(run: dict[str, Any]) -> None:
    rows = rows_of(run)
    assert len(rows) == 8
    row = next(row for row in rows if (row.cells, row.cache, row.kv_ratio) == (4096, "q8_0", 0.2))
    assert row.per_token == 0.02
    assert row.times_full.median == pytest.approx(2.0), "of 1.5, 2 and 2"
    assert row.times_full.low == pytest.approx(1.75)
    assert row.times_native is not None
    assert row.times_native.median == pytest.approx(1.0), "of 0.9, 1.1 and 1"
    assert row.compress == pytest.approx(0.04)
    # 819 kept, 4 of the answer, half of 4 rounds of 4 tokens
    assert row.token_bytes == 10_000_000 + (819 + 4 + 8) * 600
    assert row.bytes_per_second == pytest.approx(row.token_bytes / 0.02)
    assert row.of_bandwidth == pytest.approx(row.token_bytes / 0.02 / 1e9)
    assert row.times_by_bytes == pytest.approx(
        (10_000_000 + (4096 + 4 + 8) * 1000) / row.token_bytes
    )
    assert (row.rss_peak, row.rss_final) == (64 * MIB, 32 * MIB)
    assert next(row for row in rows if row.kv_ratio == 1.0).times_native is None


def test_what_is_not_known_is_not_told(run: dict[str, Any]) -> None:
    run["models"][0]["token_weight_bytes"] = None
    run["cases"][0]["rss"] = {"before": None, "peak": None, "final": None}
    rows = rows_of(run)
    assert (
        rows[0].rss_peak
        is rows[0].token_bytes
        is rows[0].of_bandwidth
        is rows[0].times_by_bytes
        is None
    )
    titles = [table.title for table in tables(run, rows)]
    assert not any("roofline" in title for title in titles)
    run["models"][0]["token_weight_bytes"], run["bandwidth"] = 10_000_000, None
    (roofline,) = [table for table in tables(run, rows_of(run)) if "roofline" in table.title]
    assert roofline.rows[0][2] == "11 1 GB/s 1.00x"


def test_the_papers_table_stands_next_to_the_length_nearest_to_its_own(run: dict[str, Any]) -> None:
    table = paper_table(run, rows_of(run))
    assert table.title == "The paper's table: 7b, 4 of 32 layers, 4096 cells, f16 cache", (
        "nearest to 3113 cells"
    )
    assert table.rows == [
        ["100 %", "20.00", "2.00x", f"{4096 * 1000 / 2**30:.4f}", "28.16", "1.00x", "1.52"],
        ["50 %", "-", "-", "-", "-", "-", "-"],
        ["35 %", "-", "-", "-", "-", "-", "-"],
        ["20 %", "20.00", "2.00x", f"{819 * 1000 / 2**30:.4f}", "20.98", "1.34x", "0.32"],
        ["5 %", "-", "-", "-", "18.22", "1.55x", "0.13"],
    ]


def test_tables_say_that_a_slice_is_one(run: dict[str, Any]) -> None:
    found = list(tables(run, rows_of(run)))
    assert len(found) == 10
    assert all("4 of 32 layers" in table.title for table in found)
    decode, native, cost = found[:3]
    assert decode.columns == ["cells", "cache", "100 %", "20 %"]
    assert decode.rows[-1] == ["4096", "q8_0", "20.00 2.00x", "20.00 2.00x"]
    assert native.rows[0] == ["1024", "f16", "-", "1.00 (0.95-1.05)"]
    assert cost.rows[0] == ["1024", "f16", "2.00 0+0", "2.00 5.0+2.0"]
    (asked,) = [table for table in found if "second question" in table.title]
    assert asked.rows == [["4096", "12.50", "0.250", "50.0x", "3932 of 4096", "3"]]
    (read,) = [table for table in found if "fewer cells" in table.title]
    assert "image_ratio 0.25, pruner grid" in read.title
    assert read.rows == [["4096", "1120", "12.00", "3.75", "3.2x", "818", "224"]]
    page = markdown(run, rows_of(run))
    assert all(table.title in page for table in found)
    assert left_out(run) == [
        "7b, 16384 cells, left out: it would take too much",
        "7b, 4096 cells, q4_0 at 1, failed: no such blocks",
    ]
    assert all(line in page for line in left_out(run))


def test_plots_are_light_and_dark_and_the_same_again(run: dict[str, Any], tmp_path: Path) -> None:
    written = draw_all(run, rows_of(run), tmp_path)
    assert [path.name for path in written] == [
        "decode-light.svg",
        "decode-dark.svg",
        "cost-light.svg",
        "cost-dark.svg",
    ]
    texts = [path.read_text(encoding="utf-8") for path in written]
    assert all("4 of 32 layers" in text for text in texts)
    assert ["#0d1117" in text for text in texts] == [False, True, False, True]
    draw_all(run, rows_of(run), tmp_path)
    assert texts == [path.read_text(encoding="utf-8") for path in written]


def test_one_length_can_be_drawn(run: dict[str, Any], tmp_path: Path) -> None:
    run["cases"] = [case for case in run["cases"] if case["cells"] == 1024]
    assert len(draw_all(run, rows_of(run), tmp_path)) == 4


def test_an_estimate_equals_the_sum_computed_by_hand() -> None:
    def timed(cache: str, cells: int, prompt: float, token: float) -> dict[str, Any]:
        return {"cache": cache, "cells": cells, "prompt": prompt, "token": token, "opening": 2.0}

    points = [
        timed("f16", 100, 1.1, 0.5),
        timed("f16", 200, 2.4, 0.6),
        timed("q8_0", 100, 5.0, 0.25),
    ]
    paces = Paces.of(points)
    # a cell takes 0.01 and 1e-5 more for each cell of the prompt; a token 0.4 and 0.001 more for
    # each cell
    prompt, short = 2 + 1000 * 0.02, 2 + 200 * 0.012
    workload = Workload(
        "",
        None,
        1000,
        (Case("f16", 1.0), Case("f16", 0.2), Case("q8_0", 1.0), Case("q4_0", 1.0)),
        10,
        4,
        2,
        {},
        {},
    )
    turns = 2 * 5
    assert paces.of_cache["f16"].prompt(1000) == pytest.approx(prompt)
    full = prompt + (10 + 2 * turns) * 1.4
    compressed = prompt + (10 + turns) * 0.6 + turns * 1.4 + short + turns * 0.6
    quantized = 2 + 1000 * 0.05 + (10 + turns) * 0.25 + turns * 1.4
    assert [paces.case(workload, case) for case in workload.cases] == pytest.approx(
        [full, compressed, quantized, 0]
    )
    assert paces.workload(workload) == pytest.approx(2 * prompt + full + compressed + quantized)
    assert lengths_of(workload, 16384) == {
        "f16": [256, 2048],
        "q8_0": [256, 1024],
        "q4_0": [256, 1024],
    }
    assert lengths_of(workload, 200)["f16"] == [200]


def test_a_longer_prompt_that_was_faster_by_noise() -> None:
    assert Line.through([(100, 3.0), (200, 2.0)]) == Line(2.0, 0.0)
    steep = Line.through([(100, 1.0), (200, 4.0)])
    assert steep.at_none == 0.0
    assert steep(200) == pytest.approx(4.0)
