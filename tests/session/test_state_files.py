"""Files of conversations: each is written as a whole, and only a right one is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import Chat, Llava, whole_file
from lookm_cpp.embedded import DEMO
from lookm_cpp.statefile import read_state, write_state
from lookm_cpp.whole_file import write_whole

OWL = DEMO / "pic08.png"


@pytest.fixture(scope="module")
def llm() -> Iterator[Llava]:
    with Llava.embedded(kv_ratio=0.5) as opened:
        yield opened


@pytest.fixture
def chat(llm: Llava) -> Chat:
    made = llm.chat()
    made.ask("Image 1:<image> What is in image 1?", OWL, max_tokens=8)
    return made


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_link_is_followed(chat: Chat, llm: Llava, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link, dangling = tmp_path / "there" / "talk", tmp_path / "link", tmp_path / "dangling"
    target.write_bytes(b"old")
    link.symlink_to(target)
    chat.save(link)
    assert link.is_symlink()
    dangling.symlink_to(Path("there") / "new")
    chat.save(dangling)
    assert dangling.is_symlink()
    assert (tmp_path / "there" / "new").read_bytes() == target.read_bytes()
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["new", "talk"]
    assert llm.load_state(target).n_turns == 1


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o664])
def test_a_file_keeps_its_mode(chat: Chat, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "talk"
    file.touch()
    file.chmod(mode)
    chat.save(file)
    assert _mode(file) == mode


def test_a_new_file_has_the_mode_of_any_new_file(chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    chat.save(tmp_path / "talk")
    assert _mode(tmp_path / "talk") == _mode(tmp_path / "other")


@pytest.mark.parametrize("kind", ["pipe", "directory", "socket"])
def test_only_files_are_written_over(chat: Chat, tmp_path: Path, kind: str) -> None:
    path, link = tmp_path / "it", tmp_path / "link"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    link.symlink_to(path)
    before = path.stat()
    for target in (path, link):
        with pytest.raises(
            ValueError, match=rf"path '.*' is a {kind}, expected a regular file or none"
        ):
            chat.save(target)
        with pytest.raises(
            ValueError,
            match=rf"state file '.*' is a {kind}, expected a file that chat.save\(\) wrote",
        ):
            read_state(target)
    assert os.path.samestat(path.stat(), before)
    assert sorted(tmp_path.iterdir()) == [path, link]


def test_a_device_is_not_written_over(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No real one: ``stat`` says that a file is one."""
    file = tmp_path / "device"
    file.write_bytes(b"old")
    real: Callable[..., os.stat_result] = Path.stat

    def told(path: Path, **options: Any) -> os.stat_result:
        found = real(path, **options)
        return os.stat_result((stat.S_IFCHR | 0o666, *found[1:])) if path == file else found

    monkeypatch.setattr(Path, "stat", told)
    with pytest.raises(ValueError, match="device' is a device, expected a regular file or none"):
        chat.save(file)
    monkeypatch.undo()
    assert file.read_bytes() == b"old"


