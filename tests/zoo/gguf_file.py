"""Writes GGUF files with random weights from metadata and shapes."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt


class Int(int):
    """An int that is written as i32."""


Shapes = dict[str, tuple[int, ...]]
Metadata = dict[str, Any]
"""Plain values; an int is written as u32, a list of strings, ints or floats as an array."""


def write(
    path: Path,
    arch: str,
    metadata: Metadata,
    shapes: Shapes,
    zero_rows: dict[str, int] | None = None,
) -> Path:
    """Writes a file. Shapes are NumPy's, the reverse of ggml's.

    The numbers of a tensor depend only on its name and shape. ``zero_rows`` names matrices and how
    many of their first rows are zero.
    """
    writer = gguf.GGUFWriter(path, arch)
    for key, value in metadata.items():
        _add(writer, key, value)
    for name, shape in shapes.items():
        weights = _weights(name, shape)
        weights[: (zero_rows or {}).get(name, 0)] = 0
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def linear(name: str, n_in: int, n_out: int) -> Shapes:
    """A matrix and its bias."""
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def norm(name: str, n: int) -> Shapes:
    """A layer norm."""
    return {f"{name}.weight": (n,), f"{name}.bias": (n,)}


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, Int):
        writer.add_int32(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _weights(name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Random numbers: norms near 1, other vectors near 0, matrices scaled by 1/sqrt(fan in)."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    noise = rng.standard_normal(shape, dtype=np.float32)
    if name.endswith("ssm_a"):  # the decay of a state is negative
        return np.asarray(-np.abs(noise))
    if len(shape) == 1:
        return np.asarray(noise * np.float32(0.1) + np.float32(name.endswith(".weight")))
    values = np.asarray(noise / np.float32(np.prod(shape[1:]) ** 0.5))
    # llama.cpp's depthwise convolution multiplies f16 by f16
    return values.astype(np.float16) if len(shape) == 4 and shape[1] == 1 else values
