"""No file ends the process: an error names the file and the field instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fuzz.gguf_mutations import GgufFile
from lookm_cpp import Llava, model_info, plan
from lookm_cpp.cli import main
from lookm_cpp.embedded import MMPROJ, MODEL

from session.damaged import BLAMED, MODELS, NAMES, write_damaged
from session.tiny_models import write_llama

LOOKM = str(Path(sys.executable).with_name("lookm"))
SOME = ("image_size", "keys", "experts")
"""One that is seen when a picture is computed, one by SIGSEGV, one while loading."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A good one that was not seen before."""
    return Path(shutil.copy(MODEL, tmp_path / "model.gguf"))


def _marks(cache: Path) -> list[Path]:
    return list((cache / "lookm_cpp" / "checked").glob("*"))


def _fails_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a child process would fail: what is opened is known to be good."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_named(name: str, tmp_path: Path, cache: Path) -> None:
    model, mmproj = write_damaged(name, tmp_path)
    with pytest.raises(
        ValueError, match=r"^(model_path|mmproj): .*damaged\.gguf.* cannot be used.*: ."
    ) as caught:
        Llava(model, mmproj=mmproj)
    assert BLAMED[name] in str(caught.value)
    assert str(caught.value).count("; ") <= 1 + str(caught.value).count("; expected")  # that alone
    assert not _marks(cache)  # only what is good is remembered


