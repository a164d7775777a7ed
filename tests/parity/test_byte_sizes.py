"""The grammar of sizes, in Python and on the server's command line, with cases written by hand."""

from __future__ import annotations

import pytest
from lookm_cpp.sizes import byte_count
from server.servers import refused

MOST = (1 << 63) - 1
TAKEN = [
    ("4096", 4096),
    ("1B", 1),
    ("1k", 1024),
    ("512MiB", 512 * 1024**2),
    ("512M", 512 * 1024**2),
    ("1G", 1024**3),
    ("1g", 1024**3),
    ("1gb", 10**9),
    ("1.5 GiB", 3 * 1024**3 // 2),
    ("1.5 GB", 1_500_000_000),
    (" 2 TiB\t", 2 * 1024**4),
    ("0.5KiB", 512),
    ("0.001KB", 1),
    (str(MOST), MOST),
]
REFUSED = [
    "",
    "much",
    "0",
    "-1",
    "0.0001KB",
    "1.5.5G",
    ".5G",
    "5.G",
    "1 GiB more",
    "1XB",
    "1GIB B",
    "1e9",
    "0x10",
    "MiB",
]


@pytest.mark.parametrize(("text", "expected"), TAKEN)
def test_sizes_with_units_are_bytes(text: str, expected: int) -> None:
    assert byte_count("kv_memory", text) == expected


@pytest.mark.parametrize("text", [*REFUSED, str(MOST + 1), "8388608TiB", "\u0661G", "1\0G"])
def test_texts_that_are_no_size_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"kv_memory is .*, expected bytes such as 512MiB"):
        byte_count("kv_memory", text)


@pytest.mark.parametrize("number", [0, -5, 1.5, b"1G", [1]])
def test_only_whole_numbers_above_zero_are_bytes(number: object) -> None:
    assert byte_count("memory", 7) == 7
    with pytest.raises(ValueError, match=r"memory is .*, expected bytes such as 512MiB"):
        byte_count("memory", number)  # type: ignore[arg-type]


def test_the_server_reads_them_alike() -> None:
    """The error about two caps shows the size that the server has read, in bytes."""
    for text, expected in TAKEN[:-1]:
        status, said = refused("--kv-memory", text, "--kv-cells", "512")
        assert status == 2
        assert f"--kv-memory: {expected} bytes" in said
    for text in REFUSED:
        status, said = refused("--kv-memory", text, "--kv-cells", "512")
        assert status == 2
        assert f'--kv-memory: "{text}", expected bytes such as 512MiB' in said
