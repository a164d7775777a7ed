"""Random models of a few hundred kilobytes, written as GGUF files: what they say is noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np

Shapes = dict[str, tuple[int, ...]]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
N_FF = 64
STATE, RANK, KERNEL = 4, 4, 4
"""Of a Mamba layer: its state a channel, the rank of its time step, the width of its convolution.
"""


def write_mamba(path: Path, n_embd: int = 256) -> Path:
    """A recurrent model: no KV cache at all."""
    inner = 2 * n_embd
    shapes: Shapes = {
        "ssm_in.weight": (2 * inner, n_embd),
        "ssm_conv1d.weight": (inner, KERNEL),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (RANK + 2 * STATE, inner),
        "ssm_dt.weight": (inner, RANK),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, STATE),
        "ssm_d": (inner,),
        "ssm_out.weight": (n_embd, inner),
    }

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_feed_forward_length(0)
        writer.add_head_count(0)
        writer.add_ssm_conv_kernel(KERNEL)
        writer.add_ssm_inner_size(inner)
        writer.add_ssm_state_size(STATE)
        writer.add_ssm_time_step_rank(RANK)

    return _write(path, "mamba", n_embd, {"attn_norm.weight": (n_embd,), **shapes}, describe)


def write_llama(
    path: Path,
    n_embd: int = 256,
    pieces: Sequence[str] = (),
    n_ctx: int = 512,
    added: Mapping[str, np.ndarray] | None = None,
    chat_template: str | None = CHATML,
    rope_freq_base: float = 10000.0,
) -> Path:
    """What LOOK-M is for.

    ``pieces``: tokens beside the bytes, merged from smaller ones; ``added``: to the weights.
    """
    layer = {**_attention("attn", n_embd), **_feed_forward(n_embd)}

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe_attention(writer)
        writer.add_rope_freq_base(rope_freq_base)

    return _write(path, "llama", n_embd, layer, describe, None, pieces, n_ctx, added, chat_template)


def write_mpt(path: Path, n_embd: int = 256) -> Path:
    """Attention biased by distance in the cache (ALiBi)."""
    shapes: Shapes = {
        "attn_norm.weight": (n_embd,),
        "attn_qkv.weight": (3 * n_embd, n_embd),
        "attn_output.weight": (n_embd, n_embd),
        "ffn_norm.weight": (n_embd,),
        "ffn_up.weight": (N_FF, n_embd),
        "ffn_down.weight": (n_embd, N_FF),
    }

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe_attention(writer)
        writer.add_layer_norm_eps(1e-5)
        writer.add_max_alibi_bias(8.0)

    return _write(path, "mpt", n_embd, shapes, describe)


def write_t5(path: Path, n_embd: int = 256) -> Path:
    """An encoder beside the decoder."""
    both = {
        **_attention("attn", n_embd, "o"),
        **_feed_forward(n_embd),
        "attn_rel_b.weight": (32, 4),
    }
    outer: Shapes = {
        f"{side}.blk.0.{name}": shape for side in ("enc", "dec") for name, shape in both.items()
    }
    outer |= {
        f"dec.blk.0.{name}": shape for name, shape in _attention("cross_attn", n_embd, "o").items()
    }
    outer |= {f"{side}.output_norm.weight": (n_embd,) for side in ("enc", "dec")}

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe_attention(writer)
        writer.add_relative_attn_buckets_count(32)
        writer.add_decoder_start_token_id(0)

    return _write(path, "t5", n_embd, {}, describe, outer)


def write_bert(path: Path, n_embd: int = 256) -> Path:
    """An encoder alone, as embedding models are: no memory, and no next token."""
    weights: Shapes = {f"attn_{x}.weight": (n_embd, n_embd) for x in ("q", "k", "v", "output")}
    weights |= {"ffn_up.weight": (N_FF, n_embd), "ffn_down.weight": (n_embd, N_FF)}
    weights |= {f"{part}_output_norm.weight": (n_embd,) for part in ("attn", "layer")}
    biases: Shapes = {name.replace("weight", "bias"): shape[:1] for name, shape in weights.items()}
    outer: Shapes = {"position_embd.weight": (512, n_embd), "token_types.weight": (2, n_embd)}
    outer |= {f"token_embd_norm.{kind}": (n_embd,) for kind in ("weight", "bias")}

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe_attention(writer)
        writer.add_layer_norm_eps(1e-5)
        writer.add_causal_attention(False)
        writer.add_token_type_count(2)

    return _write(path, "bert", n_embd, {**weights, **biases}, describe, outer)


def _attention(name: str, n_embd: int, output: str = "output") -> Shapes:
    return {
        f"{name}_norm.weight": (n_embd,),
        **{f"{name}_{x}.weight": (n_embd, n_embd) for x in ("q", "k", "v", output)},
    }


def _feed_forward(n_embd: int) -> Shapes:
    rows = {
        "ffn_gate.weight": (N_FF, n_embd),
        "ffn_up.weight": (N_FF, n_embd),
        "ffn_down.weight": (n_embd, N_FF),
    }
    return {"ffn_norm.weight": (n_embd,), **rows}


def _describe_attention(writer: gguf.GGUFWriter) -> None:
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(4)


def _write(
    path: Path,
    arch: str,
    n_embd: int,
    layer: Shapes,
    describe: Callable[[gguf.GGUFWriter], None],
    outer: Shapes | None = None,
    pieces: Sequence[str] = (),
    n_ctx: int = 512,
    added: Mapping[str, np.ndarray] | None = None,
    chat_template: str | None = CHATML,
) -> Path:
    """One layer ``blk.0`` and the ``outer`` tensors (default: the final norm), f32, seeded.

    Norms are ones.
    """
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(f"tiny {arch}")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    describe(writer)
    n_vocab = _add_tokenizer(writer, pieces)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    shapes = {
        "token_embd.weight": (n_vocab, n_embd),
        **(outer or {"output_norm.weight": (n_embd,)}),
    }
    shapes |= {f"blk.0.{name}": shape for name, shape in layer.items()}
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        noise = rng.standard_normal(shape, dtype=np.float32) / np.float32(shape[-1] ** 0.5)
        noise += (added or {}).get(name, 0)
        writer.add_tensor(
            name, np.ones(shape, np.float32) if name.endswith("norm.weight") else noise
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, pieces: Sequence[str]) -> int:
    """The least SentencePiece vocabulary: three control tokens and all bytes; then ``pieces``."""
    kinds = gguf.TokenType
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    tokens += [(piece, kinds.NORMAL) for piece in pieces]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    return len(tokens)
