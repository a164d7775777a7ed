"""GGUF files with one thing wrong: a field, a tensor's name, shape or type, a count, a byte.

``mutations(source, seed)`` yields them without end, the same ones for the same seed. ``GgufFile``
makes one on purpose:

>>> from lookm_cpp.embedded import MMPROJ
>>> file = GgufFile.read(MMPROJ)
>>> changed = file.with_value("clip.vision.patch_size", 7).pack()
>>> len(changed) == len(file.pack()) == MMPROJ.stat().st_size
True
"""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
from gguf import GGMLQuantizationType, GGUFValueType

SCALARS: dict[GGUFValueType, str] = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}
FLOATS = (GGUFValueType.FLOAT32, GGUFValueType.FLOAT64)
NUMBERS = (
    0,
    1,
    2,
    3,
    5,
    7,
    16,
    64,
    128,
    191,
    255,
    256,
    257,
    512,
    1000,
    4096,
    65535,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
)
REALS = (
    0.0,
    -0.0,
    -1.0,
    1e-45,
    1e-5,
    1.0,
    2.0,
    1e6,
    1e30,
    -1e30,
    float("inf"),
    float("-inf"),
    float("nan"),
)
WORDS = (
    "", "x", "none", "default", "llama", "qwen2", "qwen2vl", "gpt2", "bert", "t5", "rwkv", "mamba",
    "gemma3", "clip", "mlp", "ldp", "ldpv2", "resampler", "adapter", "qwen2vl_merger",
    "qwen2.5vl_merger", "idefics3", "pixtral", "internvl", "llama4", "ultravox", "lfm2", "kimivl",
    "minicpmv", "glm_edge", "yarn", "linear", "longrope",
    "\xff", "a" * 300, "{{ 1 }}", "{% for m in messages %}{{ m.content }}{% endfor %}", "{{",
)  # fmt: skip


@dataclass
class Field:
    """A value as it lies in the file: its type, and its bytes. An array's items are apart."""

    type: int
    body: bytes = b""
    item_type: int | None = None
    items: list[bytes] = field(default_factory=list)

    def pack(self) -> bytes:
        if self.item_type is None:
            return struct.pack("<I", self.type) + self.body
        head = struct.pack("<IIQ", self.type, self.item_type, len(self.items))
        return head + b"".join(self.items)


@dataclass
class Tensor:
    name: bytes
    shape: list[int]
    type: int
    offset: int

    def pack(self) -> bytes:
        return (
            _text(self.name)
            + struct.pack(
                f"<I{len(self.shape)}Q", len(self.shape), *(n & (1 << 64) - 1 for n in self.shape)
            )
            + struct.pack("<IQ", self.type, self.offset & (1 << 64) - 1)
        )