def test_paths_that_are_none(chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path, message in (("", "path '' is an empty path"), ("a\0b", r"path 'a\\x00b'|null byte")):
        with pytest.raises(ValueError, match=message):
            chat.save(path)
    with pytest.raises(FileNotFoundError):
        chat.save(tmp_path / "no" / "talk")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises((OSError, ValueError)):
        chat.save(loop)
    assert list(tmp_path.iterdir()) == [loop]


def test_a_file_that_may_not_be_written(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the folder may; root may write anything, and is told otherwise."""
    file = tmp_path / "talk"
    file.write_bytes(b"old")
    file.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError):
        chat.save(file)
    assert file.read_bytes() == b"old"


def test_a_file_name_may_have_255_letters(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 255)
    write_whole(file, [b"new"])
    assert file.read_bytes() == b"new"


N_PAST, PENDING, PROMPT_CELLS, PARTS = 8, 12, 16, 36
"""Where numbers stand in the core's bytes (conversation.cpp)."""
HALF_NAN = b"\x00\x7e"


def _first_value(state: bytes) -> int:
    """Offset of the first layer's K, after parts, lengths and each cell's position and sequence."""
    n_parts = struct.unpack_from("<Q", state, PARTS)[0]
    sequence = PARTS + 8 + 8 * n_parts + 8
    n_cells = struct.unpack_from("<I", state, sequence + 12)[0]
    cells = sequence + 16
    assert struct.unpack_from("<I", state, cells + 4)[0] == 1, "the sequences of the first cell"
    return int(cells + 12 * n_cells + 8 + 12)


def _last_value(state: bytes) -> int:
    """Of the last layer's V."""
    n_parts = struct.unpack_from("<Q", state, PARTS)[0]
    n_bytes = struct.unpack_from("<Q", state, PARTS + 8 + 8 * n_parts)[0]
    return int(PARTS + 8 + 8 * n_parts + 8 + n_bytes - 2)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (PENDING, struct.pack("<i", -129)),
        (PENDING, struct.pack("<i", 1 << 20)),
        (N_PAST, struct.pack("<i", 13)),
        (N_PAST, struct.pack("<i", 1 << 20)),
        (N_PAST, struct.pack("<i", -5)),
        (N_PAST, struct.pack("<i", (1 << 31) - 1)),
        (PROMPT_CELLS, struct.pack("<i", -1)),
        (PARTS + 8, struct.pack("<i", -1)),
        (PARTS + 8 + 4, b"\x07"),
    ],
    ids=["no token", "no such token", "past", "later", "before", "far", "cells", "part", "kind"],
)
def test_a_state_that_makes_no_sense(
    chat: Chat, llm: Llava, tmp_path: Path, at: int, value: bytes
) -> None:
    """Its checksum is right; the next turn failed, with an error of llama.cpp's."""
    path = tmp_path / "talk"
    chat.save(path)
    header, state = read_state(path)
    changed = state[:at] + value + state[at + len(value) :]
    if at == N_PAST:  # as many cells have been read as that needs
        changed = changed[:PROMPT_CELLS] + struct.pack("<i", 1 << 30) + changed[PROMPT_CELLS + 4 :]
    write_state(path, dict(header), changed)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="state: it is damaged"):
        llm.load_state(path)


@pytest.mark.parametrize("where", [_first_value, _last_value])
def test_cells_that_hold_no_numbers(
    chat: Chat, llm: Llava, tmp_path: Path, where: Callable[[bytes], int]
) -> None:
    """What came after it in the same cache was wrong, too: nothing times NaN is NaN."""
    path = tmp_path / "talk"
    chat.save(path)
    header, state = read_state(path)
    at = where(state)
    write_state(path, dict(header), state[:at] + HALF_NAN + state[at + 2 :])  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="state: a cell holds what is no number"):
        llm.load_state(path)
    write_state(path, dict(header), state)  # type: ignore[call-overload]
    assert llm.load_state(path).n_turns == 1


KILLED = """
import os, signal, sys
from lookm_cpp.whole_file import write_whole

def pieces():
    yield b"x" * 1_000_000
    sys.stdout.write("half\\n")
    sys.stdout.flush()
    signal.pause()

write_whole(sys.argv[1], pieces())
"""


def test_what_a_killed_process_has_left_is_used_up(tmp_path: Path) -> None:
    file = tmp_path / "talk"
    file.write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        left = [path for path in tmp_path.iterdir() if path != file]
        assert [path.name for path in left] == [".talk.saving"]
        child.send_signal(signal.SIGKILL)
    assert left[0].exists()
    assert file.read_bytes() == b"old"
    write_whole(file, [b"new"])
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == b"new"


def test_who_writes_the_same_file_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "talk"
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"first"
        begun.set()
        assert go_on.wait(20)
        yield b" whole"

    first = threading.Thread(target=write_whole, args=(file, slow()))
    first.start()
    assert begun.wait(20)
    monkeypatch.setattr(whole_file, "LOCK_SECONDS", 0.1)
    with pytest.raises(TimeoutError, match="another process is writing it"):
        write_whole(file, [b"second"])
    assert not file.exists()
    monkeypatch.setattr(whole_file, "LOCK_SECONDS", 20)
    others = [
        threading.Thread(target=write_whole, args=(file, [bytes([n]) * 1000])) for n in range(8)
    ]
    for other in others:
        other.start()
    go_on.set()
    for thread in (first, *others):
        thread.join()
    assert file.read_bytes() in [bytes([n]) * 1000 for n in range(8)]
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_leaves_the_old_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "talk"
    file.write_bytes(b"old")

    def broken() -> Iterator[bytes]:
        yield b"new"
        raise KeyError("broken")

    with pytest.raises(KeyError):
        write_whole(file, broken())  # type: ignore[arg-type]
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
    (tmp_path / ".talk.saving").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(file, [b"new"])
    (tmp_path / ".talk.saving").rmdir()
    os.mkfifo(tmp_path / ".talk.saving")
    with pytest.raises(FileExistsError, match="has the name of the temporary file"):
        write_whole(file, [b"new"])
    (tmp_path / ".talk.saving").unlink()
    other = tmp_path / "other"
    other.write_bytes(b"other")
    (tmp_path / ".talk.saving").symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        write_whole(file, [b"new"])
    assert (file.read_bytes(), other.read_bytes()) == (b"old", b"other")


