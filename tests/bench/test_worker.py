"""What a worker measures: cells, bytes and depths are those of arithmetic."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lookm_cpp import arrays
from lookm_cpp.bench import run_worker
from lookm_cpp.bench.contenders import FullCache, answer, fewer_cells, second_question
from lookm_cpp.bench.model_shapes import Shape
from lookm_cpp.bench.random_model import model_file
from lookm_cpp.bench.worker import calibrate, measure
from lookm_cpp.bench.workload import Case, Workload, cases_of
from lookm_cpp.embedded import MMPROJ, MODEL

MakeWorkload = Callable[..., Workload]
NARROW = Shape("narrow", "nothing", 64, 64, 4, 4, 1, 512, 1)
"""Its heads of 16 values do not divide into the blocks of a quantized cache."""
PER_CELL = {"f16": 2 * 2 * 64 * 2, "q8_0": 2 * 2 * 64 // 32 * 34, "q4_0": 2 * 2 * 64 // 32 * 18}
"""Two layers, K and V, two heads of 32 values: 32 values take 34 bytes in q8_0 and 18 in q4_0."""


def _measured(workload: Workload) -> list[dict[str, Any]]:
    """The records of cases, after which comes one of two questions."""
    found: list[dict[str, Any]] = []
    measure(workload, found.append)
    records: list[dict[str, Any]] = json.loads(json.dumps(found))
    assert [*records.pop()] == ["second_question"]
    return records


def test_a_second_question_reads_the_question_alone(make_workload: MakeWorkload) -> None:
    workload = make_workload()
    with FullCache(workload, "f16", 304) as full:
        found = second_question(workload, full)
    assert 300 < found["prompt_cells"] < 305  # with a question mark more
    # all but the question, 4 % of the cells, and what begins a prompt
    assert 0.94 * 300 < found["reused_cells"] < 300
    assert found["prefix_bytes"] == pytest.approx(found["reused_cells"] * PER_CELL["f16"], rel=0.1)
    assert found["second_seconds"] < found["first_seconds"]


def test_fewer_cells_of_each_image(make_workload: MakeWorkload) -> None:
    """Of 4 images of 64 cells, a quarter is read, and a fifth of what was read is kept."""
    pruning = {"image_ratio": 0.25, "image_cells": None, "pruner": "grid"}
    workload = make_workload(model=str(MODEL), mmproj=str(MMPROJ), pruning=pruning)
    with FullCache(workload, "f16", 304) as full:
        found = fewer_cells(workload, full)
    whole, pruned = found["whole"], found["pruned"]
    assert whole["prompt_cells"] - pruned["prompt_cells"] == 4 * (64 - 16)
    assert whole["kept_cells"] == 2 * int(0.1 * whole["prompt_cells"])
    assert pruned["kept_cells"] == 2 * int(0.1 * pruned["prompt_cells"])
    assert whole["kv_bytes"] / whole["kept_cells"] == pruned["kv_bytes"] / pruned["kept_cells"]
    assert 0 < pruned["seconds"] < whole["seconds"]
    assert pruned["encode_seconds"] > 0
    assert workload.prunes
    assert not make_workload(pruning=pruning).prunes, "there are no images"


def test_records_have_the_cells_and_bytes_of_arithmetic(make_workload: MakeWorkload) -> None:
    workload = make_workload()
    records = _measured(workload)
    assert [(r["cache"], r["kv_ratio"]) for r in records] == [
        ("f16", 1.0),
        ("f16", 0.2),
        ("q8_0", 0.2),
        ("q8_0", 1.0),
        ("q4_0", 1.0),
    ]
    for record in records:
        stats, compressed = record["stats"], record["kv_ratio"] < 1
        kept = 60 if compressed else 300
        assert (stats["prompt_cells"], stats["kept_cells"]) == (300, kept)
        assert stats["text_cells"] <= 12 + 1, (
            "the question and what begins a prompt: far below the budget of 60"
        )
        assert stats["kv_bytes_used_after"] == kept * PER_CELL[record["cache"]]
        in_steps = {60: 256, 300: 512}
        assert stats["kv_bytes_allocated_before"] == 512 * PER_CELL[record["cache"]]
        assert stats["kv_bytes_allocated_after"] == in_steps[kept] * PER_CELL[record["cache"]]
        # the answer's last token is chosen, not decoded yet
        assert record["depth"] == kept + 4
        assert record["native_depth"] == (kept + 4 if compressed else None)
        assert record["full_depth"] == 304
        sides = {"ours", "full", "native"} if compressed else {"ours", "full"}
        assert {
            name: len(blocks) for name, blocks in record["seconds_per_token"].items()
        } == dict.fromkeys(sides, 3)
        assert 0 < record["first_token_seconds"] < record["end_to_end_seconds"] < record["seconds"]
        assert stats["prefill_seconds"] < record["first_token_seconds"]
        assert stats["decode_tokens"] == 4
        assert (stats["score_seconds"] > 0) == (stats["compress_seconds"] > 0) == compressed
        rss = record["rss"]
        if rss["peak"] is not None:
            assert rss["before"] < rss["peak"] >= rss["final"]


def test_a_cache_kept_in_another_type_is_compared_with_that_type(
    make_workload: MakeWorkload,
) -> None:
    cases = (Case("f16:q4_0", 1.0), Case("f16:q4_0", 0.2))
    for record in _measured(make_workload(cases=cases)):
        stats = record["stats"]
        assert stats["kv_bytes_used_before"] == 300 * PER_CELL["f16"]
        assert stats["kv_bytes_used_after"] == stats["kept_cells"] * PER_CELL["q4_0"]
        assert record["native_depth"] == record["depth"] == stats["kept_cells"] + 4
        assert set(record["seconds_per_token"]) == {"ours", "native", "full"}


def test_images_are_encoded_and_flash_attention_is_off_if_requested() -> None:
    workload = Workload(
        str(MODEL),
        str(MMPROJ),
        400,
        (Case("f16", 0.2),),
        4,
        2,
        1,
        {"n_threads": 1, "n_gpu_layers": 0, "flash_attn": False},
        {"method": "h2o"},
        image_size=(96, 96),
    )
    (record,) = _measured(workload)
    assert record["flash_attn"] == "off"
    assert record["stats"]["encode_images"] == 5
    assert record["stats"]["kept_cells"] == 80
    assert record["stats"]["method"] == "h2o"


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the kernel does not count a process's peak"
)
def test_weights_in_common_count_as_ones_own(tmp_path: Path, make_workload: MakeWorkload) -> None:
    """Both ways to open a model need the same memory, with 30 MiB of weights in it."""
    model = model_file(tmp_path, Shape("wide", "nothing", 1024, 4096, 8, 8, 4, 512, 4))
    workload = make_workload(model=str(model))
    contender, alone = answer(workload, Case("f16", 1.0), workload.cells)
    contender.session.close()
    with FullCache(workload, "f16", workload.cells) as full:
        contender, beside = answer(workload, Case("f16", 1.0), workload.cells, full)
        contender.session.close()
        assert full.weight_bytes > 0.9 * model.stat().st_size > 25 * 2**20
    if alone.rss["peak"] is None:
        pytest.skip("this kernel does not start a new peak")
    grown = [found.rss["peak"] - found.rss["before"] for found in (alone, beside)]  # type: ignore[operator]
    assert grown[1] == pytest.approx(grown[0], rel=0.2)


def test_a_case_that_fails_leaves_the_others(tmp_path: Path, make_workload: MakeWorkload) -> None:
    workload = make_workload(
        model=str(model_file(tmp_path, NARROW)), cells=128, cases=cases_of(["q8_0"], [0.5])
    )
    records = _measured(workload)
    assert ["error" in record for record in records] == [False, True, True, True]
    assert records[-1]["cache"] == "q4_0"
    assert records[-1]["error"]


def test_calibration_times_each_cache_type_that_the_model_can_have(
    tmp_path: Path, make_workload: MakeWorkload
) -> None:
    found: list[dict[str, Any]] = []
    calibrate(make_workload(), {"f16": [64, 256], "q8_0": [64]}, found.append)
    assert [(one["cache"], one["cells"]) for one in found] == [
        ("f16", 64),
        ("f16", 256),
        ("q8_0", 64),
    ]
    assert all(one[name] > 0 for one in found for name in ("prompt", "token", "opening"))
    narrow = make_workload(model=str(model_file(tmp_path, NARROW)))
    calibrate(narrow, {"q8_0": [64], "f16": [64]}, found.append)
    assert [one["cache"] for one in found[3:]] == ["f16"]


def test_a_workload_runs_in_a_process_of_its_own(make_workload: MakeWorkload) -> None:
    record, _ = run_worker.run(make_workload(cells=128, cases=(Case("f16", 0.5),)))
    assert record["stats"]["kept_cells"] == 64
    with pytest.raises(RuntimeError, match="no-such-file"):
        list(run_worker.run(make_workload(model="no-such-file.gguf")))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "ended by SIGKILL, which is how the system ends",
        ),
        ("import os; os.abort()", "ended by SIGABRT"),
        ("raise SystemExit('out of luck')", "ended with 1: out of luck"),
    ],
)
def test_a_process_that_dies_says_how(
    make_workload: MakeWorkload, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    monkeypatch.setattr(
        run_worker, "_COMMAND", (sys.executable, "-c", f"import sys; sys.stdin.read(); {program}")
    )
    with pytest.raises(RuntimeError, match=message):
        list(run_worker.run(make_workload()))


def test_kept_cells_of_every_ratio_fit_the_budget() -> None:
    """The text share leaves room even at 5 %: the ratio is met, as in the tables."""
    for n in (1024, 4096, 16384):
        n_text = round(0.04 * n) + 2
        is_text = np.arange(n) >= n - n_text
        scores = np.ones((1, n), np.float32)
        kept = arrays.select(scores, is_text, important_ratio=0.025, recent_ratio=0.025)
        assert kept.shape[1] == pytest.approx(0.05 * n, abs=2)
