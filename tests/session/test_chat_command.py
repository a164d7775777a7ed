"""``lookm chat``: questions, commands, files, and keys at a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import Llava, embedded
from lookm_cpp.cli.live_answer import show_answer

OWL, UMBRELLA = str(embedded.DEMO / "pic08.png"), str(embedded.DEMO / "pic03.png")
ASKED = "Image 1:<image> Image 2:<image> What is in image 2?"


def _chat(*lines: str, flags: tuple[str, ...] = ()) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "lookm_cpp", "chat", "-m", "embedded", *flags],
        input="".join(f"{line}\n" for line in lines),
        env={**os.environ, "TERM": "dumb", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("keep", ["all", "compressed"])
def test_answers_are_the_librarys(keep: Any) -> None:
    made = _chat(
        f"/image {UMBRELLA} '{OWL}'",
        ASKED,
        "",
        "What is in image 1?",
        flags=("--keep", keep, "--kv-ratio", "0.5"),
    )
    assert made.returncode == 0, made.stderr
    with Llava.embedded(kv_ratio=0.5) as llm:
        chat = llm.chat(keep=keep)
        expected = [chat.ask(ASKED, [UMBRELLA, OWL]), chat.ask("What is in image 1?")]
    assert made.stdout.splitlines() == expected
    assert expected[0] == "Image 2 shows an owl."
    assert made.stderr.count("cells") == 2, "a line about each"


def test_names_of_images_are_attached_and_lost_with_none(tmp_path: Path) -> None:
    spaced = tmp_path / "an owl.png"
    spaced.write_bytes(Path(OWL).read_bytes())
    made = _chat(f"{UMBRELLA} file://{str(spaced).replace(' ', '%20')}", ASKED)
    assert made.stdout == "Image 2 shows an owl.\n"
    assert "2 images for the next question" in made.stderr
    wrong = _chat(UMBRELLA, ASKED, f"/image {OWL}", ASKED)
    assert "has 2 <image> for 1 images" in wrong.stderr
    assert wrong.stdout == "Image 2 shows an owl.\n", "the first image was still there"


def test_commands(tmp_path: Path) -> None:
    page, saved = tmp_path / "kept.html", tmp_path / "talk.json"
    text = tmp_path / "note.txt"
    text.write_text("The code of Ivan is 8801.")
    made = _chat(
        "/stats",
        f"/image {OWL}",
        f"/context {text}",
        "/ratio 0.5",
        "Image 1:<image> What is in image 1?",
        "/stats",
        f"/explain {page}",
        f"/save {saved}",
        "/ratio 7",
        "/image none.png",
        "/image",
        "/context",
        "/save",
        "/save 'a",
        "/nothing",
        "/video",
        "/pdf",
        f"/video {OWL} 1e-320",
        "x" * 300_000,
        "/help",
        "/quit",
        "What?",
    )
    assert made.returncode == 0, made.stderr
    assert len(made.stdout.splitlines()) == 1, "nothing is answered after /quit"
    for said in (
        "there is no answer yet",
        "1 image for the next question",
        "1 text for the next question",
        "kv_ratio 0.5 from the next question on",
        "cells kept",
        f"written: {page}",
        f"written: {saved}",
        "kv_ratio: 7",
        "'none.png' does not exist",
        "/image has no files",
        "/context has no files",
        "/save has 0 names",
        "No closing quotation",
        "/nothing is none of the commands",
        "/video has no file",
        "/pdf has no file",
        "fps is 9.99989e-321, expected",
        "n_ctx",
        "Ctrl-D",
    ):
        assert said in " ".join(made.stderr.split()), said
    assert "<html" in page.read_text()
    messages = json.loads(saved.read_text())
    assert [message["role"] for message in messages] == ["user", "assistant"]

    again = _chat("And what else?", flags=("--resume", str(saved)))
    with Llava.embedded() as llm:
        expected = llm.chat(keep="all", messages=messages).ask("And what else?")
    assert again.stdout == f"{expected}\n"


def test_a_compressed_conversation_goes_on(tmp_path: Path) -> None:
    saved = tmp_path / "talk.state"
    flags = ("--keep", "compressed", "--kv-ratio", "0.5")
    made = _chat(f"/image {UMBRELLA} {OWL}", ASKED, "/explain", f"/save {saved}", flags=flags)
    assert "/explain needs the whole history" in made.stderr
    again = _chat("And?", flags=(*flags, "--resume", str(saved)))
    with Llava.embedded(kv_ratio=0.5) as llm:
        chat = llm.chat()
        chat.ask(ASKED, [UMBRELLA, OWL])
        assert again.stdout == f"{chat.ask('And?')}\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--resume", "none.json"), "none.json"),
        (("--resume", "none.json", "--system", "x"), "--system is given with --resume"),
        (("--keep", "some"), "some"),
        (("--keep", "compressed", "--resume", OWL), "state file"),
        (("--resume", str(Path(__file__))), "expected what /save has written"),
        (("--resume", "NULL"), "NULL"),
    ],
)
def test_what_cannot_begin(flags: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "null.json").write_text("null")
    flags = tuple(str(tmp_path / "null.json") if flag == "NULL" else flag for flag in flags)
    said = "has no list" if said == "NULL" else said
    made = _chat("Hello", flags=flags)
    assert made.returncode == 2
    assert made.stdout == ""
    (line,) = made.stderr.splitlines()
    assert said in line


class _Terminal:
    """``lookm chat`` on a terminal of its own."""

    def __init__(self, home: Path, *flags: str) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._screen = ours
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lookm_cpp", "chat", "-m", "embedded", *flags],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(home)},
            start_new_session=True,
            preexec_fn=_own_terminal,  # noqa: PLW1509
        )
        os.close(theirs)

    def until(self, pattern: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, self.text
            ready, _, _ = select.select([self._screen], [], [], 0.1)
            if ready:
                found = os.read(self._screen, 65536).decode(errors="replace")
                self.text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", found)
                if "\x1b[6n" in found:  # where is the cursor?
                    os.write(self._screen, b"\x1b[1;1R")

    def keys(self, text: str) -> None:
        self.text = ""
        os.write(self._screen, text.encode())


def _own_terminal() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_keys_at_a_terminal(tmp_path: Path) -> None:
    """Ctrl-C clears a line and stops an answer, Ctrl-D ends; lines are remembered."""
    long = tmp_path / "long.txt"
    long.write_text("Image 1 shows an owl. " * 600)
    terminal = _Terminal(tmp_path, "--n-batch", "16")  # it is read slowly
    terminal.until("0 turns")
    terminal.keys("half a line\x03")
    terminal.until("0 turns")
    terminal.keys(f"/context {long}\r")
    terminal.until("(?s)1 text for the next.*turns")
    terminal.keys("What is in it?\r")
    terminal.until("reading the prompt.*[1-9]/")
    terminal.keys("\x03")
    terminal.until(r"(?s)stopped.*0 turns")
    terminal.keys(f"/image {OWL}\r")
    terminal.until("(?s)1 image for the next.*turns")
    terminal.keys("Image 1:<image> What is in image 1?\r")
    terminal.until(r"(?s)Image 1 shows an owl\..*KV .*\d turns")
    terminal.keys("/stats\r")
    terminal.until(r"(?s)cells kept.*\d turns")
    terminal.keys("\x04")
    assert terminal.process.wait(timeout=60) == 0
    assert "What is in it?" in (tmp_path / "lookm_cpp" / "history").read_text()


def test_the_speed_of_an_answer_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pieces() -> Iterator[str]:
        for piece in (" ", "One", " line", "\nand", " another"):
            time.sleep(0.12)
            yield piece

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    show_answer(pieces(), 100)
    out = capsys.readouterr().out
    told = re.findall(r"(\d) tokens, ([\d.]+) tokens/s, (\d+) cells", out)
    drawn = dict.fromkeys((n, cells) for n, _, cells in told)  # again after each whole line
    assert [*drawn] == [("2", "102"), ("3", "103"), ("4", "104"), ("5", "105")]
    assert all(1 < float(rate) < 1 / 0.12 for _, rate, _ in told)
    assert re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", out).endswith("and another\n")
    assert "One line\n" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", out)
