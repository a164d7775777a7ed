"""``lookm eval milebench`` on a small set in exactly MileBench's layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import Llava
from lookm_cpp.cli import main
from lookm_cpp.embedded import DEMO
from PIL import Image

Capture = pytest.CaptureFixture[str]

FLAGS = [
    "-m",
    "embedded",
    "--methods",
    "origin,h2o,snapkv,text_prior_pivot_merge",
    "--ratios",
    "1.0,0.3",
]
OWL, UMBRELLA, LADYBUG = "pic08.png", "pic03.png", "pic12.png"


def _entry(
    number: int, context: str, images: list[str], response: str, **instance: Any
) -> dict[str, Any]:
    return {
        "sample_id": number,
        "task_instruction_id": number % 2,
        "task_instance": {
            "context": context,
            "images_path": images,
            "combined_1_images": ["all.png"],
            **instance,
        },
        "response": response,
        "image_quantity_level": "Few" if len(images) < 3 else "Medium",
    }


def _write(
    root: Path, name: str, question_type: str, entries: list[dict[str, Any]], suffix: str = ""
) -> None:
    for folder in ("images", "combined_1_images"):
        (root / name / folder).mkdir(parents=True, exist_ok=True)
    for picture in (OWL, UMBRELLA, LADYBUG):
        shutil.copy(DEMO / picture, root / name / "images")
    joined = Image.new("RGB", (128, 64))
    for i, picture in enumerate((OWL, UMBRELLA)):
        joined.paste(Image.open(DEMO / picture).convert("RGB"), (64 * i, 0))
    joined.save(root / name / "combined_1_images" / "all.png")
    meta = {
        "dataset": name,
        "split": "test",
        "num_sample": len(entries),
        "task_instruction": ["Look at the pictures.", "Images and a question."],
        "question_type": question_type,
    }
    (root / name / f"{name}{suffix}.json").write_text(
        json.dumps({"meta_data": meta, "data": entries})
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("MileBench")
    asked = " Image 1:{image#1} Image 2:{image#2} What is in image 2?"
    choices = ["an owl", "an umbrella", "a ladybug"]
    entries = [
        _entry(7, asked, [UMBRELLA, OWL], "an owl", choice_list=choices),
        _entry(8, asked, [OWL, UMBRELLA], "an umbrella", choice_list=choices),
    ]
    _write(root, "WikiVQA", "multi-choice", entries)
    _write(root, "WikiVQA", "multi-choice", [entries[1]], "-adv")
    three = " Image 1:{image#1} Image 2:{image#2} Image 3:{table#3} What is in image 3?"
    _write(
        root,
        "IEdit",
        "open-ended",
        [_entry(1, three, [OWL, UMBRELLA, LADYBUG], "Image 3 shows a ladybug.")],
    )
    _write(root, "TextNeedleInAHaystack", "open-ended", [_entry(3, asked, [UMBRELLA, OWL], "owl")])
    _write(root, "MMCoQA", "open-ended", [_entry(4, asked, [UMBRELLA, OWL], "shows an owl")])
    return root


def _run(capfd: Capture, root: Path, *flags: str) -> list[dict[str, Any]]:
    assert main(["eval", "milebench", "--data", str(root), *FLAGS, "--json", *flags]) == 0
    rows = json.loads(capfd.readouterr().out)["rows"]
    assert isinstance(rows, list)
    return rows


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def test_every_kind_of_question(root: Path, tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "answers.jsonl"
    rows = _run(capfd, root, "-o", str(path))
    assert [(row["method"], row["ratio"]) for row in rows] == [
        ("full cache", None),
        ("h2o", 0.3),
        ("snapkv", 0.3),
        ("text_prior_pivot_merge", 0.3),
    ]
    names = {"WikiVQA", "IEdit", "TextNeedleInAHaystack", "MMCoQA"}
    assert all(set(row["datasets"]) == names for row in rows)
    assert set(rows[0]["tasks"]) == {"N-1"}, "a task counts when all its data sets are there"
    assert rows[0]["kept_share"] == 1
    assert all(row["kept_share"] == pytest.approx(0.3, abs=0.01) for row in rows[1:3])
    assert set(rows[0]["levels"]["IEdit"]) == {"Medium"}
    records = _records(path)
    assert len(records) == 4 * 5
    with Llava.embedded() as llm:
        for record in records:
            fresh = llm.ask(
                record["question"], record["image"], max_tokens=512,
                kv_ratio=record["gen_kwargs"].get("kv_ratio", 1.0),
                method=record["gen_kwargs"].get("method"),
            )  # fmt: skip
            assert record["pred_response"] == fresh
    # the metrics by hand: the needle as a word, the rest of the answer's words as they come
    full = {record["dataset"]: record for record in records if record["arm"] == "full cache/f16/-"}
    needle = full["TextNeedleInAHaystack"]
    assert (
        needle["question"]
        == "Images and a question.\n Image 1:<image> Image 2:<image> What is in image 2?"
    )
    assert needle["score"] == float("owl" in needle["pred_response"].lower().rstrip(".").split())
    assert full["MMCoQA"]["score"] == float(
        "shows an owl" in full["MMCoQA"]["pred_response"].lower()
    )
    assert full["WikiVQA"]["question"].endswith(
        "\nChoice list: \nA. an owl\nB. an umbrella\nC. a ladybug\nYour answer is: "
    )


def test_an_interrupted_run_goes_on_where_it_ended(
    root: Path, tmp_path: Path, capfd: Capture
) -> None:
    path = tmp_path / "answers.jsonl"
    whole = _run(capfd, root, "-o", str(path))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:9]) + lines[9][:30], encoding="utf-8")
    again = _run(capfd, root, "-o", str(path))
    assert again == whole
    key = "dataset", "arm", "sample_id"
    kept = [tuple(record[name] for name in key) for record in _records(path)]
    assert len(kept) == len(set(kept)) == len(lines) - 1
    assert (
        main(
            ["eval", "milebench", "--data", str(root), *FLAGS, "--max-tokens", "9", "-o", str(path)]
        )
        == 2
    )
    assert "belongs to another run" in capfd.readouterr().err
    # the keys of records do not say what became of text
    flags = ["--text-overflow", "evict", "-o", str(path)]
    assert main(["eval", "milebench", "--data", str(root), *FLAGS, *flags]) == 2
    assert "belongs to another run" in capfd.readouterr().err


def test_adversarial_and_combined_samples_are_found(
    root: Path, tmp_path: Path, capfd: Capture
) -> None:
    adversarial, combined = tmp_path / "adversarial.jsonl", tmp_path / "combined.jsonl"
    flags = ["--datasets", "WikiVQA", "--methods", "origin"]
    _run(capfd, root, *flags, "--adversarial", "-o", str(adversarial))
    assert [record["sample_id"] for record in _records(adversarial)] == [8]
    _run(capfd, root, *flags, "--combined", "1", "-o", str(combined))
    first = _records(combined)[0]
    assert first["question"].startswith(
        "<image>\nImages and a question.\n Image 1:<Image 1>  Image 2:<Image 2>  What"
    )
    assert [Path(image).parts[-2:] for image in first["image"]] == [
        ("combined_1_images", "all.png")
    ]


def test_long_contexts_lose_their_beginning(root: Path, tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "cut.jsonl"
    room = ["--max-context", "120", "--limit", "1"]
    _run(capfd, root, "--datasets", "IEdit", "--methods", "origin", *room, "-o", str(path))
    (record,) = _records(path)
    assert record["question"] == "Images and a question.\n Image 3:<image> What is in image 3?"
    assert [Path(image).name for image in record["image"]] == [LADYBUG]


def test_the_table_names_the_cache_type_and_the_bytes(root: Path, capfd: Capture) -> None:
    flags = ["--datasets", "MMCoQA", "--methods", "origin", "--caches", "f16,q8_0"]
    assert main(["eval", "milebench", "--data", str(root), "-m", "embedded", *flags]) == 0
    out = capfd.readouterr().out
    assert "full cache, q8_0" in out
    assert "100.0%" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--datasets", "TQA"], "--data: "),
        (["--ratios", "0"], "--ratios has 0, expected fractions in (0, 1]"),
        (["--methods", "h3o"], "--methods has 'h3o', expected some of origin"),
        (["--max-context", "-1"], "--max-context is -1, expected at least 0"),
        (["--combined", "0"], "--combined is 0, expected at least 1"),
        (["--combined", "1", "--adversarial"], "--adversarial is given with --combined"),
        (["--max-tokens", "5000"], "--max-tokens is 5000, expected less than n_ctx 4096"),
        (["--combined", "7"], "--data: "),
    ],
)
def test_mistakes_are_one_line(root: Path, capfd: Capture, flags: list[str], message: str) -> None:
    assert main(["eval", "milebench", "--data", str(root), "-m", "embedded", *flags]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"lookm: {message}")
    assert err.count("\n") == 1


def test_an_empty_data_set_is_named(tmp_path: Path, capfd: Capture) -> None:
    _write(tmp_path, "DocVQA", "open-ended", [])
    assert main(["eval", "milebench", "--data", str(tmp_path), "-m", "embedded"]) == 2
    assert "DocVQA.json' has no samples, expected at least one" in capfd.readouterr().err


def test_a_prompt_that_does_not_fit_is_named(root: Path, capfd: Capture) -> None:
    flags = ["--datasets", "IEdit", "--n-ctx", "256", "--max-context", "4000"]
    long = _entry(5, " Image 1:{image#1}" + " What is in image 1?" * 100, [OWL], "x")
    _write(root.parent / "long", "IEdit", "open-ended", [long])
    assert (
        main(["eval", "milebench", "--data", str(root.parent / "long"), "-m", "embedded", *flags])
        == 2
    )
    assert capfd.readouterr().err.startswith("lookm: IEdit, sample 5: prompt: ")
