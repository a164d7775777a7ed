"""The ``lookm`` command: answers, exit codes, and one line for every mistake."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lookm_cpp import Llava, __version__
from lookm_cpp.cli import main
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL, DemoPrompt

from session.interrupts import allow_ctrl_c
from session.tiny_models import write_llama

OWL, UMBRELLA = str(DEMO / "pic08.png"), str(DEMO / "pic03.png")
ASK = [
    "ask",
    "-m",
    "embedded",
    "-i",
    OWL,
    "-i",
    UMBRELLA,
    "Image 1:<image> Image 2:<image> What is in image 1?",
]
ANSWER = "Image 1 shows an owl."

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))


def test_ask(capfd: Capture) -> None:
    assert main(ASK) == 0
    out, err = capfd.readouterr()
    assert out == ANSWER + "\n"
    assert err.count("\n") == 1
    assert "cells" in err


def test_ask_with_files(capfd: Capture) -> None:
    assert (
        main(["ask", "-m", str(MODEL), "--mmproj", str(MMPROJ), *ASK[3:], "--kv-ratio", "0.5"]) == 0
    )
    out, err = capfd.readouterr()
    assert out
    assert "145 cells, 72 kept (49.7%)" in err


def test_ask_finds_the_mmproj(capfd: Capture) -> None:
    assert main(["ask", "-m", str(MODEL), *ASK[3:]]) == 0
    assert capfd.readouterr().out == ANSWER + "\n"


def test_ask_for_a_form(capfd: Capture, tmp_path: Path) -> None:
    schema, grammar = tmp_path / "schema.json", tmp_path / "answer.gbnf"
    schema.write_text('{"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"]}')
    grammar.write_text('root ::= "yes" | "no"')
    assert main([*ASK, "--json-schema-file", str(schema), "--kv-ratio", "0.5"]) == 0
    assert json.loads(capfd.readouterr().out) == {"n": 7}
    assert main([*ASK, "--grammar-file", str(grammar)]) == 0
    assert capfd.readouterr().out in ("yes\n", "no\n")


@pytest.mark.parametrize(
    ("flag", "text", "said"),
    [
        ("--json-schema-file", "{", "expected a JSON schema"),
        ("--json-schema-file", "[" * 100000, "expected a JSON schema"),
        ("--json-schema-file", "[]", "expected a dict"),
        ("--grammar-file", "root ::=  (", "grammar"),
        ("--grammar-file", None, "--grammar-file"),
    ],
)
def test_a_form_that_is_none(
    capfd: Capture, tmp_path: Path, flag: str, text: str | None, said: str
) -> None:
    file = tmp_path / "form"
    if text is not None:
        file.write_text(text)
    assert main([*ASK, flag, str(file)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err.splitlines()[-1]


def test_ask_json(capfd: Capture) -> None:
    assert main([*ASK, "--json", "--kv-ratio", "0.5", "--max-tokens", "3"]) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert err == ""
    assert found["finish_reason"] == "length"
    assert found["stats"]["image_cells"] == 2 * 64
    assert found["stats"]["decode_tokens_per_second"] > 0


def test_ask_by_another_method(capfd: Capture) -> None:
    by_quota = [
        "--method",
        "text_prior_pivot_merge",
        "--scorer",
        "window",
        "--window",
        "16",
        "--visual-quota",
        "1",
    ]
    by_merge = [
        "--method",
        "avg_merge",
        "--fidelity",
        "upstream",
        "--no-merge-keys",
        "--merge-within-modality",
    ]
    kept = []
    for flags in (by_quota, by_merge, ["--method", "text_prior_pivot_merge"]):
        assert main([*ASK, *flags, "--json", "--kv-ratio", "0.5", "--max-tokens", "1"]) == 0
        stats = json.loads(capfd.readouterr().out)["stats"]
        assert stats["method"] == flags[1]
        kept.append(stats["kept_cells"])
    assert kept == [kept[0], 72, 72]
    assert kept[0] > 72, "all text, and a whole budget of images in addition"


def test_compare(capfd: Capture, prompts: list[DemoPrompt]) -> None:
    prompt = prompts[0]
    images = [word for image in prompt.images for word in ("-i", str(image))]
    assert main(["ask", "-m", "embedded", *images, prompt.content, "--compare"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert all(len(line) <= 80 for line in out.splitlines())
    assert all(
        word in out for word in ("full cache", "KV bytes used", "decode", "watermelon", "100.0%")
    )


def test_compare_json(capfd: Capture) -> None:
    assert (
        main([*ASK, "--compare", "--json", "--important-ratio", "0.3", "--recent-ratio", "0.1"])
        == 0
    )
    found = json.loads(capfd.readouterr().out)
    assert found["full"]["answer"] == ANSWER
    assert found["full"]["stats"]["kv_ratio"] == 1.0
    assert found["compressed"]["stats"]["kv_ratio"] == pytest.approx(0.4, abs=0.05)


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    """A text as some editors write it: with a byte order mark."""
    file = tmp_path / "letter.txt"
    file.write_text("The code of Anna is 4821. " * 10, encoding="utf-8-sig")
    return file


def test_context_files(letter: Path, capfd: Capture) -> None:
    assert main([*ASK, "--context-file", str(letter), "--json", "--kv-ratio", "0.5"]) == 0
    one = json.loads(capfd.readouterr().out)["stats"]
    assert main([*ASK, "--context-file", str(letter), "--context-file", str(letter), "--json"]) == 0
    two = json.loads(capfd.readouterr().out)["stats"]
    assert one["context_cells"] > 50
    assert two["context_cells"] == 2 * one["context_cells"]
    assert one["kept_cells"] == 2 * (one["prompt_cells"] // 4)
    for stats in (one, two):
        assert (
            stats["prompt_cells"]
            == stats["text_cells"] + stats["image_cells"] + stats["context_cells"]
        )


def test_compare_with_a_context_file(letter: Path, capfd: Capture) -> None:
    command = [
        "ask",
        "-m",
        "embedded",
        "What?",
        "--context-file",
        str(letter),
        "--compare",
        "--max-tokens",
        "2",
    ]
    assert main(command) == 0
    words = " ".join(capfd.readouterr().out.split())
    assert "text, 0 image, " in words
    assert " context)" in words


def test_a_model_of_text_alone(tmp_path: Path, letter: Path, capfd: Capture) -> None:
    model = str(write_llama(tmp_path / "text.gguf"))
    question = ["Who?", "--context-file", str(letter), "--max-tokens", "2"]
    assert main(["ask", "-m", model, *question]) == 2
    assert "mmproj" in capfd.readouterr().err
    assert main(["ask", "-m", model, "--text-only", *question, "--kv-ratio", "0.5", "--json"]) == 0
    stats = json.loads(capfd.readouterr().out)["stats"]
    assert stats["context_cells"] == 10 * (20 + 6 * 3) + 1, (
        "every letter is a token, every space is three"
    )
    assert stats["kept_cells"] == 2 * (stats["prompt_cells"] // 4)


def test_bad_context_files(tmp_path: Path, capfd: Capture) -> None:
    contents = {
        "empty.txt": b"",
        "mark.txt": b"\xef\xbb\xbf",
        "latin.txt": b"for 9 \xa3",
        "zero.txt": b"a\0b",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    expected = {
        "empty.txt": "is empty, expected a text file",
        "mark.txt": "is empty, expected a text file",
        "latin.txt": "is not UTF-8 at byte 6, expected a text file",
        "zero.txt": "contains a zero byte, expected a text file",
        "nowhere.txt": "does not exist, expected a text file",
        "": "is a directory, expected a text file",
    }
    for name, message in expected.items():
        assert main(["ask", "-m", "embedded", "Hello", "--context-file", str(tmp_path / name)]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith("lookm: --context-file '")
        assert message in err
        assert err.count("\n") == 1
    assert main(["ask", "-m", "embedded", "Hello", "--context-file", OWL]) == 2
    assert "is not UTF-8 at byte 0" in capfd.readouterr().err


def test_info(capfd: Capture) -> None:
    assert main(["info", "embedded"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert all(word in out for word in ("llama", "supported", "3072 bytes a token"))
    assert main(["info", str(MODEL), "--json", "--type-k", "q8_0", "--type-v", "q8_0"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["supported"] is True
    assert found["kv_bytes_per_token"] == 3072 * 17 // 32


def test_version_and_help(capfd: Capture) -> None:
    assert main(["--version"]) == 0
    assert __version__ in capfd.readouterr().out
    for command in (
        ["--help"],
        ["ask", "--help"],
        ["demo", "--help"],
        ["info", "--help"],
        ["eval"],
        [],
    ):
        assert main(command) == 0
        assert "Usage: lookm" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("line", "completed"),
    [("lookm pl", ["plan"]), ("lookm ask --kv-m", ["--kv-memory"]), ("lookm eval t", ["tiny"])],
)
def test_completion(line: str, completed: list[str]) -> None:
    """As the script asks that ``lookm --show-completion`` prints for bash."""
    asked = {
        "_LOOKM_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    }
    child = subprocess.run(
        [sys.executable, "-m", "lookm_cpp"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **asked},
    )
    assert (child.returncode, child.stdout.split(), child.stderr) == (0, completed, "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["bogus"], "bogus"),
        (["ask", "Hello"], "--model"),
        (["ask", "-m", "embedded"], "question"),
        (["ask", "-m", "embedded", "Hello", "--bogus"], "--bogus"),
        (["ask", "-m", "embedded", "Hello", "--kv-ratio", "much"], "--kv-ratio"),
        (["ask", "-m", "embedded", "Hello", "--kv-ratio", "0"], "kv_ratio"),
        (["ask", "-m", "embedded", "Hello", "--kv-ratio", "1.5"], "kv_ratio"),
        (
            ["ask", "-m", "embedded", "Hello", "--important-ratio", "0.7", "--recent-ratio", "0.7"],
            "important_ratio",
        ),
        (["ask", "-m", "embedded", "Hello", "--method", "bogus"], "bogus"),
        (["ask", "-m", "embedded", "Hello", "--text-overflow", "bogus"], "bogus"),
        (["ask", "-m", "embedded", "Hello", "--fidelity", "bogus"], "bogus"),
        (
            [
                "ask",
                "-m",
                "embedded",
                "Hello",
                "--fidelity",
                "upstream",
                "--text-overflow",
                "evict",
            ],
            "text_overflow",
        ),
        (["ask", "-m", "embedded", "Hello", "--scorer", "bogus"], "bogus"),
        (["ask", "-m", "embedded", "Hello", "--window", "0"], "window"),
        (["ask", "-m", "embedded", "Hello", "--visual-quota", "1.5"], "visual_quota"),
        (["ask", "-m", "embedded", "Hello", "--flash-attn", "bogus"], "bogus"),
        (["ask", "-m", "embedded", "Hello", "--type-k", "bogus"], "bogus"),
        (["ask", "-m", "nowhere.gguf", "Hello"], "nowhere.gguf"),
        (["ask", "-m", "embedded", "--mmproj", str(MMPROJ), "Hello"], "--mmproj"),
        (["ask", "-m", "embedded", "--text-only", "Hello"], "--text-only"),
        (["ask", "-m", "a.gguf", "--mmproj", "b.gguf", "--text-only", "Hello"], "--text-only"),
        (["ask", "-m", str(MODEL), "--text-only", "-i", OWL, "Hello"], "without an mmproj"),
        (["ask", "-m", OWL, "--mmproj", str(MMPROJ), "Hello"], OWL),
        (["ask", "-m", str(MODEL), "--mmproj", str(MODEL), "Hello"], MODEL.name),
        (["ask", "-m", "embedded", "-i", "nowhere.png", "Hello"], "nowhere.png"),
        (["ask", "-m", "embedded", "-i", str(MODEL), "Hello"], MODEL.name),
        (["ask", "-m", "embedded", "-i", "https://example.org/a.png", "Hello"], "network address"),
        (["ask", "-m", "embedded", "<image>"], "placeholders"),
        (
            [
                "ask",
                "-m",
                "embedded",
                "-i",
                OWL,
                "-i",
                OWL,
                "-i",
                OWL,
                "-i",
                OWL,
                "Hello",
                "--n-ctx",
                "256",
            ],
            "256",
        ),
        (["info", "nowhere.gguf"], "nowhere.gguf"),
        (["info", OWL], OWL),
        (["demo", "--kv-ratio", "2"], "kv_ratio"),
        (["demo", "--method", "h2o", "--method", "bogus"], "bogus"),
        (["demo", "--kv-ratio", "much"], "--kv-ratio is 'much'"),
        (["eval", "tiny", "--threads", "9999999999"], "n_threads is 9999999999"),
        (["eval", "passkey", "-m", str(MODEL), "--n-ctx", "9999999999"], "n_ctx is 9999999999"),
        (["plan", "-m", "embedded", "--images", "1", "--memory", "9" * 400], "memory is '999"),
        (["info", "model\udce9.gguf"], "'model\\udce9.gguf' is not UTF-8"),
        (["ask", "-m", "embedded", "Hello", "--method", "\udcff"], "'\\udcff' is not UTF-8"),
        (["demo", "--kv-ratio", "much"], "'much'"),
        (["ask", "-m", "embedded", "Hello", "--max-tokens", "1.5"], "'1.5'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], named: str, capfd: Capture
) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("lookm: ")
    assert err.count("\n") == 1
    assert named in err


def test_bad_input_from_a_shell(tmp_path: Path) -> None:
    empty = tmp_path / "empty.gguf"
    empty.touch()
    command = [
        sys.executable,
        "-m",
        "lookm_cpp",
        "ask",
        "-m",
        str(empty),
        "--mmproj",
        str(MMPROJ),
        "Hello",
    ]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == 2
    assert child.stdout == ""
    assert child.stderr.count("\n") == 1
    assert "empty.gguf" in child.stderr


def test_demo(capfd: Capture, llm: Llava, prompts: list[DemoPrompt]) -> None:
    assert main(["demo", "--json"]) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert err == ""
    assert [one["answer"] for one in found["prompts"]] == [prompt.answer for prompt in prompts]
    summary = found["summary"]
    assert summary["full"]["right"] == sum(one["full"]["right"] for one in found["prompts"]) >= 23
    assert list(summary["compressed"]) == ["lookm_plus", "text_prior_pivot_merge"]
    for method, of in summary["compressed"].items():
        assert (
            of["right"] == sum(one["compressed"][method]["right"] for one in found["prompts"]) > 0
        )
        assert of["mean"]["method"] == method
        assert of["mean"]["kv_ratio"] == pytest.approx(0.2, abs=0.02)
        assert of["mean"]["kv_bytes_used_after"] < 0.25 * of["mean"]["kv_bytes_used_before"]
    assert found["model"] == llm.model_name


def test_demo_without_a_terminal_and_ctrl_c() -> None:
    child = _start_demo()
    assert child.stdout is not None
    lines: list[str] = []
    while not any(line.startswith(" 3 ") for line in lines):
        lines.append(child.stdout.readline())
        assert lines[-1]
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert err == "lookm: interrupted\n"
    shown = "".join(lines) + out
    assert "\x1b" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "What is at the bottom right of image 2?" in shown
    assert "full cache              right: The bottom right of image 7 shows a panda." in shown


def _start_demo() -> subprocess.Popen[str]:
    """Without a terminal."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "lookm_cpp", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "80"},
        preexec_fn=allow_ctrl_c,  # noqa: PLW1509  # no thread of ours runs yet
    )


def test_a_closed_pipe_ends_quietly() -> None:
    child = _start_demo()
    with child:
        assert child.stdout is not None
        assert child.stdout.readline()
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == ""
    assert child.returncode == 1