@dataclass
class GgufFile:
    """All of a GGUF file, to be changed and written again."""

    fields: list[tuple[bytes, Field]]
    tensors: list[Tensor]
    data: bytes
    alignment: int = 32
    magic: bytes = b"GGUF"
    version: int = 3
    n_fields: int | None = None
    """As the header says, where that is not what is there."""
    n_tensors: int | None = None

    @classmethod
    def read(cls, path: Path) -> GgufFile:
        reader = gguf.GGUFReader(path)
        fields = [
            (name.encode(), _field(found))
            for name, found in reader.fields.items()
            if not name.startswith("GGUF.")
        ]
        tensors = [
            Tensor(
                t.name.encode(),
                [int(n) for n in t.shape],
                int(t.tensor_type),
                t.data_offset - reader.data_offset,
            )
            for t in reader.tensors
        ]
        return cls(fields, tensors, path.read_bytes()[reader.data_offset :], reader.alignment)

    def pack(self) -> bytes:
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_fields = len(self.fields) if self.n_fields is None else self.n_fields
        parts = [self.magic, struct.pack("<IQQ", self.version, n_tensors, n_fields)]
        parts += [_text(name) + value.pack() for name, value in self.fields]
        parts += [tensor.pack() for tensor in self.tensors]
        head = b"".join(parts)
        return head + bytes(-len(head) % self.alignment) + self.data

    def field(self, name: str) -> Field:
        return next(value for key, value in self.fields if key == name.encode())

    def tensor(self, name: str) -> Tensor:
        return next(tensor for tensor in self.tensors if tensor.name == name.encode())

    def with_value(self, name: str, value: Any, kind: GGUFValueType | None = None) -> GgufFile:
        """Another value; its type stays unless ``kind`` is given, and a list is an array of it."""
        changed = copy.deepcopy(self)
        old = changed.field(name)
        if isinstance(value, list):
            old.item_type = int(kind or GGUFValueType(old.item_type or old.type))
            old.type = int(GGUFValueType.ARRAY)
            old.items = [_bytes(GGUFValueType(old.item_type), item) for item in value]
        else:
            old.type = int(kind or GGUFValueType(old.type))
            old.item_type = None
            old.body = _bytes(GGUFValueType(old.type), value)
        return changed

    def with_item(self, name: str, i: int, value: bytes) -> GgufFile:
        """Another item of an array of strings."""
        changed = copy.deepcopy(self)
        changed.field(name).items[i] = _text(value)
        return changed

    def without(self, name: str) -> GgufFile:
        changed = copy.deepcopy(self)
        changed.fields = [(key, value) for key, value in changed.fields if key != name.encode()]
        return changed

    def with_field(self, name: str, value: Any, kind: GGUFValueType) -> GgufFile:
        """One more, or another in its place."""
        changed = self.without(name)
        changed.fields.append((name.encode(), Field(int(kind), _bytes(kind, value))))
        return changed

    def with_tensor(self, name: str, /, **changes: Any) -> GgufFile:
        """Another ``name``, ``shape``, ``type`` or ``offset`` of a tensor."""
        changed = copy.deepcopy(self)
        tensor = changed.tensor(name)
        for key, value in changes.items():
            setattr(tensor, key, value.encode() if isinstance(value, str) else value)
        return changed


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _bytes(kind: GGUFValueType, value: Any) -> bytes:
    if kind == GGUFValueType.STRING:
        return _text(value if isinstance(value, bytes) else value.encode())
    if kind in FLOATS:
        return struct.pack("<" + SCALARS[kind], value)
    n_bits = 8 * struct.calcsize(SCALARS[kind])
    if kind == GGUFValueType.BOOL:
        return bytes([int(value) & 255])
    return (int(value) & (1 << n_bits) - 1).to_bytes(n_bits // 8, "little")


def _field(found: gguf.ReaderField) -> Field:
    kind = found.types[0]
    # parts: length of the name, the name, the type, and then the value's own; an array's item type
    # and length first
    values = [bytes(part) for part in found.parts[3:]]
    if kind != GGUFValueType.ARRAY:
        return Field(int(kind), b"".join(values))
    items = values[2:]
    if found.types[-1] == GGUFValueType.STRING:
        items = [length + text for length, text in zip(items[::2], items[1::2], strict=True)]
    return Field(int(kind), b"", int(found.types[-1]), items)


Mutation = Callable[[GgufFile, random.Random], tuple[str, GgufFile]]


def _number(rng: random.Random, kind: GGUFValueType, old: bytes) -> Any:
    code = SCALARS[kind]
    (value,) = struct.unpack(
        "<" + code, old[: struct.calcsize(code)].ljust(struct.calcsize(code), b"\0")
    )
    if kind in FLOATS:
        return rng.choice((*REALS, value * 2, -value, value + 1))
    near = (
        value + 1,
        value - 1,
        value * 2,
        value // 2,
        -value,
        value ^ 1 << rng.randrange(8 * struct.calcsize(code)),
    )
    return rng.choice((*NUMBERS, *near, -1))


def change_value(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    """Another value of the same type."""
    name, old = rng.choice([f for f in file.fields if f[1].item_type is None])
    kind = GGUFValueType(old.type)
    key = name.decode(errors="replace")
    if kind == GGUFValueType.STRING:
        text = rng.choice((*WORDS, old.body[8:].decode(errors="replace") + "x"))
        return f"{key} = {text!r:.60}", file.with_value(
            key, text.encode("latin-1", errors="replace")
        )
    value = _number(rng, kind, old.body)
    return f"{key} = {value}", file.with_value(key, value)


def change_item(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    """An item of an array is another, or there is one more or fewer."""
    changed = copy.deepcopy(file)
    arrays = [f for f in changed.fields if f[1].items]
    if not arrays:
        return change_value(file, rng)
    name, old = rng.choice(arrays)
    key, i, k = name.decode(), rng.randrange(len(old.items)), rng.randrange(len(old.items))
    kind = GGUFValueType(old.item_type or 0)
    what = rng.choice(("value", "copy", "empty", "drop", "double", "cut", "none"))
    if what == "value" and kind in SCALARS:
        value = _number(rng, kind, old.items[i])
        old.items[i] = _bytes(kind, value)
        return f"{key}[{i}] = {value}", changed
    if what == "drop":
        del old.items[i]
    elif what == "double":
        old.items.insert(i, old.items[i])
    elif what == "cut":
        del old.items[i:]
    elif what == "none":
        old.items.clear()
    elif what == "empty" and kind == GGUFValueType.STRING:
        old.items[i] = _text(b"")
    else:
        old.items[i] = old.items[k]
        what = f"copy of [{k}]"
    return f"{key}[{i}] {what}", changed


def change_type(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    """The same value as another type, or the same bytes called another type."""
    changed = copy.deepcopy(file)
    name, old = rng.choice(changed.fields)
    key, kind = name.decode(), rng.choice((*SCALARS, GGUFValueType.STRING))
    if old.item_type is not None:
        old.item_type = int(kind)
        if kind in SCALARS:
            old.items = [
                item[: struct.calcsize(SCALARS[kind])].ljust(struct.calcsize(SCALARS[kind]), b"\0")
                for item in old.items
            ]
        return f"{key}: array of {kind.name}", changed
    if rng.random() < 0.2:
        old.item_type, old.items = old.type, [old.body]
        old.type = int(GGUFValueType.ARRAY)
        return f"{key}: array of one", changed
    width = 8 if kind == GGUFValueType.STRING else struct.calcsize(SCALARS[kind])
    old.body = _text(b"1") if kind == GGUFValueType.STRING else old.body[:width].ljust(width, b"\0")
    old.type = int(kind)
    return f"{key}: {kind.name}", changed


def rename_field(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    changed = copy.deepcopy(file)
    i = rng.randrange(len(changed.fields))
    name, value = changed.fields[i]
    new = rng.choice((name + b"x", name[:-1], b"", name.upper(), rng.choice(changed.fields)[0]))
    changed.fields[i] = (new, value)
    return f"{name.decode()} renamed {new.decode()!r}", changed


def drop_field(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    name = rng.choice(file.fields)[0].decode()
    return f"without {name}", file.without(name)


def rename_tensor(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    name = rng.choice(file.tensors).name
    new = rng.choice(
        (name + b"x", name[1:], b"", name.replace(b"0", b"1"), rng.choice(file.tensors).name)
    )
    return f"{name.decode()} renamed {new.decode()!r}", file.with_tensor(name.decode(), name=new)


def drop_tensor(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    changed = copy.deepcopy(file)
    gone = changed.tensors.pop(rng.randrange(len(changed.tensors)))
    return f"without {gone.name.decode()}", changed


def change_shape(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    tensor = rng.choice(file.tensors)
    shape = list(tensor.shape)
    i = rng.randrange(len(shape))
    what = rng.choice(("number", "swap", "one more", "one fewer", "flat"))
    if what == "number":
        shape[i] = rng.choice(
            (*NUMBERS, shape[i] * 2, shape[i] // 2, shape[i] + 1, shape[i] - 1, -1)
        )
    elif what == "swap":
        shape.reverse()
    elif what == "one more":
        shape.append(rng.choice((1, 2)))
    elif what == "one fewer":
        shape.pop()
    else:
        n = 1
        for m in shape:
            n *= m
        shape = [n]
    name = tensor.name.decode()
    return f"{name}: {tensor.shape} -> {shape}", file.with_tensor(name, shape=shape)


def change_tensor_type(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    name = rng.choice(file.tensors).name.decode()
    kind = rng.choice((*map(int, GGMLQuantizationType), 4, 5, 99, 1 << 31))
    return f"{name}: type {kind}", file.with_tensor(name, type=kind)


def change_offset(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    tensor = rng.choice(file.tensors)
    offset = rng.choice(
        (
            0,
            tensor.offset + 32,
            tensor.offset + 1,
            len(file.data),
            len(file.data) - 32,
            1 << 40,
            -32,
        )
    )
    name = tensor.name.decode()
    return f"{name}: offset {offset}", file.with_tensor(name, offset=offset)


def change_header(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    changed = copy.deepcopy(file)
    what = rng.choice(("version", "n_fields", "n_tensors", "magic", "alignment"))
    if what == "magic":
        changed.magic = b"GGML"
    elif what == "alignment":
        value = rng.choice(NUMBERS)
        return f"alignment {value}", changed.with_field(
            "general.alignment", value, GGUFValueType.UINT32
        )
    else:
        old = {"version": 3, "n_fields": len(file.fields), "n_tensors": len(file.tensors)}[what]
        setattr(changed, what, rng.choice((0, 1, 2, old + 1, old - 1, (1 << 32) - 1)))
    return f"header: {what} {getattr(changed, what)}", changed


def spoil_weights(file: GgufFile, rng: random.Random) -> tuple[str, GgufFile]:
    """A tensor's bytes are all ones (NaN in most types), or noise."""
    changed = copy.deepcopy(file)
    i = rng.randrange(len(changed.tensors))
    start = changed.tensors[i].offset
    end = min((t.offset for t in changed.tensors if t.offset > start), default=len(changed.data))
    noise = rng.random() < 0.5
    middle = rng.randbytes(end - start) if noise else b"\xff" * (end - start)
    changed.data = changed.data[:start] + middle + changed.data[end:]
    return f"{changed.tensors[i].name.decode()}: {'noise' if noise else 'ones'}", changed


KINDS: tuple[tuple[int, Mutation], ...] = (
    (8, change_value),
    (4, change_item),
    (3, change_type),
    (1, rename_field),
    (2, drop_field),
    (2, rename_tensor),
    (1, drop_tensor),
    (4, change_shape),
    (2, change_tensor_type),
    (1, change_offset),
    (1, change_header),
    (1, spoil_weights),
)


def mutations(source: Path, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield descriptions and bytes of files with one thing wrong, without end.

    Now and then a byte of the header is changed, or the file is cut off.
    """
    file, rng = GgufFile.read(source), random.Random(seed)
    weights = [weight for weight, _ in KINDS]
    whole = file.pack()
    n_head = len(whole) - len(file.data)
    while True:
        if rng.random() < 0.1:
            at = rng.randrange(n_head)
            if rng.random() < 0.7:
                bit = 1 << rng.randrange(8)
                yield f"byte {at} ^ {bit}", whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
            else:
                yield f"cut off at {at}", whole[:at]
            continue
        ((_, change),) = rng.choices(KINDS, weights)
        description, changed = change(file, rng)
        yield f"{change.__name__}: {description}", changed.pack()
