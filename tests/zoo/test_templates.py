"""Chat templates: a model without one is rejected; a given one is applied as in llama.cpp."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import lookm_cpp
import numpy as np
import pytest
from lookm_cpp import Llava, chat_templates, plan
from lookm_cpp.cli import main
from lookm_cpp.cli.eval_options import make_setup
from lookm_cpp.embedded import MMPROJ, MODEL
from lookm_cpp.evaluation.lab import Lab
from lookm_cpp.evaluation.suite import SuiteRun, places_of
from lookm_cpp.templates import template_text
from PIL import Image
from session.tiny_models import write_llama

from zoo.decoders import FIRST_BYTE
from zoo.pairs import Files, write_pair

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

Capture = pytest.CaptureFixture[str]
HINT = (
    r"has no chat template; expected one by chat_template \(--chat-template\): "
    r"vicuna for LLaVA-1\.5, deepseek for"
)
QUESTION = "What is this?"


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """LLaVA-1.5 without a template, as in its published GGUF files."""
    return write_pair("llava-1.5", tmp_path_factory.mktemp("llava"), chat_template=None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    rng, folder = np.random.default_rng(11), tmp_path_factory.mktemp("pictures")
    paths = [folder / "wide.png", folder / "tall.png"]
    for path, size in zip(paths, ((64, 96, 3), (112, 56, 3)), strict=True):
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def vicuna(llava: Files) -> Iterator[Llava]:
    with Llava(llava.model, mmproj=llava.mmproj, chat_template="vicuna", n_threads=1) as opened:
        yield opened


def test_a_model_without_a_template_is_refused(
    llava: Files, tmp_path: Path, capfd: Capture
) -> None:
    with pytest.raises(ValueError, match=rf'model_path: ".*/model\.gguf" {HINT}'):
        Llava(llava.model, mmproj=llava.mmproj)
    with pytest.raises(ValueError, match=HINT):
        plan(llava.model, mmproj=llava.mmproj, images=1)
    with (
        pytest.raises(ValueError, match=HINT),
        Lab(make_setup(str(llava.model), str(llava.mmproj)), 1),
    ):
        pass
    files = ["-m", str(llava.model), "--mmproj", str(llava.mmproj)]
    for command in (["ask", QUESTION], ["explain", QUESTION], ["plan", "--images", "1"]):
        assert main([command[0], *files, *command[1:]]) == 2
        assert (
            "has no chat template; expected one by chat_template (--chat-template)"
            in capfd.readouterr().err
        )
    text = write_llama(tmp_path / "base.gguf", chat_template=None)
    empty = write_llama(tmp_path / "empty.gguf", chat_template="")
    for model in (text, empty):
        with pytest.raises(ValueError, match=HINT):
            Llava(model, mmproj=False)


@pytest.mark.parametrize("system", [None, "You see well."])
@pytest.mark.parametrize("n", [1, 2])
def test_vicuna_is_llama_cpps(
    vicuna: Llava, llava: Files, pictures: list[Path], n: int, system: str | None
) -> None:
    """All tokens of the prompt and the answer are equal."""
    # llama.cpp puts a line break after an image
    content = (_oracle.marker + "\n") * n + QUESTION
    before = [] if system is None else [("system", system)]
    expected = _oracle.chat("vicuna", [*before, ("user", content)])
    assert expected == ("" if system is None else f"{system}\n\n") + f"USER: {content}\nASSISTANT:"
    model = _oracle.Model.load(str(llava.model))
    pixels = [np.asarray(Image.open(path)) for path in pictures[:n]]
    prompt = _oracle.Prompt(model, str(llava.mmproj), expected, pixels)
    tokens = [token for chunk in prompt.tokens for token in chunk]
    found = vicuna.explain(QUESTION, pictures[:n], system=system, methods=["h2o"], max_tokens=1)
    is_text = np.asarray(found.is_text)
    assert is_text.tolist() == prompt.is_text
    shown = [text for text, is_text in zip(found.text, found.is_text, strict=True) if is_text]
    assert shown == [
        b"<s>",
        *(
            bytes([token - FIRST_BYTE]) if token < FIRST_BYTE + 256 else b" "
            for token in tokens[1:]
        ),
    ]
    files = [str(path) for path in pictures[:n]]
    answer: bytes = _oracle.mtmd_answer(str(llava.model), str(llava.mmproj), expected, files, 24)
    assert len(answer) > 8
    said = codecs.getincrementaldecoder("utf-8")("replace").decode(
        answer
    )  # without an incomplete character at the end
    assert vicuna.ask(QUESTION, files, system=system, max_tokens=24) == said.strip()


def test_a_conversation_by_vicuna(vicuna: Llava, pictures: list[Path]) -> None:
    """A later turn continues after the last answer, whose end the template marks."""
    chat = vicuna.chat(system="Be brief.")
    chat.ask(QUESTION, pictures[0], max_tokens=4)
    before = chat.stats.prompt_cells
    chat.ask("And this?", pictures[1], max_tokens=4)
    added = chat.stats.prompt_cells - before
    assert added == 64 + len("</s>\nUSER: ") + len("\nAnd this?\nASSISTANT:") - len("</s>") + 1 + 4


JINJA = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[answer]"


def test_ways_to_give_one(llava: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(JINJA, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    message = json.dumps([{"role": "user", "content": "Hi"}])
    for given in (JINJA, file, str(file), "mine.jinja"):
        assert template_text(given) == JINJA
        with Llava(llava.model, mmproj=llava.mmproj, chat_template=given) as llm:
            assert llm._session.apply_template(message) == "[user]Hi[answer]"
    Path("vicuna").write_text(JINJA, encoding="utf-8")
    assert template_text("vicuna") == "vicuna"
    assert template_text("./vicuna") == JINJA
    with Llava.embedded(chat_template="chatml") as llm:
        assert (
            llm._session.apply_template(message)
            == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        )


@pytest.mark.parametrize("name", chat_templates())
def test_every_template_that_llama_cpp_names_gives_its_prompt(name: str, llava: Files) -> None:
    with Llava(llava.model, mmproj=llava.mmproj, chat_template=name) as llm:
        message = json.dumps([{"role": "user", "content": "Hi"}])
        assert llm._session.apply_template(message) == _oracle.chat(name, [("user", "Hi")])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "vicunna",
            "chat_template 'vicunna' is not a file, expected one, the template's text, "
            "or one of .*vicuna",
        ),
        ("", "chat_template '' is an empty path"),
        ("/dev/zero", "chat_template '/dev/zero' is a device"),
        (Path("nowhere.jinja"), r"chat_template 'nowhere\.jinja' is not a file"),
        (MODEL, "chat_template .* is not UTF-8|contains a zero byte"),
        (5, "chat_template is 5, expected a name, a file or the template's text"),
        ("{% for m in messages %}", "chat_template: it cannot be read: .*"),
        ("{{ messages[0].content ", "chat_template: it cannot be read: .*"),
    ],
)
def test_what_is_no_template(given: Any, message: str, capfd: Capture) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        Llava.embedded(chat_template=given)
    assert "std::exception" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_without_jinja(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="contains no Jinja, expected a chat template"):
        template_text(tmp_path / "notes.txt")


def test_a_broken_template_of_the_models_own(tmp_path: Path, capfd: Capture) -> None:
    model = write_llama(tmp_path / "model.gguf", chat_template="{% for %}")
    with pytest.raises(ValueError, match="model_path: its chat template cannot be read: ") as error:
        Llava(model, mmproj=False)
    assert "std::exception" not in str(error.value)
    assert capfd.readouterr() == ("", "")
    with Llava(model, mmproj=False, chat_template="chatml") as llm:
        assert llm.ask("Hi", max_tokens=2) is not None


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    written = write_llama(
        tmp_path / "other.gguf", chat_template="AAAA{{ messages[0].content }}"
    ).read_bytes()
    model.write_bytes(written.replace(b"AAAA{{", b"\xff\xfe\xfd\xfc{{"))
    with (
        Llava(model, mmproj=False) as llm,
        pytest.raises(
            ValueError, match="messages: the chat template makes text of them that is not UTF-8"
        ),
    ):
        llm.ask("Hi")


def test_a_system_message_takes_the_same_cells_in_every_interface(
    pictures: list[Path], capfd: Capture
) -> None:
    """The embedded model's template puts it before the question."""
    with Llava.embedded() as llm:
        llm.ask("Hi", max_tokens=1)
        without = llm.stats.text_cells
        llm.ask("Hi", system="Be brief.", max_tokens=1)
        more = llm.stats.text_cells - without
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        llm.create_chat_completion(messages, max_tokens=1)
        assert llm.stats.text_cells - without == more > 0
        with pytest.raises(ValueError, match="system is 5, expected a string"):
            llm.ask("Hi", system=5)  # type: ignore[arg-type]
    assert (
        main(
            ["ask", "-m", "embedded", "--system", "Be brief.", "--max-tokens", "1", "--json", "Hi"]
        )
        == 0
    )
    assert json.loads(capfd.readouterr().out)["stats"]["text_cells"] == without + more
    options: Any = {"images": 2, "question": "Hi"}
    found = [
        plan(MODEL, mmproj=MMPROJ, **options, system=system)["text_cells"]
        for system in (None, "Be brief.")
    ]
    assert found[1] - found[0] == more
    command = [
        "plan",
        "-m",
        "embedded",
        "--images",
        "2",
        "--question",
        "Hi",
        "--system",
        "Be brief.",
        "--json",
    ]
    assert main(command) == 0
    assert json.loads(capfd.readouterr().out)["text_cells"] == found[1]
    assert set(chat_templates()) >= {"vicuna", "chatml", "deepseek", "mistral-v7", "llama3"}
    assert lookm_cpp.chat_templates is chat_templates


def test_a_template_is_part_of_an_evaluation(llava: Files, tmp_path: Path) -> None:
    """Records made with another template do not count."""
    found = {
        str(SuiteRun("tiny", setup, [], places_of("both"), [], 0, 1).identity())
        for setup in (
            make_setup(str(llava.model), str(llava.mmproj)),
            make_setup(str(llava.model), str(llava.mmproj), chat_template="vicuna"),
            make_setup(str(llava.model), str(llava.mmproj), chat_template="chatml"),
        )
    }
    assert len(found) == 3
