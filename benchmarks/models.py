"""A model of LLaVA-1.5-7B's layer shape with random weights: as fast as the real one, and made in seconds.

    python -m benchmarks.models MODEL.gguf --layers 8

Width, heads, feed-forward width and Q4_0 weights are those of the 7B model's language part, so each layer computes and
caches exactly what a real one does. Two things are smaller: the number of layers, and the vocabulary (4,096 tokens for
32,000), which only the last matrix product of a token sees. What the model says is noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

N_EMBD = 4096
N_FF = 11008
N_HEAD = 32
N_VOCAB = 4096
N_CTX = 8192

# A Q4_0 block: one f16 scale d and 32 nibbles q, for the weights d * (q - 8).
BLOCK = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q4_0][0]
BLOCK_BYTES = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q4_0][1]
NIBBLE_RMS = float(np.sqrt(np.mean((np.arange(16) - 8.0) ** 2)))

Bytes = npt.NDArray[np.uint8]


def random_q4_0(rng: np.random.Generator, n_rows: int, n_cols: int) -> Bytes:
    """Random blocks ``[n_rows, n_cols / 32 * 18]`` whose weights have mean 0 and variance ``1 / n_cols``.

    The scale's sign is random: nibbles reach from -8 to 7, and a common sign would leave a mean of -d / 2. With this
    variance a product with rows of size one is of size one again, so activations stay finite through any depth.
    """
    n_blocks = n_rows * n_cols // BLOCK
    blocks = rng.integers(0, 256, (n_blocks, BLOCK_BYTES), dtype=np.uint8)
    scale = np.float16(1 / (NIBBLE_RMS * np.sqrt(n_cols)))
    sign = rng.integers(0, 2, n_blocks) * 2 - 1
    blocks[:, :2] = (sign * scale).astype("<f2").view(np.uint8).reshape(n_blocks, 2)
    return blocks.reshape(n_rows, -1)


def matrices(n_layer: int) -> dict[str, tuple[int, int]]:
    """Name -> (rows, columns) of every Q4_0 matrix."""
    shapes = {"token_embd": (N_VOCAB, N_EMBD)}
    for il in range(n_layer):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{il}.{name}"] = (N_EMBD, N_EMBD)
        shapes[f"blk.{il}.ffn_gate"] = (N_FF, N_EMBD)
        shapes[f"blk.{il}.ffn_up"] = (N_FF, N_EMBD)
        shapes[f"blk.{il}.ffn_down"] = (N_EMBD, N_FF)
    shapes["output"] = (N_VOCAB, N_EMBD)
    return shapes


def norms(n_layer: int) -> list[str]:
    """Names of the f32 norm weights, all ones."""
    layers = [f"blk.{il}.{name}" for il in range(n_layer) for name in ("attn_norm", "ffn_norm")]
    return [*layers, "output_norm"]


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    """The least SentencePiece vocabulary: three control tokens, all bytes, and words that no text holds."""
    kinds = gguf.TokenType
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    tokens += [(f"\u2581filler{i}", kinds.NORMAL) for i in range(N_VOCAB - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([-float(i) for i in range(N_VOCAB)])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)


def write_llava_shape(path: str | Path, n_layer: int = 8, seed: int = 0) -> None:
    """Write the model to ``path``: about 114 MB a layer. The same seed writes the same bytes."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"random weights, LLaVA-1.5-7B layer shape, {n_layer} layers")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD)
    writer.add_rope_dimension_count(N_EMBD // N_HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(N_VOCAB)
    add_tokenizer(writer)

    for name, (n_rows, n_cols) in matrices(n_layer).items():
        shape = (n_rows, n_cols // BLOCK * BLOCK_BYTES)
        n_bytes = shape[0] * shape[1]
        dtype = np.dtype(np.uint8)
        writer.add_tensor_info(f"{name}.weight", shape, dtype, n_bytes, gguf.GGMLQuantizationType.Q4_0)
    for name in norms(n_layer):
        writer.add_tensor_info(f"{name}.weight", (N_EMBD,), np.dtype(np.float32), 4 * N_EMBD)

    # One matrix at a time: the file is larger than what a small machine wants to hold.
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(seed)
    for n_rows, n_cols in matrices(n_layer).values():
        writer.write_tensor_data(random_q4_0(rng, n_rows, n_cols))
    for _ in norms(n_layer):
        writer.write_tensor_data(np.ones(N_EMBD, dtype=np.float32))
    writer.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write a random model of LLaVA-1.5-7B's layer shape.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_llava_shape(args.path, args.layers, args.seed)


if __name__ == "__main__":
    main()
