"""Tiny random image encoders with the projectors of mtmd, llama.cpp's multimodal library."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from zoo.decoders import N_EMBD as OUT
from zoo.gguf_file import Metadata, Shapes, linear, norm, write

WIDTH, N_FF, N_HEAD, N_LAYER = 64, 96, 4, 3


@dataclass(frozen=True)
class Encoder:
    """A vision transformer and its projector."""

    projector: str
    image: int
    """Side of the square that it sees, or of a tile; where sizes are free, of the learned position
    grid.
    """
    patch: int
    metadata: Metadata = field(default_factory=dict)
    """Keys after ``clip.``."""
    outer: Shapes = field(default_factory=dict)
    """What lies before, after and beside the layers."""
    layer_outer: Shapes = field(default_factory=dict)
    """What a layer has beside attention and feed-forward."""
    rms: bool = False
    """RMS norms and a gated feed-forward, as in a language model."""
    bias: bool = True
    fused: bool = False
    """One matrix for Q, K and V."""


def write_encoder(path: Path, encoder: Encoder) -> Path:
    """Writes an mmproj file."""
    vision = {
        "image_size": encoder.image,
        "patch_size": encoder.patch,
        "embedding_length": WIDTH,
        "feed_forward_length": N_FF,
        "projection_dim": OUT,
        "block_count": N_LAYER,
        "attention.head_count": N_HEAD,
        "attention.layer_norm_epsilon": 1e-5,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
    }
    metadata = {"general.name": f"tiny {encoder.projector}", "clip.has_vision_encoder": True}
    metadata |= {
        "clip.projector_type": encoder.projector,
        **{f"clip.vision.{k}": v for k, v in vision.items()},
    }
    metadata |= {f"clip.{k}": v for k, v in encoder.metadata.items()}
    shapes: Shapes = {
        "v.patch_embd.weight": (WIDTH, 3, encoder.patch, encoder.patch),
        **encoder.outer,
    }
    for i in range(N_LAYER):
        shapes |= {f"v.blk.{i}.{name}": shape for name, shape in _layer(encoder).items()}
    return write(path, "clip", metadata, shapes)


def _layer(encoder: Encoder) -> Shapes:
    shapes = {**norm("ln1", WIDTH), **norm("ln2", WIDTH), **linear("attn_out", WIDTH, WIDTH)}
    if encoder.fused:
        shapes |= linear("attn_qkv", WIDTH, 3 * WIDTH)
    else:
        shapes |= (
            linear("attn_q", WIDTH, WIDTH)
            | linear("attn_k", WIDTH, WIDTH)
            | linear("attn_v", WIDTH, WIDTH)
        )
    shapes |= linear("ffn_up", WIDTH, N_FF) | linear("ffn_down", N_FF, WIDTH)
    if encoder.rms:
        shapes |= linear("ffn_gate", WIDTH, N_FF)
        shapes = {k: v for k, v in shapes.items() if k not in ("ln1.bias", "ln2.bias")}
    if not encoder.bias:
        shapes = {k: v for k, v in shapes.items() if not k.endswith("bias")}
    return shapes | encoder.layer_outer
