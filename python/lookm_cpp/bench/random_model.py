"""Writes GGUF files with random Q4_0 weights in a given shape; their answers are noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lookm_cpp.bench.model_shapes import BLOCK, BLOCK_BYTES, Shape

if TYPE_CHECKING:
    import gguf

END_TOKEN = 2
NIBBLE_RMS = float(np.sqrt(np.mean((np.arange(16) - 8.0) ** 2)))
N_CTX = 1 << 21
"""Longer than any measured prompt; contexts are only as large as their content."""
VERSION = 1
"""Version of the written file; files of another version are written again."""

Bytes = npt.NDArray[np.uint8]


def gguf_package() -> Any:
    """The package ``gguf``.

    Raises:
        RuntimeError: It is not installed.
    """
    try:
        import gguf  # noqa: PLC0415
    except ImportError:
        raise RuntimeError(
            "models of random weights are written by the package gguf, which is not installed, "
            "expected `pip install gguf`, --shapes embedded or a model of your own by -m"
        ) from None
    return gguf


def random_q4_0(rng: np.random.Generator, n_rows: int, n_cols: int) -> Bytes:
    """Random Q4_0 blocks ``[n_rows, n_cols / 32 * 18]``, mean 0, variance ``1 / n_cols``.

    A Q4_0 block is one f16 scale d and 32 nibbles q, for the weights d * (q - 8). The scale's sign
    is random: nibbles reach from -8 to 7, and a common sign would leave a mean of -d / 2. With this
    variance a product with rows of size one is of size one again, so activations stay finite
    through any depth.
    """
    n_blocks = n_rows * n_cols // BLOCK
    blocks = rng.integers(0, 256, (n_blocks, BLOCK_BYTES), dtype=np.uint8)
    scale = np.float16(1 / (NIBBLE_RMS * np.sqrt(n_cols)))
    sign = rng.integers(0, 2, n_blocks) * 2 - 1
    blocks[:, :2] = (sign * scale).astype("<f2").view(np.uint8).reshape(n_blocks, 2)
    return blocks.reshape(n_rows, -1)


def write_model(path: Path, shape: Shape, n_ctx: int, seed: int = 0) -> None:
    """Write a llama model of this shape; the same seed gives the same bytes.

    Raises:
        RuntimeError: The package ``gguf`` is not installed.
        OSError: The file cannot be written.
    """
    package = gguf_package()
    writer: gguf.GGUFWriter = package.GGUFWriter(path, "llama")
    q4_0 = package.GGMLQuantizationType.Q4_0
    writer.add_name(f"random weights, {shape.like} layer shape, {shape.n_layer} layers")
    writer.add_file_type(package.LlamaFileType.MOSTLY_Q4_0)
    writer.add_quantization_version(package.GGML_QUANT_VERSION)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.n_vocab)
    _add_tokenizer(writer, package.TokenType, shape.n_vocab)
    for name, (n_rows, n_cols) in shape.matrices().items():
        stored = (n_rows, n_cols // BLOCK * BLOCK_BYTES)
        writer.add_tensor_info(
            f"{name}.weight", stored, np.dtype(np.uint8), stored[0] * stored[1], q4_0
        )
    for name in shape.norms():
        writer.add_tensor_info(
            f"{name}.weight", (shape.n_embd,), np.dtype(np.float32), 4 * shape.n_embd
        )

    # one matrix at a time, as the file may be larger than the memory of a small machine
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        rng = np.random.default_rng(seed)
        for n_rows, n_cols in shape.matrices().values():
            writer.write_tensor_data(random_q4_0(rng, n_rows, n_cols))
        for _ in shape.norms():
            writer.write_tensor_data(np.ones(shape.n_embd, dtype=np.float32))
    finally:
        writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, kinds: Any, n_vocab: int) -> None:
    """The smallest SentencePiece vocabulary.

    It has three control tokens, all bytes, and words that occur in no text.
    """
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    tokens += [(f"\u2581filler{i}", kinds.NORMAL) for i in range(n_vocab - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([-float(i) for i in range(n_vocab)])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END_TOKEN)
    writer.add_add_bos_token(True)


def model_file(folder: Path, shape: Shape) -> Path:
    """The shape's file in ``folder``, written if it is missing.

    A file whose writing was interrupted is never used.
    """
    name = f"random-{shape.name}-{shape.n_layer}-layers-{shape.n_vocab}-tokens-v{VERSION}.gguf"
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        write_model(unfinished, shape, N_CTX)
        unfinished.replace(path)
    return path
