"""``lookm eval own``: a user's prompts, bad lines of them, and a run that goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import Llava
from lookm_cpp.cli import main
from lookm_cpp.cli.eval_options import make_setup
from lookm_cpp.compression import Compression
from lookm_cpp.embedded import DEMO
from lookm_cpp.evaluation.arms import ratio_arms
from lookm_cpp.evaluation.own import OwnRun, rows_of, with_full_cache
from lookm_cpp.evaluation.own_prompts import OwnPrompt, read_prompts
from session.tiny_models import write_llama

Capture = pytest.CaptureFixture[str]
OWL, UMBRELLA = "pic08.png", "pic03.png"
BOTH = "Image 1:<image> Image 2:<image>"
LINES: list[dict[str, Any]] = [
    {"prompt": f"{BOTH} What is in image 2?", "images": [UMBRELLA, OWL], "answer": "AN owl"},
    {"prompt": f"{BOTH} What is in image 2?", "images": [OWL, UMBRELLA], "answer": "an owl"},
    {"prompt": f"{BOTH} Describe all images.", "images": [OWL, UMBRELLA]},
    {"prompt": "What is the code of Anna?", "contexts": ["The code of Anna is 4821."]},
]
FLAGS = ["-m", "embedded", "--methods", "h2o,snapkv,origin", "--ratios", "0.3,0.1,1"]
ARMS = ["full cache/f16/-", *(f"{name}/f16/{r}" for name in ("h2o", "snapkv") for r in (0.3, 0.1))]


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    """The lines, with an empty one after the first, in a folder that has the pictures."""
    for picture in (OWL, UMBRELLA):
        shutil.copy(DEMO / picture, folder)
    texts = [json.dumps(line) for line in lines]
    file = folder / "prompts.jsonl"
    file.write_text("\n".join([texts[0], "", *texts[1:]]) + "\n", encoding="utf-8-sig")
    return file


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write(tmp_path, LINES)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def test_prompts_as_they_are_written(prompts: Path) -> None:
    found = read_prompts(prompts)
    assert [prompt.line for prompt in found] == [1, 3, 4, 5]
    assert found[0].images == (prompts.parent / UMBRELLA, prompts.parent / OWL)
    assert found[0].place == "prompts.jsonl, line 1"
    assert found[3] == OwnPrompt(
        "prompts.jsonl, line 5", 5, LINES[3]["prompt"], contexts=("The code of Anna is 4821.",)
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "is 'nonsense', expected JSON such as "),
        ("[" * 100_000, "expected JSON such as "),
        ("[1]", "is [1], expected an object such as "),
        ("{}", "has no prompt, expected a text"),
        ('{"prompt": 5}', "prompt is 5, expected a text"),
        ('{"prompt": ""}', "prompt is '', expected a text"),
        ('{"prompt": "\\ud800"}', "prompt '\\ud800' is not UTF-8, expected UTF-8 text"),
        ('{"prompt": "x", "image": "y"}', "has the key 'image', expected only prompt, images, "),
        ('{"prompt": "x", "images": "y"}', "images is 'y', expected a list of texts"),
        ('{"prompt": "x", "images": [3]}', "images[0] is 3, expected a text"),
        ('{"prompt": "x", "images": ["no.png"]}', "images[0] 'no.png' does not exist, expected an"),
        ('{"prompt": "x", "images": ["."]}', "images[0] '.' is a directory, expected an image"),
        ('{"prompt": "x", "images": ["a\\u0000"]}', "images[0] 'a\\x00' is not a file name, "),
        ('{"prompt": "<image>"}', "prompt has 1 <image> for 0 images, expected one each"),
        ('{"prompt": "x", "contexts": ["y", ""]}', "contexts[1] is '', expected a text"),
        ('{"prompt": "x", "answer": 4821}', "answer is 4821, expected a text"),
        ('{"prompt": "x", "answer": " "}', "answer is ' ', expected a text or no such key"),
    ],
    ids=lambda text: text[:40],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str, capfd: Capture) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(f'{{"prompt": "fine"}}\n{line}\n', encoding="utf-8")
    assert main(["eval", "own", str(file), *FLAGS]) == 2
    err = capfd.readouterr().err
    assert err.startswith("lookm: prompts.jsonl, line 2")
    assert message in err
    assert err.count("\n") == 1


def test_what_only_the_model_can_refuse_is_named_as_well(tmp_path: Path, capfd: Capture) -> None:
    file = tmp_path / "prompts.jsonl"
    for line, message in (
        ({"prompt": "x", "images": ["prompts.jsonl"]}, "is not a readable image"),
        ({"prompt": "x y " * 9000}, "do not fit into n_ctx"),
    ):
        file.write_text(f'{{"prompt": "fine"}}\n{json.dumps(line)}\n')
        assert main(["eval", "own", str(file), *FLAGS]) == 2
        err = capfd.readouterr().err.splitlines()[-1]
        assert err.startswith("lookm: prompts.jsonl, line 2: ")
        assert message in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-tokens", "0"], "--max-tokens is 0, expected at least 1"),
        (["--ratios", "2"], "--ratios has 2, expected fractions in (0, 1]"),
        (["--methods", "best"], "--methods has 'best', expected some of "),
        (["--mmproj", "x"], "--mmproj is 'x', expected none"),
    ],
)
def test_bad_options(prompts: Path, flags: list[str], message: str, capfd: Capture) -> None:
    assert main(["eval", "own", str(prompts), *FLAGS, *flags]) == 2
    assert message in capfd.readouterr().err


def test_no_file_and_no_prompts(tmp_path: Path, capfd: Capture) -> None:
    assert main(["eval", "own", str(tmp_path / "no.jsonl"), *FLAGS]) == 2
    assert "no.jsonl' does not exist, expected a text file" in capfd.readouterr().err
    (tmp_path / "empty.jsonl").write_text("\n \n")
    assert main(["eval", "own", str(tmp_path / "empty.jsonl"), *FLAGS]) == 2
    assert 'has no prompts, expected lines of {"prompt": ...}' in capfd.readouterr().err


def test_answers_are_the_librarys_and_rows_their_means(
    prompts: Path, tmp_path: Path, capfd: Capture
) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["eval", "own", str(prompts), *FLAGS, "--json", "-o", str(out)]) == 0
    rows = json.loads(capfd.readouterr().out)["rows"]
    found = records(out)
    assert {record["arm"] for record in found} == set(ARMS)
    with Llava.embedded() as llm:
        for prompt in read_prompts(prompts):
            mine = {record["arm"]: record for record in found if record["line"] == prompt.line}
            asked = (prompt.prompt, [str(image) for image in prompt.images])
            more: Any = {"context": list(prompt.contexts), "max_tokens": 64}
            full = llm.ask(*asked, **more)
            assert mine["full cache/f16/-"]["answer"] == full
            for name in ("h2o", "snapkv"):
                record = mine[f"{name}/f16/0.1"]
                other = llm.compare(*asked, **more, kv_ratio=0.1, method=name)
                assert record["answer"] == other.compressed.answer
                assert record["same_answer"] == (other.compressed.answer == full)
                assert record["kept_cells"] == other.compressed.stats.kept_cells
                assert other.fidelity is not None
                # an answer that is cut off is read to its end here
                if other.full.finish_reason == "stop":
                    same = record["fidelity"]
                    assert same["n_tokens"] == other.fidelity.n_tokens
                    assert same["top1_agreement"] == other.fidelity.top1_agreement
                    assert same["kl_divergence"] == pytest.approx(
                        other.fidelity.kl_divergence, abs=1e-3
                    )
    assert [f"{row['method']}/f16/{row['ratio'] or '-'}" for row in rows] == ARMS
    for row, arm in zip(rows, ARMS, strict=True):
        mine_ = [record for record in found if record["arm"] == arm]
        far = [record["fidelity"]["kl_divergence"] for record in mine_]
        assert row["kl_divergence"]["mean"] == pytest.approx(sum(far) / 4)
        assert min(far) <= row["kl_divergence"]["low"] <= row["kl_divergence"]["mean"]
        assert row["top1_agreement"] == pytest.approx(
            sum(record["fidelity"]["top1_agreement"] for record in mine_) / 4
        )
        assert row["same_answer"] == sum(record["same_answer"] for record in mine_) / 4
        assert (row["prompts"], row["measured"], row["with_answer"]) == (4, 4, 2)
    assert rows[0]["kl_divergence"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert (rows[0]["top1_agreement"], rows[0]["same_answer"]) == (1.0, 1.0)
    assert rows[0]["right"] == 0.5, "the second right answer is wrong on purpose"


def test_a_run_that_was_stopped_goes_on(prompts: Path, tmp_path: Path, capfd: Capture) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    command = ["eval", "own", str(prompts), *FLAGS]
    assert main([*command, "-o", str(whole)]) == 0
    table = capfd.readouterr().out
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    cut.write_text("".join(lines[:8]) + lines[8][:20], encoding="utf-8")
    assert main([*command, "-o", str(cut)]) == 0
    assert capfd.readouterr().out == table
    assert cut.read_text(encoding="utf-8") == whole.read_text(encoding="utf-8")
    prompts.write_text(prompts.read_text(encoding="utf-8-sig").replace("AN owl", "a cat"))
    assert main([*command, "-o", str(cut)]) == 2
    assert "belongs to another run" in capfd.readouterr().err


def test_text_alone_needs_no_projector(tmp_path: Path, capfd: Capture) -> None:
    """Eight prompts have intervals; no prompt has a right answer."""
    model = str(write_llama(tmp_path / "model.gguf", n_ctx=1024))
    file = tmp_path / "prompts.jsonl"
    contexts = [f"Number {i} is {i * i}. " * 8 for i in range(8)]
    file.write_text(
        "\n".join(json.dumps({"prompt": "Which?", "contexts": [text]}) for text in contexts)
    )
    flags = ["-m", model, "--threads", "1", "--methods", "h2o", "--ratios", "0.2"]
    assert main(["eval", "own", str(file), *flags, "--max-tokens", "8"]) == 0
    out = capfd.readouterr().out
    assert "right" not in out
    assert "Right" not in out
    assert " to " in next(line for line in out.splitlines() if "h2o" in line)
    assert "8 prompts. KL divergence from the full cache in nats (its 95 % interval" in out


def test_answers_that_are_empty_cannot_be_read_along(prompts: Path) -> None:
    arms = with_full_cache(ratio_arms(["h2o"], [0.5], ["f16"]))
    run = OwnRun(make_setup("embedded"), arms, read_prompts(prompts)[:2], 8)

    def record(line: int, arm: str, fidelity: dict[str, Any] | None) -> dict[str, Any]:
        cells = {"prompt_cells": 10, "kept_cells": 5, "kv_bytes": 100 * line}
        said = {"answer": "", "same_answer": line == 1, "right": None, "fidelity": fidelity}
        return {"line": line, "arm": arm, **said, **cells}

    measured = {"n_tokens": 4, "kl_divergence": 0.25, "top1_agreement": 0.75}
    full, h2o = rows_of(
        run,
        [
            record(1, arms[0].key, None),
            record(3, arms[0].key, None),
            record(1, arms[1].key, None),
            record(3, arms[1].key, measured),
        ],
    )
    assert (full.measured, full.kl_divergence, full.top1_agreement) == (0, None, None)
    assert (full.right, full.with_answer) == (None, 0)
    assert h2o.kl_divergence is not None
    assert (h2o.measured, h2o.kl_divergence.mean, h2o.top1_agreement) == (1, 0.25, 0.75)
    assert (h2o.prompts, h2o.same_answer, h2o.kept_share, h2o.kv_bytes) == (2, 0.5, 0.5, 200)


def test_one_full_cache_is_compared_with() -> None:
    arms = with_full_cache(ratio_arms(["h2o", "origin"], [0.5, 1.0], ["f16"]))
    assert [arm.key for arm in arms] == ["full cache/f16/-", "h2o/f16/0.5"]
    assert arms[0].compression == Compression()
