"""A slot file whose bits have changed is refused, and the slot stays what it was."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from lookm_cpp.embedded import DemoPrompt

from server.servers import Server, content, running

N_CHECKSUM = 16
"""Bytes behind llama.cpp's own."""


@pytest.fixture(scope="module")
def saved(folder: Path, short: list[DemoPrompt]) -> bytes:
    with running(folder, "--kv-ratio", "0.5", "-np", "1", "-c", "1024") as server:
        server.chat(short[0], max_tokens=8)
        server.post("/slots/0?action=save", filename="whole.bin")
    return (folder / "whole.bin").read_bytes()


@pytest.fixture(scope="module")
def one_slot(folder: Path) -> Iterator[Server]:
    with running(folder, "--kv-ratio", "0.5", "-np", "1", "-c", "1024") as server:
        yield server


def _restore(server: Server, folder: Path, data: bytes) -> tuple[int, str]:
    (folder / "flipped.bin").write_bytes(data)
    response = server.http.post("/slots/0?action=restore", json={"filename": "flipped.bin"})
    return response.status_code, response.text


def test_any_flipped_bit_is_noticed(
    one_slot: Server, folder: Path, saved: bytes, short: list[DemoPrompt]
) -> None:
    """Byte 547 held a cell's position; the slot could not be used any more after its bit 7 was
    flipped.
    """
    expected = content(one_slot.chat(short[1], max_tokens=8))
    n_before = one_slot.metrics()["lookm:kv_cells_used"]
    draw = random.Random(0)
    for at, bit in [(547, 7)] + [
        (draw.randrange(len(saved)), draw.randrange(8)) for _ in range(60)
    ]:
        flipped = bytearray(saved)
        flipped[at] ^= 1 << bit
        status, text = _restore(one_slot, folder, bytes(flipped))
        assert status == 400, (at, bit, text)
    assert one_slot.uses_cells(int(n_before)), (
        "a file with a checksum is refused before the slot is touched"
    )
    assert content(one_slot.chat(short[1], max_tokens=8)) == expected
    assert _restore(one_slot, folder, saved)[0] == 200
    assert content(one_slot.chat(short[1], max_tokens=8)) == expected


def test_cells_without_numbers(folder: Path, short: list[DemoPrompt]) -> None:
    """An erased slot stayed spoiled, and so did its neighbours: without flash attention, nothing
    times NaN is NaN.
    """
    flags = ("--kv-ratio", "0.5", "-np", "2", "--kv-unified", "-c", "1024", "-fa", "off")
    with running(folder, *flags) as server:
        expected = content(server.chat(short[1], max_tokens=8, id_slot=1, cache_prompt=False))
        server.chat(short[0], max_tokens=8, id_slot=0)
        server.post("/slots/0?action=save", filename="numbers.bin")
        plain = (folder / "numbers.bin").read_bytes()[:-N_CHECKSUM]
        assert _restore(server, folder, plain[:-2] + b"\x00\x7e")[0] == 400
        assert (
            content(server.chat(short[1], max_tokens=8, id_slot=1, cache_prompt=False)) == expected
        )
        assert _restore(server, folder, plain)[0] == 200


def test_cells_without_a_position(
    one_slot: Server, folder: Path, saved: bytes, short: list[DemoPrompt]
) -> None:
    """A file of llama-server itself has no checksum."""
    expected = content(one_slot.chat(short[1], max_tokens=8))
    plain = saved[:-N_CHECKSUM]
    n_tokens = struct.unpack_from("<I", plain, 8)[0]
    first_cell = 12 + 4 * n_tokens + 8
    assert struct.unpack_from("<iI", plain, first_cell)[1] == 1, "position, number of sequences"
    for value in (-1, -(2**31), n_tokens, 2**31 - 1):
        changed = bytearray(plain)
        struct.pack_into("<i", changed, first_cell, value)
        assert _restore(one_slot, folder, bytes(changed))[0] == 400
        assert content(one_slot.chat(short[1], max_tokens=8)) == expected
    assert _restore(one_slot, folder, plain)[0] == 200
    one_slot.erase_slots()
    assert one_slot.uses_cells(0)
    assert content(one_slot.chat(short[1], max_tokens=8)) == expected
