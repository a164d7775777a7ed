"""GGUF files made from others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf


def split(source: Path, target: Path, n_tensors: int) -> list[Path]:
    """The same model in parts of so many tensors, ``target-00001-of-0000N.gguf`` and so on."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(
        target, str(reader.fields["general.architecture"].contents()), split_max_tensors=n_tensors
    )
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            item = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], item)
    for tensor in reader.tensors:
        data: Any = tensor.data
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(target.parent.glob(f"{target.stem}-*-of-*.gguf"))


def change_a_weight(file: Path) -> None:
    """A weight of the last tensor becomes another one."""
    whole = bytearray(file.read_bytes())
    whole[-64] ^= 1
    file.write_bytes(whole)