@pytest.mark.parametrize("name", SOME)
def test_wherever_it_is_opened(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, mmproj = write_damaged(name, tmp_path)
    with pytest.raises(ValueError, match=r"damaged\.gguf"):
        plan(model, mmproj=mmproj, images=1)
    if name in MODELS:
        with pytest.raises(ValueError, match=r"damaged\.gguf"):
            model_info(model)
    capfd.readouterr()
    for command in (
        ["ask", "Hello"],
        ["plan", "--images", "1"],
        ["explain", "<image>", "-i", "x"],
        ["eval", "tiny"],
    ):
        assert main([*command, "-m", str(model), "--mmproj", str(mmproj)]) == 2
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        assert said.startswith("lookm: ")
        assert "damaged.gguf" in said


def test_the_reason_is_said(tmp_path: Path) -> None:
    for name, why in (
        (
            "experts",
            r"llama-model\.cpp:\d+: GGML_ASSERT\(n_expert_used_max <= hparams\.n_expert\) failed",
        ),
        ("keys", r"invalid memory access \(SIGSEGV\)"),
        ("another tokenizer", "no token for a byte of the text"),
    ):
        model, mmproj = write_damaged(name, tmp_path)
        with pytest.raises(ValueError, match=why):
            Llava(model, mmproj=mmproj)


@pytest.mark.parametrize("check_files", [True, False])
def test_texts_that_are_not_utf_8(tmp_path: Path, check_files: bool) -> None:
    """Python's codec complained of the message instead."""
    file, path = GgufFile.read(MODEL), tmp_path / "model.gguf"
    path.write_bytes(file.with_value("general.architecture", b"\xffama").pack())
    for opened in (
        lambda: Llava(path, mmproj=False, check_files=check_files),
        lambda: model_info(path),
    ):
        with pytest.raises(ValueError, match=r"model\.gguf.*architecture: '\ufffdama'") as caught:
            opened()
        assert type(caught.value) is ValueError
    path.write_bytes(file.with_value("general.name", b"ow\xff").pack())
    assert model_info(path, check_files=check_files)["name"] == "ow\ufffd"
    with Llava(path, mmproj=False, check_files=check_files) as llm:
        assert llm.model_name == "ow\ufffd"


def test_a_vocabulary_that_lacks_a_byte(tmp_path: Path) -> None:
    """What the check asks is in it, what a user asks is not: IndexError, `unordered_map::at`."""
    file, path = GgufFile.read(write_llama(tmp_path / "good.gguf")), tmp_path / "model.gguf"
    path.write_bytes(file.with_item("tokenizer.ggml.tokens", 3 + ord("w"), b"lost").pack())
    with Llava(path, mmproj=False) as llm:
        assert isinstance(llm.ask("Hi", max_tokens=1), str)
        for ask in (llm.ask, llm.chat().ask):
            with pytest.raises(
                ValueError, match="the model's vocabulary has no token for a byte of the text"
            ):
                ask("who")
        assert isinstance(llm.ask("Hi", max_tokens=1), str)


def test_a_good_file_is_tried_once(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Llava(model, mmproj=MMPROJ) as llm:
        assert llm.ask("Hello", max_tokens=1) is not None
    assert len(_marks(cache)) == 1
    _fails_here(monkeypatch)
    Llava(model, mmproj=MMPROJ).close()
    plan(model, mmproj=MMPROJ, images=1)
    os.utime(model, (1, 1))  # another time: it may be another file
    with pytest.raises(
        RuntimeError, match=r"opened in a child process first, but .*false\" cannot be started"
    ):
        Llava(model, mmproj=MMPROJ)


@pytest.mark.parametrize("change", ["time", "size", "first bytes", "projector"])
def test_a_changed_file_is_tried_again(
    change: str, model: Path, cache: Path, tmp_path: Path
) -> None:
    mmproj = Path(shutil.copy(MMPROJ, tmp_path / "mmproj.gguf"))
    Llava(model, mmproj=mmproj).close()
    before = model.stat()
    if change == "time":
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    elif change == "size":
        with model.open("ab") as file:
            file.write(bytes(32))
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "first bytes":
        model.write_bytes(model.read_bytes().replace(b"tiny", b"tinY", 1))
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        os.utime(mmproj, (1, 1))
    Llava(model, mmproj=mmproj).close()
    assert len(_marks(cache)) == 2


def test_files_are_checked_again_if_results_cannot_be_stored(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()  # no folder can be made in it, not even by root
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    for _ in range(2):
        Llava(model, mmproj=MMPROJ).close()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    Llava(model, mmproj=MMPROJ).close()


def test_the_check_can_be_left_out(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fails_here(monkeypatch)
    Llava(model, mmproj=MMPROJ, check_files=False).close()
    plan(model, mmproj=MMPROJ, images=1, check_files=False)
    assert model_info(model, check_files=False)["n_layer"] == 6
    assert main(["ask", "-m", str(model), "--text-only", "--no-check-files", "Hello"]) == 0
    assert (
        main(
            ["plan", "-m", str(model), "--mmproj", str(MMPROJ), "--images", "1", "--no-check-files"]
        )
        == 0
    )
    assert main(["info", str(model), "--no-check-files"]) == 0
    assert not _marks(cache)


def test_the_embedded_model_needs_no_check(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fails_here(monkeypatch)
    Llava.embedded().close()
    assert not _marks(cache)


def _child_is(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "child"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_a_child_without_an_end(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _child_is("exec sleep 100", tmp_path, monkeypatch)
    monkeypatch.setenv("LOOKM_CHECK_SECONDS", "0.3")
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=r"model\.gguf.*still busy after 0.3 seconds.*check_files=False"
    ):
        Llava(model, mmproj=MMPROJ)
    assert time.monotonic() - start < 10


def test_a_child_that_the_system_ends(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _child_is("kill -KILL $$", tmp_path, monkeypatch)
    with pytest.raises(MemoryError, match=r"model\.gguf.*does not fit into memory"):
        Llava(model, mmproj=MMPROJ)


def test_other_threads_go_on_meanwhile(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _child_is("exec sleep 100", tmp_path, monkeypatch)
    monkeypatch.setenv("LOOKM_CHECK_SECONDS", "1")
    counts: list[float] = []

    def open_it() -> None:
        with pytest.raises(ValueError, match=r"model\.gguf"):
            Llava(model, mmproj=MMPROJ)

    thread = threading.Thread(target=open_it)
    thread.start()
    while thread.is_alive():
        counts.append(time.monotonic())
        time.sleep(0.01)
    assert len(counts) > 20


def test_ctrl_c_ends_the_child(model: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/id\nexec sleep 100\n")
    slow.chmod(0o755)
    code = (
        "import signal, sys, _thread, threading; from lookm_cpp import Llava\n"
        # it may be ignored where the tests run
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.executable = {str(slow)!r}\n"
        "threading.Timer(0.5, _thread.interrupt_main).start()\n"
        f"Llava({str(model)!r}, mmproj={str(MMPROJ)!r})\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "KeyboardInterrupt" in child.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "id").read_text()), 0)


def test_modules_of_the_folder_are_not_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lookm_cpp.py", "numpy.py", "pathlib.py"):
        (tmp_path / name).write_text("raise SystemExit(5)")
    monkeypatch.chdir(tmp_path)
    Llava(model, mmproj=MMPROJ).close()


def test_a_damaged_model_is_refused_without_a_projector(tmp_path: Path) -> None:
    model, _ = write_damaged("experts", tmp_path)
    with pytest.raises(ValueError, match=r"damaged\.gguf"):
        Llava(model, mmproj=False)
