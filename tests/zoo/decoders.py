"""Tiny random language models with the architectures that multimodal models use."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import gguf

from zoo.gguf_file import Metadata, Shapes, write

N_EMBD, N_FF, N_HEAD, N_HEAD_KV, HEAD_DIM = 128, 192, 4, 2, 32
FIRST_BYTE = 3
"""Token of the byte 0; the ones before are unknown, begin and end of text, and never win: their
logits are 0.
"""
SPACE = "\u2581"
"""How SentencePiece writes it."""
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@dataclass(frozen=True)
class Decoder:
    """How an architecture differs from llama."""

    arch: str
    n_layer: int = 3
    bias: bool = False
    head_norm: bool = False
    post_norm: bool = False
    metadata: Metadata = field(default_factory=dict)
    """Keys without the architecture's name in front."""
    outer: Shapes = field(default_factory=dict)
    """What lies before and after the layers, beside the embeddings and the last norm."""
    layer_outer: Shapes = field(default_factory=dict)
    """What a layer has beside attention and feed-forward."""
    special: tuple[int, ...] = ()
    """Layers with something else than plain attention."""
    instead: Shapes = field(default_factory=dict)
    """What those have in its place."""
    wide_query: bool = False
    """Q brings a gate for attention's result."""
    wide_up: bool = False
    """Feed-forward has its gate in one matrix with what it gates."""
    names: dict[str, str] = field(default_factory=dict)
    """Tensors that the architecture calls otherwise."""
    token_embd: dict[str, int] = field(default_factory=dict)
    """Further tables with a row for each token, and their widths."""


def write_decoder(
    path: Path, decoder: Decoder, special_tokens: list[str], chat_template: str | None = TEMPLATE
) -> Path:
    """Writes a model whose tokenizer has one token for each byte and each special text."""
    vocabulary, n_vocab = _vocabulary(special_tokens)
    sizes = {
        "context_length": 1024,
        "embedding_length": N_EMBD,
        "block_count": decoder.n_layer,
        "feed_forward_length": N_FF,
        "attention.head_count": N_HEAD,
        "attention.head_count_kv": N_HEAD_KV,
        "attention.key_length": HEAD_DIM,
        "attention.value_length": HEAD_DIM,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": HEAD_DIM,
        "vocab_size": n_vocab,
        **decoder.metadata,
    }
    metadata = {
        "general.name": f"tiny {decoder.arch}",
        **{f"{decoder.arch}.{k}": v for k, v in sizes.items()},
    }
    shapes: Shapes = {"token_embd.weight": (n_vocab, N_EMBD), "output_norm.weight": (N_EMBD,)}
    shapes["output.weight"] = (n_vocab, N_EMBD)
    shapes |= decoder.outer | {name: (n_vocab, width) for name, width in decoder.token_embd.items()}
    for i in range(decoder.n_layer):
        shapes |= {f"blk.{i}.{name}": shape for name, shape in _block(decoder, i).items()}
    for name, other in decoder.names.items():
        shapes = {
            key.replace(name, other) if key.endswith(name) else key: shape
            for key, shape in shapes.items()
        }
    if chat_template is not None:
        metadata["tokenizer.chat_template"] = chat_template
    return write(
        path, decoder.arch, metadata | vocabulary, shapes, zero_rows={"output.weight": FIRST_BYTE}
    )


def _block(decoder: Decoder, i: int) -> Shapes:
    attention = decoder.instead if i in decoder.special else _attention(decoder)
    shapes: Shapes = {
        "attn_norm.weight": (N_EMBD,),
        **attention,
        "ffn_norm.weight": (N_EMBD,),
        "ffn_up.weight": (2 * N_FF if decoder.wide_up else N_FF, N_EMBD),
        "ffn_down.weight": (N_EMBD, N_FF),
    }
    if not decoder.wide_up:
        shapes["ffn_gate.weight"] = (N_FF, N_EMBD)
    if decoder.post_norm:
        shapes |= {f"post_{part}_norm.weight": (N_EMBD,) for part in ("attention", "ffw")}
    return shapes | decoder.layer_outer


def _attention(decoder: Decoder) -> Shapes:
    wide, narrow = N_HEAD * HEAD_DIM, N_HEAD_KV * HEAD_DIM
    shapes: Shapes = {
        "attn_q.weight": (2 * wide if decoder.wide_query else wide, N_EMBD),
        "attn_k.weight": (narrow, N_EMBD),
        "attn_v.weight": (narrow, N_EMBD),
        "attn_output.weight": (N_EMBD, wide),
    }
    if decoder.bias:
        shapes |= {f"attn_{x}.bias": shapes[f"attn_{x}.weight"][:1] for x in "qkv"}
    if decoder.head_norm:
        shapes |= {f"attn_{x}_norm.weight": (HEAD_DIM,) for x in "qk"}
    return shapes


def _vocabulary(special_tokens: list[str]) -> tuple[Metadata, int]:
    kinds = gguf.TokenType
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    tokens += [(SPACE, kinds.NORMAL), *((text, kinds.USER_DEFINED) for text in special_tokens)]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [text for text, _ in tokens],
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": [int(kind) for _, kind in tokens],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": False,
    }
    return metadata, len(tokens)
