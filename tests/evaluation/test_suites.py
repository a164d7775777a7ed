"""``lookm eval documents``, ``code``, ``long``, ``pictures`` and ``conversations``."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import Llava
from lookm_cpp.cli import main
from lookm_cpp.evaluation import (
    code_prompts,
    document_prompts,
    documents,
    large_prompts,
    long_prompts,
)
from lookm_cpp.evaluation.conversation_prompts import make_conversation
from lookm_cpp.evaluation.documents import Fact, make_document
from lookm_cpp.evaluation.pictures import ARCHIVE, load_pictures
from PIL import Image
from session.tiny_models import write_llama

Capture = pytest.CaptureFixture[str]
NAMES = {"full cache", "text cells only", "lookm_plus", "random", "streaming_llm"}
FLAGS = ("-t", "1", "--methods", "lookm_plus", "--ratios", "0.2", "--json")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model that reads bytes."""
    return str(write_llama(tmp_path_factory.mktemp("model") / "model.gguf", n_ctx=8192))


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts that a model that reads bytes gets through in time."""

    for prompts, words in ((document_prompts, 300), (long_prompts, 400)):

        def short(
            rng: random.Random, _: int, *, words: int = words, **how: bool
        ) -> tuple[str, list[Fact]]:
            return make_document(rng, words, **how)

        monkeypatch.setattr(prompts, "make_document", short)
    monkeypatch.setattr(documents, "N_FILLERS", 0)
    monkeypatch.setattr(code_prompts, "N_FUNCTIONS", 2)
    monkeypatch.setattr(code_prompts, "N_ROWS", 3)


def _rows(capfd: Capture, *command: str) -> list[dict[str, Any]]:
    assert main(["eval", *command]) == 0
    found: list[dict[str, Any]] = json.loads(capfd.readouterr().out)["rows"]
    return found


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize(
    ("suite", "place", "tasks"),
    [
        ("documents", "before", document_prompts.TASKS),
        ("code", "both", code_prompts.TASKS),
        ("long", "before", long_prompts.TASKS),
    ],
)
def test_any_text_model_is_judged(
    suite: str, place: str, tasks: Sequence[str], model: str, capfd: Capture, tmp_path: Path
) -> None:
    """A random model finds nothing, at equal cells all the same."""
    output = tmp_path / "a.jsonl"
    command = [suite, "-m", model, *FLAGS, "--place", place, "-c", "8192", "-o", str(output)]
    rows = _rows(capfd, *command, "--contexts", "2", "--split", "second")
    assert {row["name"] for row in rows} == NAMES
    assert {row["place"] for row in rows} == ({"after", "before"} if place == "both" else {place})
    assert {tuple(row["tasks"]) for row in rows} == {tuple(tasks)}
    assert {(row["contexts"], row["prompts"]) for row in rows} == {(1, len(tasks))}
    compressed = [row for row in rows if row["budget"] is not None]
    assert all(row["kept_share"] == pytest.approx(0.2, abs=0.01) for row in compressed)
    _, *lines = output.read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["context"] for line in lines} == {1}


def test_passkeys_of_given_lengths(model: str, capfd: Capture) -> None:
    command = ["passkey", "-m", model, *FLAGS, "--cells", "300,600", "--place", "before"]
    rows = _rows(capfd, *command, "--trials", "1", "-c", "2048")
    assert {tuple(row["tasks"]) for row in rows} == {("300_cells", "600_cells")}
    full = next(row for row in rows if row["name"] == "full cache")
    assert full["kept_share"] == 1
    assert main(["eval", *command, "--filler", "3"]) == 2
    assert capfd.readouterr().err == "lookm: --filler is 3 next to --cells, expected one of them\n"
    assert main(["eval", "passkey", "--cells", "300"]) == 2
    assert "--cells is 300, expected none for the embedded model" in capfd.readouterr().err
    assert main(["eval", "passkey", "-m", model, "--cells", "many"]) == 2
    assert "--cells is 'many', expected positive whole numbers" in capfd.readouterr().err


def test_pictures_are_asked_about(capfd: Capture, tmp_path: Path) -> None:
    """Halves of one file are reported apart, and another archive is another run."""
    output = str(tmp_path / "a.jsonl")
    command = ["pictures", "-m", "embedded", *FLAGS, "--place", "before", "--contexts", "2"]
    first = _rows(capfd, *command, "-o", output, "--split", "first")
    both = _rows(capfd, *command, "-o", output)
    assert {row["name"] for row in first} == NAMES
    assert {row["contexts"] for row in first} == {1}
    assert {row["contexts"] for row in both} == {2}
    assert set(both[0]["tasks"]) >= {"needle", "detail", "retrieval", "text_needle"}
    (tmp_path / "copy.zip").write_bytes(ARCHIVE.read_bytes())
    assert main(["eval", *command, "-o", output, "--pictures", str(tmp_path / "copy.zip")]) == 2
    assert "belongs to another run" in capfd.readouterr().err
    assert main(["eval", *command, "--pictures", __file__]) == 2
    assert "is not an archive of pictures" in capfd.readouterr().err


def test_large_pictures_have_questions_of_their_own(capfd: Capture, tmp_path: Path) -> None:
    """An archive without single things is asked about in other words, and not talked about."""
    things = [name for picture in load_pictures() for name in picture.names]
    things = sorted({name for name in things if len(name) > 3})
    entries = []
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as archive:
        for number in range(8):
            image = io.BytesIO()
            Image.new("RGB", (128, 128), (30 * number, 0, 0)).save(image, "PNG")
            archive.writestr(f"{number}.png", image.getvalue())
            names = (things[3 * number : 3 * number + 3] * 6)[:16]
            entry = {"file": f"{number}.png", "kind": "grid", "names": names, "questions": []}
            entries.append(entry)
        archive.writestr("pictures.json", json.dumps(entries))
    command = ["-m", "embedded", *FLAGS, "--contexts", "1"]
    command += ["--pictures", str(tmp_path / "large.zip")]
    rows = _rows(capfd, "pictures", *command, "--place", "before")
    assert tuple(rows[0]["tasks"]) == large_prompts.TASKS
    assert main(["eval", "conversations", *command]) == 2
    assert "the archive shows 0 single things, expected 8 or more" in capfd.readouterr().err


def test_every_arm_holds_the_conversations_of_its_own(capfd: Capture, tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    command = ["conversations", "-m", "embedded", *FLAGS, "--contexts", "1", "-o", str(output)]
    rows = _rows(capfd, *command)
    assert {row["name"] for row in rows} == NAMES - {"text cells only"} | {"lookm_plus, all kept"}
    assert {row["place"] for row in rows} == {"turns"}
    assert all(set(row["tasks"]) == {"new", "asked_again", "fact_again"} for row in rows)
    _, *lines = map(json.loads, output.read_text(encoding="utf-8").splitlines())
    with Llava.embedded(n_threads=1) as llm:
        chat = llm.chat(kv_ratio=0.2, method="lookm_plus", text_overflow="evict")
        answers: dict[str, list[str]] = {}
        for turn in make_conversation(load_pictures(), 0, 0).turns:
            answer = chat.ask(turn.text, turn.images, context=turn.context or None, max_tokens=16)
            answers.setdefault(turn.question.task, []).append(answer)
        cells = chat.stats.kept_cells
    mine = {line["task"]: line for line in lines if line["arm"] == "lookm_plus/f16/0.2"}
    assert {task: line["answer"] for task, line in mine.items()} == {
        task: " | ".join(given) for task, given in answers.items()
    }
    assert mine["fact_again"]["kept_cells"] == cells
    full = next(line for line in lines if line["arm"].startswith("full") and "fact" in line["task"])
    assert full["kept_cells"] == full["prompt_cells"] > 2 * cells
    size = output.stat().st_size
    assert _rows(capfd, *command) == rows
    assert output.stat().st_size == size, "nothing is asked twice"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--split", "third"], "--split is 'third', expected first, second or all"),
        (["--contexts", "0"], "--contexts is 0, expected at least 1"),
        (["--contexts", "1", "--split", "second"], "--contexts is 1, expected at least 2"),
        (["--place", "inside"], "--place is 'inside', expected after, before or both"),
    ],
)
def test_mistakes_are_one_line(flags: list[str], message: str, model: str, capfd: Capture) -> None:
    assert main(["eval", "documents", "-m", model, *flags]) == 2
    assert capfd.readouterr().err == f"lookm: {message}\n"
