"""Writes a small CLIP encoder with random weights and LLaVA-1.5's projector: 576 cells an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lookm_cpp.bench.random_model import gguf_package

IMAGE, PATCH, WIDTH, N_LAYER, N_HEAD = 336, 14, 64, 2, 2


def write_encoder(path: Path, n_embd: int, seed: int = 0) -> None:
    """Write an mmproj file for a language model of ``n_embd``; its time does not matter here."""
    rng = np.random.default_rng(seed)
    writer = gguf_package().GGUFWriter(path, "clip")
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.has_vision_encoder", True)
    for name, value in {
        "image_size": IMAGE,
        "patch_size": PATCH,
        "embedding_length": WIDTH,
        "feed_forward_length": 4 * WIDTH,
        "projection_dim": n_embd,
        "block_count": N_LAYER,
        "attention.head_count": N_HEAD,
    }.items():
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    for name in ("image_mean", "image_std"):
        writer.add_array(f"clip.vision.{name}", [0.5, 0.5, 0.5])

    def add(name: str, *shape: int) -> None:
        scale = 1 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.1
        writer.add_tensor(name, (scale * rng.standard_normal(shape)).astype(np.float32))

    def linear(name: str, n_in: int, n_out: int) -> None:
        add(f"{name}.weight", n_out, n_in)
        add(f"{name}.bias", n_out)

    add("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH)
    add("v.class_embd", WIDTH)
    add("v.position_embd.weight", (IMAGE // PATCH) ** 2 + 1, WIDTH)
    for norm in ("v.pre_ln", *(f"v.blk.{i}.ln{k}" for i in range(N_LAYER) for k in (1, 2))):
        writer.add_tensor(f"{norm}.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"{norm}.bias", np.zeros(WIDTH, np.float32))
    for i in range(N_LAYER):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            linear(f"v.blk.{i}.{name}", WIDTH, WIDTH)
        linear(f"v.blk.{i}.ffn_up", WIDTH, 4 * WIDTH)
        linear(f"v.blk.{i}.ffn_down", 4 * WIDTH, WIDTH)
    linear("mm.0", WIDTH, n_embd)
    linear("mm.2", n_embd, n_embd)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