def _keys(header: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in header.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from _keys(value, (*before, key))


def _parent(header: Any, key: tuple[str, ...]) -> Any:
    for name in key[:-1]:
        header = header[name]
    return header


LATER = ("ratio_floor", "ratio_ceiling", "quality", "merge")


def test_a_header_of_version_0_1_0(chat: Chat, llm: Llava, tmp_path: Path) -> None:
    """It lacks the fields that came later, which then have their defaults."""
    file = tmp_path / "talk"
    chat.save(file)
    header, state = read_state(file)
    older: Any = json.loads(json.dumps(header))
    for name in LATER:
        del older["compression"][name]
    write_state(file, older, state)
    answer = chat.ask("And now?", max_tokens=4)
    assert llm.load_state(file).ask("And now?", max_tokens=4) == answer


def test_headers_of_another_shape(chat: Chat, llm: Llava, tmp_path: Path) -> None:
    """With the right checksum, each is refused by one kind of error and ends no conversation."""
    file, bad = tmp_path / "talk", tmp_path / "bad"
    chat.save(file)
    header, state = read_state(file)
    text = json.dumps(header)
    tried = 0
    for key in _keys(header):
        for change in (
            "missing",
            "more",
            None,
            5,
            -1,
            0.5,
            "x",
            [],
            {},
            True,
            [1],
            {"a": 1},
            1e400,
        ):
            other = json.loads(text)
            parent = _parent(other, key)
            if change == "missing" and key[-1] in LATER:
                continue
            if change == "missing":
                del parent[key[-1]]
            elif change == "more":
                parent["more"] = 1
            else:
                parent[key[-1]] = change
            if other == header:
                continue
            write_state(bad, other, state)
            tried += 1
            try:
                taken_up = llm.load_state(bad)
            except ValueError:
                continue
            harmless = {
                (("mmproj",), None),
                (("system",), None),
                (("system",), "x"),
                (("turns",), 5),
            }
            assert (key, change) in harmless or key[0] == "compression", (key, change)
            assert change not in ("missing", "more")
            del taken_up
    assert tried > 200
    for other in ([], "x", 5, None, {}):
        write_state(bad, other, state)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="has the keys"):
            llm.load_state(bad)


def _file(
    words: bytes, state: bytes, n_words: int | None = None, n_state: int | None = None
) -> bytes:
    n_words, n_state = (
        (len(words) if n_words is None else n_words),
        (len(state) if n_state is None else n_state),
    )
    body = b"LOOKMTLK" + struct.pack("<II", 2, n_words) + words + struct.pack("<Q", n_state) + state
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (_file(b"{", b"state"), "has a header that is not JSON"),
        (_file(b"\xff", b"state"), "has a header that is not JSON"),
        (_file(b"[" * 200_000, b"state"), "has a header that is not JSON"),
        (_file(b"{}", b"state", n_words=1 << 31), "states lengths that its parts do not have"),
        (_file(b"{}", b"state", n_state=6), "states lengths that its parts do not have"),
        (_file(b"{}", b"state", n_state=1 << 63), "states lengths that its parts do not have"),
        (_file(b"{}", b""), "has the keys"),
    ],
)
def test_files_with_a_right_checksum(
    llm: Llava, tmp_path: Path, whole: bytes, message: str
) -> None:
    (tmp_path / "bad").write_bytes(whole)
    with pytest.raises(ValueError, match=message):
        llm.load_state(tmp_path / "bad")


def test_a_file_is_of_a_chat_template(chat: Chat, llm: Llava, tmp_path: Path) -> None:
    chat.save(tmp_path / "talk")
    with Llava.embedded(kv_ratio=0.5, chat_template="vicuna") as other:
        with pytest.raises(
            ValueError, match="was made with chat_template the model's own, expected 'vicuna'"
        ):
            other.load_state(tmp_path / "talk")
        theirs = other.chat()
        theirs.ask("Hi", max_tokens=2)
        theirs.save(tmp_path / "theirs")
        assert other.load_state(tmp_path / "theirs").n_turns == 1
    with pytest.raises(
        ValueError, match="was made with chat_template 'vicuna', expected the model's own"
    ):
        llm.load_state(tmp_path / "theirs")
