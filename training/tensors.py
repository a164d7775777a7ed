"""Names and layout of the parameters in the two GGUF files, one list for both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from .config import ModelSize

Layout = Literal["plain", "rope", "patch"]


@dataclass(frozen=True)
class Entry:
    """A tensor: its name in file and model, its rearrangement, and for "rope" its heads."""

    file_name: str
    name: str
    layout: Layout = "plain"
    heads: int = 0

    def to_file(self, tensor: Tensor, size: ModelSize) -> Tensor:
        """From the model's layout to the file's."""
        if self.layout == "rope":
            # Half-split rotary pairs (i, i + half) become neighbours, as llama.cpp rotates them for
            # this architecture.
            split = tensor.unflatten(0, (self.heads, 2, size.head_width // 2))
            return split.transpose(1, 2).flatten(0, 2)
        if self.layout == "patch":
            return tensor.unflatten(1, (3, size.patch, size.patch))
        return tensor

    def from_file(self, tensor: Tensor, size: ModelSize) -> Tensor:
        """The inverse of `to_file`."""
        if self.layout == "rope":
            split = tensor.unflatten(0, (self.heads, size.head_width // 2, 2))
            return split.transpose(1, 2).flatten(0, 2)
        return tensor.flatten(1) if self.layout == "patch" else tensor


def decoder_entries(size: ModelSize) -> list[Entry]:
    """The decoder's tensors.

    There is no output matrix: llama.cpp then takes the token embeddings.
    """
    entries = [
        Entry("token_embd.weight", "decoder.embedding.weight"),
        Entry("output_norm.weight", "decoder.norm"),
    ]
    for number in range(size.blocks):
        file, name = f"blk.{number}", f"decoder.blocks.{number}"
        entries += [
            Entry(f"{file}.attn_norm.weight", f"{name}.attention_norm"),
            Entry(f"{file}.ffn_norm.weight", f"{name}.ffn_norm"),
            Entry(f"{file}.attn_q.weight", f"{name}.query.weight", "rope", size.heads),
            Entry(f"{file}.attn_k.weight", f"{name}.key.weight", "rope", size.kv_heads),
            Entry(f"{file}.attn_v.weight", f"{name}.value.weight"),
            Entry(f"{file}.attn_output.weight", f"{name}.output.weight"),
            Entry(f"{file}.ffn_gate.weight", f"{name}.gate.weight"),
            Entry(f"{file}.ffn_up.weight", f"{name}.up.weight"),
            Entry(f"{file}.ffn_down.weight", f"{name}.down.weight"),
        ]
    return entries


def stored_vision_blocks(size: ModelSize) -> int:
    """Blocks in the mmproj file, with a spare one: llama.cpp's LLaVA graph skips the last."""
    return size.vision_blocks + 1


def vision_entries(size: ModelSize) -> list[Entry]:
    """Tensors of encoder and projector; the spare block, a copy of the last, never runs."""
    entries = [
        Entry("v.patch_embd.weight", "vision.patch.weight", "patch"),
        Entry("v.position_embd.weight", "vision.position"),
        *_with_bias("v.pre_ln", "vision.pre_norm"),
    ]
    layers = {
        "ln1": "norm1",
        "ln2": "norm2",
        "attn_q": "query",
        "attn_k": "key",
        "attn_v": "value",
        "attn_out": "output",
        "ffn_up": "up",
        "ffn_down": "down",
    }
    for number in range(stored_vision_blocks(size)):
        source = min(number, size.vision_blocks - 1)
        for file_layer, layer in layers.items():
            entries += _with_bias(f"v.blk.{number}.{file_layer}", f"vision.blocks.{source}.{layer}")
    # 0 and 2, because the GELU between them is number 1 of LLaVA's projector.
    return [
        *entries,
        *_with_bias("mm.0", "projector.first"),
        *_with_bias("mm.2", "projector.second"),
    ]


def _with_bias(file: str, name: str) -> list[Entry]:
    return [Entry(f"{file}.{part}", f"{name}.{part}") for part in ("weight", "bias")]


def to_files(
    parameters: dict[str, Tensor], entries: Callable[[ModelSize], list[Entry]], size: ModelSize
) -> dict[str, Tensor]:
    """The tensors of one file by their names there, float32."""
    return {
        entry.file_name: entry.to_file(parameters[entry.name].float(), size)
        for entry in entries(size)
    }


def from_file(
    tensors: dict[str, Tensor], entries: list[Entry], size: ModelSize
) -> dict[str, Tensor]:
    """The model's parameters from the tensors of files."""
    return {entry.name: entry.from_file(tensors[entry.file_name], size) for entry in entries}
