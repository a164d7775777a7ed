"""``lookm bench``: what it writes, what it leaves out, and what it refuses."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp.bench import run_worker, schedule, settings
from lookm_cpp.bench.machine import read_bandwidth
from lookm_cpp.bench.memory_check import bytes_needed, why_not
from lookm_cpp.bench.models import embedded_bench_model
from lookm_cpp.bench.process_memory import available_memory
from lookm_cpp.bench.schedule import schedule_run
from lookm_cpp.bench.settings import Settings, settings_of
from lookm_cpp.bench.workload import Case, Workload
from lookm_cpp.cli import bench as bench_command
from lookm_cpp.cli import main
from lookm_cpp.cli.bench import bench
from lookm_cpp.cli.flags import COMPRESSION, OPENING
from session.interrupts import allow_ctrl_c

Capture = pytest.CaptureFixture[str]
SMALL = [
    "--cells",
    "300",
    "--ratios",
    "0.2",
    "--caches",
    "f16",
    "--blocks",
    "2",
    "--answer",
    "3",
    "--threads",
    "1",
]
SMALL += ["--bandwidth", "10"]


def test_quick_json_and_files(capfd: Capture, tmp_path: Path) -> None:
    flags = [
        "--quick",
        "--shapes",
        "0.5b,embedded",
        *SMALL,
        "--model-dir",
        str(tmp_path / "models"),
    ]
    assert main(["bench", *flags, "--json", "-o", str(tmp_path / "run")]) == 0
    printed = capfd.readouterr()
    found = json.loads(printed.out)
    assert "embedded, 300 cells, f16 at 20 %: measured" in printed.err
    assert found == json.loads((tmp_path / "run" / "bench.json").read_text(encoding="utf-8"))
    assert set(found) == {
        *(
            "format",
            "command",
            "date",
            "seconds",
            "machine",
            "devices",
            "versions",
            "bandwidth",
            "settings",
        ),
        *("models", "left_out", "cases", "second_questions", "fewer_cells", "rows"),
    }
    assert [model["label"] for model in found["models"]] == ["0.5b, 1 of 24 layers", "embedded"]
    measured = [
        (row["model"], row["cells"], row["cache"], row["kv_ratio"]) for row in found["rows"]
    ]
    wanted = [("f16", 1.0), ("f16", 0.2), ("q8_0", 1.0), ("q4_0", 1.0)]
    assert measured == [(name, 300, *case) for name in ("0.5b", "embedded") for case in wanted]
    assert [(one["model"], one["cells"]) for one in found["second_questions"]] == [
        ("0.5b", 300),
        ("embedded", 300),
    ]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "bench.json",
        "bench.md",
        *(f"{what}-{theme}.svg" for what in ("decode", "cost") for theme in ("light", "dark")),
    }
    assert "/" not in json.dumps([model["model"] for model in found["models"]]), (
        "files by their names alone"
    )
    # a run is never written over
    assert main(["bench", *flags, "-o", str(tmp_path / "run")]) == 2
    assert "holds a run already" in capfd.readouterr().err


def test_tables_and_an_estimate(capfd: Capture, tmp_path: Path) -> None:
    assert (
        main(["bench", "-m", "embedded", *SMALL, "--cells", "300,8k", "-o", str(tmp_path / "run")])
        == 0
    )
    printed = capfd.readouterr()
    assert (
        "embedded, 8192 cells, left out: prompt and answer take 8207 cells, its context has 4096\n"
        in printed.err
    )
    assert "embedded, 8192 cells, left out" in printed.out
    assert "embedded, 300 cells: about" in printed.err
    assert "in all about" in printed.err
    for words in (
        "embedded: decode, ms a token",
        "roofline",
        "The paper's table: embedded, 300 cells",
        "28.16",
    ):
        assert words in printed.out
    assert "bench.json, bench.md, decode-light.svg" in printed.out


def test_a_model_of_ones_own(capfd: Capture, tmp_path: Path, tiny: Path) -> None:
    assert (
        main(
            [
                "bench",
                "-m",
                str(tiny),
                "--text-only",
                "--quick",
                *SMALL,
                "--json",
                "-o",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    found = json.loads(capfd.readouterr().out)
    assert found["models"][0]["model"] == tiny.name
    assert found["models"][0]["label"] == tiny.stem
    assert found["rows"][1]["kept_cells"] == 60


def test_a_process_that_dies_takes_nothing_with_it(
    capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_worker.run

    def dying(
        workload: Workload, *, calibrate: Mapping[str, Sequence[int]] | None = None
    ) -> Iterator[dict[str, object]]:
        yield next(real(workload, calibrate=calibrate))
        raise RuntimeError("the measuring process was ended by SIGKILL")

    monkeypatch.setattr(run_worker, "run", dying)
    assert (
        main(["bench", "-m", "embedded", "--quick", *SMALL, "--json", "-o", str(tmp_path / "run")])
        == 0
    )
    found = json.loads(capfd.readouterr().out)
    assert len(found["rows"]) == 1
    assert (
        found["left_out"][0]["why"]
        == "the measuring process was ended by SIGKILL after 1 of 4 cases"
    )


def test_a_run_that_is_stopped_keeps_what_it_measured(tmp_path: Path) -> None:
    flags = ["-m", "embedded", "--quick", *SMALL, "--cells", "300,600", "-o", str(tmp_path / "run")]
    command = [sys.executable, "-m", "lookm_cpp", "bench", *flags]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=allow_ctrl_c,  # noqa: PLW1509  # no thread of ours runs yet
    )
    assert process.stderr is not None
    with process.stderr as lines:
        next(line for line in lines if "measured" in line)
        os.killpg(process.pid, signal.SIGINT)
        assert lines.read().endswith("lookm: interrupted\n")
    assert process.wait() == 130
    found = json.loads((tmp_path / "run" / "bench.json").read_text(encoding="utf-8"))
    assert 0 < len(found["rows"]) < 8
    assert not list(tmp_path.glob("lookm-bench-*")), (
        "nothing is left of the models of random weights"
    )


def test_options_of_a_model_and_of_compression_reach_the_session(
    capfd: Capture, tmp_path: Path
) -> None:
    flags = ["-m", "embedded", "--quick", *SMALL, "-ngl", "0", "-b", "128", "-ub", "64"]
    flags += ["--method", "lookm_plus", "--scorer", "none", "-o", str(tmp_path / "run"), "--json"]
    assert main(["bench", *flags]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["settings"]["n_batch"], found["settings"]["n_ubatch"]) == (128, 64)
    assert (found["settings"]["scorer"], found["settings"]["gpu_layers"]) == ("none", 0)
    compressed = next(case for case in found["cases"] if case["kv_ratio"] == 0.2)
    assert compressed["stats"]["score_seconds"] == 0
    assert compressed["stats"]["kept_cells"] == 60


def test_every_option_of_a_model_and_of_compression_is_a_flag_or_is_varied_here() -> None:
    taken = set(inspect.signature(bench).parameters)
    others = {*bench_command.NOT_TAKEN, *bench_command.VARIED, *bench_command.RATIOS}
    assert {flag.option for flag in (*OPENING, *COMPRESSION)} <= taken | others
    assert not taken & others


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cells", "few"], "--cells has 'few', expected lengths of 128 to 1024k"),
        (["--cells", "64"], "--cells has '64', expected lengths"),
        (["--cells", ""], "--cells is '', expected lengths"),
        (["--ratios", "much"], "--ratios is 'much', expected numbers"),
        (["--ratios", "1,0"], "--ratios has 0.0, expected shares above 0"),
        (["--ratios", "nan"], "--ratios has nan, expected shares above 0"),
        (["--caches", "q5"], "--caches has 'q5', expected one of f32, f16"),
        (["--caches", ""], "--caches is '', expected types"),
        (["--ratios", ""], "--ratios has nothing, expected shares"),
        (["--shapes", "13b"], "--shapes has '13b', expected some of 7b, 3b, 0.5b, embedded"),
        (["--shapes", ""], "--shapes has 'nothing', expected some of"),
        (["--method", "h3o"], "h3o"),
        (["--layers", "-1"], "--layers is -1, expected at least 0"),
        (["--blocks", "0"], "--blocks is 0, expected at least 1"),
        (["--block-tokens", "0"], "--block-tokens is 0, expected at least 1"),
        (["--answer", "1"], "--answer is 1, expected at least 2"),
        (["--threads", "-1"], "--threads is -1, expected at least 0"),
        (["--n-batch", "0"], "n_batch: 0 is outside [1, 1048576]"),
        (["-ngl", "-5"], "n_gpu_layers: -5 is outside [-1, 1048576]"),
        (["--compute-bytes", "1"], "compute_bytes: 1, expected 1048576"),
        (["--scorer", "x"], 'scorer: "x" is unknown'),
        (["--visual-quota", "2"], "visual_quota: 2"),
        (["--flash-attn", "maybe"], "--flash-attn is 'maybe', expected auto, on or off"),
        (["--bandwidth", "0"], "--bandwidth is 0, expected GB/s above 0"),
        (["--minutes", "0"], "--minutes is 0, expected more than 0"),
        (["--image-size", "big"], "--image-size is 'big', expected WxH"),
        (["--mmproj", "a.gguf"], "--mmproj is 'a.gguf', expected none without a model of your own"),
        (["--text-only"], "--text-only is given without a model of your own"),
        (["-m", "embedded", "--shapes", "7b"], "--shapes is '7b', expected none beside a model"),
        (["-m", "none.gguf", "--text-only"], "--model 'none.gguf' does not exist"),
    ],
)
def test_mistakes_are_one_line(
    capfd: Capture, tmp_path: Path, flags: list[str], message: str
) -> None:
    assert main(["bench", *flags, "-o", str(tmp_path / "run")]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_without_gguf_only_models_that_exist_are_measured(
    capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert main(["bench", "--quick", "-o", str(tmp_path / "run")]) == 2
    assert "expected `pip install gguf`, --shapes embedded" in capfd.readouterr().err
    assert (
        main(["bench", "-m", "embedded", "--quick", *SMALL, "--json", "-o", str(tmp_path / "run")])
        == 0
    )
    assert json.loads(capfd.readouterr().out)["rows"][0]["token_bytes"] is None


def _settings(**given: Any) -> Settings:
    """Settings of ``lookm bench`` with these options, for h2o without an accelerator."""
    unset = ("model", "mmproj", "shapes", "layers", "cells", "ratios", "caches", "blocks")
    usual = {
        **dict.fromkeys((*unset, "bandwidth", "minutes")),
        "text_only": False,
        "answer": 32,
        "block_tokens": 4,
        "image_size": "64x48",
        "quick": True,
        "opened": {
            "n_threads": None,
            "n_gpu_layers": 0,
            "n_ubatch": 512,
            "flash_attn": "auto",
            "check_files": True,
        },
        "how": {"method": "h2o"},
    }
    return settings_of(**{**usual, **given})


def test_quick_fills_in_what_was_not_said() -> None:
    quick = _settings(layers=2)
    assert (quick.cells, quick.layers, quick.pattern.n_blocks) == (
        (1024,),
        2,
        settings.QUICK_BLOCKS,
    )
    full = _settings(cells="16k,1000,1K", quick=False)
    assert full.cells == (1000, 1024, 16384)
    assert full.names == ("7b", "3b", "0.5b", "embedded")
    assert len(full.pattern.cases) == 11
    assert Case("q4_0", 1.0) in full.pattern.cases
    assert full.pattern.image_size == (64, 48)


def test_minutes_leave_out_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(
        workload: Workload, *, calibrate: Mapping[str, Sequence[int]] | None = None
    ) -> list[dict[str, object]]:
        one = {"prompt": 0.01 * 256, "token": 0.0, "opening": 0.0, "cells": 256}
        return [{"cache": cache, **one} for cache in calibrate or ()]

    monkeypatch.setattr(run_worker, "run", timed)
    chosen = _settings(minutes=3, cells="500,1000,2000")
    run: dict[str, Any] = {"left_out": []}
    said: list[str] = []
    bench_models = [embedded_bench_model(["f16", "q8_0", "q4_0"])]
    tasks = schedule_run(
        bench_models,
        chosen.cells,
        chosen.pattern,
        run,
        said.append,
        timed=True,
        most_seconds=chosen.most_seconds,
    )
    # a cell takes 0.01 s; it is read by the full cache, by 5 cases and for a second question, and
    # two read 0.2 of it again: 7.4 times
    assert len(chosen.pattern.cases) == 5
    assert [task.seconds() for task in tasks] == pytest.approx([500 * 0.074, 1000 * 0.074])
    assert run["left_out"][0]["cells"] == 2000
    assert said[-1] == "in all about 2 minutes"


def test_what_does_not_fit(tmp_path: Path) -> None:
    bench_model = embedded_bench_model(["f16", "q8_0"])
    assert (
        bench_model.kv_bytes_per_cell["q8_0"] * 32 == bench_model.kv_bytes_per_cell["f16"] // 2 * 34
    )
    pattern = _settings().pattern
    workload, longer = (schedule._workload(bench_model, n, pattern) for n in (1024, 2048))
    needed = bytes_needed(bench_model, workload)
    kv = bench_model.kv_bytes_per_cell["f16"] * 1024
    assert bytes_needed(bench_model, longer) - needed > 4 * kv, (
        "the full cache, its copy, ours and what beside it"
    )
    assert why_not(bench_model, workload, needed) is None
    assert why_not(bench_model, workload, None) is None
    assert "are free" in (why_not(bench_model, workload, needed - 1) or "")
    assert "its context has 4096" in (
        why_not(bench_model, schedule._workload(bench_model, 4096, pattern), None) or ""
    )


# A process of its own: here, memory of tests before this one may be freed meanwhile
PEAK = """
from lookm_cpp.bench.process_memory import PeakMemory, status_bytes

with PeakMemory() as memory:
    before = status_bytes("VmRSS")
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    del block
if memory.peak is not None:
    print(memory.peak - before)
"""


def test_memory_of_a_process() -> None:
    said = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    if said.stdout:  # the kernel says its peak
        assert 60 << 20 < int(said.stdout) < 80 << 20
        assert (available_memory() or 0) > 0


def test_bandwidth_is_bytes_a_second() -> None:
    assert 1e8 < read_bandwidth(1, 64 << 20, rounds=2) < 1e12
