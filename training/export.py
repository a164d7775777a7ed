"""Writes the model as GGUF files for llama.cpp, and reads them, with the `gguf` package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from tokenizers import Tokenizer
from torch import Tensor, nn

from .config import ModelSize
from .model import Projector, VisionEncoder, VisionLanguageModel
from .tensors import decoder_entries, from_file, stored_vision_blocks, to_files, vision_entries
from .tokenizer import BEGIN, END, UNKNOWN, from_vocabulary

# The template holds no <s>: add_bos_token puts it in front once.
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %} ASSISTANT: {{ m['content'] }}</s>"
    "{% elif m['role'] == 'system' %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Files:
    """The exported files of a run."""

    decoder_f16: Path
    decoder_q8: Path
    vision: Path

    @staticmethod
    def under(folder: Path) -> Files:
        """The files' places in a folder."""
        names = ("tiny-llava-f16.gguf", "tiny-llava-q8_0.gguf", "mmproj-tiny-llava-f16.gguf")
        return Files(*(folder / name for name in names))


def write(model: VisionLanguageModel, tokenizer: Tokenizer, folder: Path) -> Files:
    """Writes the decoder as F16 and as Q8_0, and encoder with projector as F16."""
    files = Files.under(folder)
    write_decoder(model, tokenizer, files.decoder_f16, Type.F16)
    write_decoder(model, tokenizer, files.decoder_q8, Type.Q8_0)
    write_vision(model.vision, model.projector, model.size, files.vision)
    return files


def write_decoder(
    model: VisionLanguageModel, tokenizer: Tokenizer, path: Path, matrices: Type
) -> None:
    """The decoder; its matrices in the given type, its norms in F32."""
    size = model.size
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-llava")
    quantized = matrices == Type.Q8_0
    writer.add_file_type(
        gguf.LlamaFileType.MOSTLY_Q8_0 if quantized else gguf.LlamaFileType.MOSTLY_F16
    )
    if quantized:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(size.context)
    writer.add_embedding_length(size.width)
    writer.add_block_count(size.blocks)
    writer.add_feed_forward_length(size.ffn)
    writer.add_head_count(size.heads)
    writer.add_head_count_kv(size.kv_heads)
    writer.add_key_length(size.head_width)
    writer.add_value_length(size.head_width)
    writer.add_rope_dimension_count(size.head_width)
    writer.add_rope_freq_base(size.rope_base)
    writer.add_layer_norm_rms_eps(size.eps)
    writer.add_vocab_size(tokenizer.get_vocab_size())
    _add_tokenizer(writer, tokenizer)
    _finish(writer, to_files(model.state_dict(), decoder_entries, size), matrices)


def write_vision(encoder: VisionEncoder, projector: Projector, size: ModelSize, path: Path) -> None:
    """Encoder and projector: matrices F16, the rest F32."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_name("tiny-llava-vision")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_string("clip.projector_type", "mlp")
    # llama.cpp computes this GELU by the tanh approximation.
    writer.add_bool("clip.use_gelu", True)
    numbers = {
        "image_size": size.image,
        "patch_size": size.patch,
        "embedding_length": size.vision_width,
        "feed_forward_length": size.vision_ffn,
        "projection_dim": projector.second.out_features,
        "block_count": stored_vision_blocks(size),
        "attention.head_count": size.vision_heads,
    }
    for key, value in numbers.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", size.vision_eps)
    writer.add_array("clip.vision.image_mean", [size.pixel_mean] * 3)
    writer.add_array("clip.vision.image_std", [size.pixel_std] * 3)
    parameters = nn.ModuleDict({"vision": encoder, "projector": projector}).state_dict()
    _finish(writer, to_files(parameters, vision_entries, size), Type.F16)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    kinds = {
        UNKNOWN: gguf.TokenType.UNKNOWN,
        BEGIN: gguf.TokenType.CONTROL,
        END: gguf.TokenType.CONTROL,
    }
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(vocabulary[BEGIN])
    writer.add_eos_token_id(vocabulary[END])
    writer.add_unk_token_id(vocabulary[UNKNOWN])
    writer.add_pad_token_id(vocabulary[END])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def encode_tensor(name: str, tensor: Tensor, matrices: Type) -> tuple[np.ndarray, Type]:
    """A tensor as it is stored: vectors and position embeddings F32, matrices in the given type."""
    values = np.ascontiguousarray(tensor.numpy(), dtype=np.float32)
    if values.ndim < 2 or "position" in name:
        return values, Type.F32
    # By way of F16, as quantizing an F16 file does: both files then hold the same model.
    halves = values.astype(np.float16)
    if matrices == Type.F16:
        return halves, Type.F16
    return gguf.quantize(halves.astype(np.float32), matrices), matrices


def _finish(writer: gguf.GGUFWriter, tensors: dict[str, Tensor], matrices: Type) -> None:
    for name, tensor in tensors.items():
        data, kind = encode_tensor(name, tensor, matrices)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(decoder: Path, vision: Path, size: ModelSize) -> tuple[VisionLanguageModel, Tokenizer]:
    """The model and tokenizer in two GGUF files, quantized or not; matrices become float32."""
    language = gguf.GGUFReader(decoder)
    tensors = {**_tensors(language), **_tensors(gguf.GGUFReader(vision))}
    tokens, merges = (
        language.fields[f"tokenizer.ggml.{part}"].contents() for part in ("tokens", "merges")
    )
    model = VisionLanguageModel(size, len(tokens))
    entries = [*decoder_entries(size), *vision_entries(size)]
    model.load_state_dict(from_file(tensors, entries, size))
    return model.eval(), from_vocabulary(tokens, merges)


def read_vision(path: Path, size: ModelSize) -> VisionEncoder:
    """The encoder in an mmproj file."""
    entries = [entry for entry in vision_entries(size) if entry.name.startswith("vision.")]
    parameters = from_file(_tensors(gguf.GGUFReader(path)), entries, size)
    encoder = VisionEncoder(size)
    encoder.load_state_dict({name.removeprefix("vision."): t for name, t in parameters.items()})
    return encoder.eval()


def _tensors(reader: gguf.GGUFReader) -> dict[str, Tensor]:
    """All tensors of a file by their names there, float32."""
    tensors = {}
    for tensor in reader.tensors:
        shape = [int(length) for length in reversed(tensor.shape)]
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        tensors[tensor.name] = torch.from_numpy(np.array(values, dtype=np.float32)).view(shape)
    return tensors
