"""``lookm`` in a shell: closed streams and early Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lookm_cpp.embedded import DEMO

from session.interrupts import allow_ctrl_c

LOOKM = [sys.executable, "-m", "lookm_cpp"]
OWL = str(DEMO / "pic08.png")
QUESTION = "Image 1:<image> What is in image 1?"
ASK = ["ask", "-m", "embedded", "-i", OWL, QUESTION]
ANSWER = "Image 1 shows an owl.\n"


def _redirected(redirection: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *LOOKM, *arguments]
    return subprocess.run(shell, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("arguments", [ASK, ["--version"], ["ask", "-h"], ["info", "embedded"]])
def test_an_answer_that_cannot_be_written(arguments: list[str]) -> None:
    child = _redirected(">&-", arguments)
    assert (child.returncode, child.stdout) == (1, "")
    assert "\n" not in child.stderr.rstrip("\n").removeprefix("["), "no traceback"
    assert "Error" not in child.stderr


def test_an_answer_without_stderr() -> None:
    child = _redirected("2>&-", ASK)
    assert (child.returncode, child.stdout, child.stderr) == (0, ANSWER, "")


def test_bad_input_without_stderr() -> None:
    child = _redirected("2>&-", ["info", "nowhere.gguf"])
    assert (child.returncode, child.stdout, child.stderr) == (2, "", "")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_printed_never_goes_to_another_file(redirection: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    words = ["explain", *ASK[1:], "-o", str(page), "-n", "3", "--method", "h2o", "--verbose"]
    child = _redirected(redirection, words)
    assert child.returncode == (1 if ">&-" in redirection.split() else 0)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    assert "llama_model_loader" not in text


def test_the_command_starts_before_the_library_is_imported() -> None:
    code = "import sys, lookm_cpp.cli; print(*{'numpy', 'PIL', 'typer', 'rich'} & {*sys.modules})"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout == "\n"


@pytest.mark.parametrize(
    "wait", ["time.sleep(60)", "\n    try: time.sleep(60)\n    except BaseException: pass"]
)
def test_ctrl_c_while_the_library_is_imported(wait: str, tmp_path: Path) -> None:
    """Even where an import, as those of compiled modules may, turns exceptions into others."""
    (tmp_path / "typer.py").write_text(
        f"import time\nprint('importing', flush=True)\nwhile True: {wait}\n"
    )
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from lookm_cpp.cli import main; "
    command = [sys.executable, "-c", f"{start} sys.exit(main())", str(tmp_path), *ASK]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=allow_ctrl_c,  # noqa: PLW1509  # no thread of ours runs yet
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "importing\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (130, "", "lookm: interrupted\n")
