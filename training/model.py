"""The model:

CLIP-style vision transformer, two-layer projector, Llama decoder with grouped-query attention.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelSize


class VisionBlock(nn.Module):
    """Pre-norm transformer block with biases and tanh-GELU."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        width = size.vision_width
        self.heads = size.vision_heads
        self.norm1 = nn.LayerNorm(width, size.vision_eps)
        self.norm2 = nn.LayerNorm(width, size.vision_eps)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, size.vision_ffn), nn.Linear(size.vision_ffn, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, width] -> [B, N, width]."""
        normed = self.norm1(x)
        query, key, value = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class VisionEncoder(nn.Module):
    """CLIP's vision transformer over 8-pixel patches.

    No class token and no final norm: LLaVA takes the hidden states of a block as they are.
    """

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.size = size
        # The same as a convolution with stride = kernel = patch; columns are ordered (channel, y,
        # x).
        self.patch = nn.Linear(3 * size.patch**2, size.vision_width, bias=False)
        self.position = nn.Parameter(torch.randn(size.picture_tokens, size.vision_width) * 0.02)
        self.pre_norm = nn.LayerNorm(size.vision_width, size.vision_eps)
        self.blocks = nn.ModuleList(VisionBlock(size) for _ in range(size.vision_blocks))

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures uint8 [B, size, size, 3] -> patch features [B, patches, vision_width]."""
        size = self.size
        scaled = (pictures.float() / 255.0 - size.pixel_mean) / size.pixel_std
        cut = scaled.reshape(-1, size.grid, size.patch, size.grid, size.patch, 3)
        patches = cut.permute(0, 1, 3, 5, 2, 4).reshape(-1, size.picture_tokens, 3 * size.patch**2)
        x = self.pre_norm(self.patch(patches) + self.position)
        for block in self.blocks:
            x = block(x)
        return x


class Projector(nn.Module):
    """LLaVA-1.5's projector."""

    def __init__(self, vision_width: int, hidden: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(vision_width, hidden)
        self.second = nn.Linear(hidden, width)

    def forward(self, features: Tensor) -> Tensor:
        """Patch features [..., vision_width] -> picture tokens [..., width]."""
        # llama.cpp's GELU in this projector is the tanh approximation.
        return self.second(F.gelu(self.first(features), approximate="tanh"))


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """RMS norm over the last axis, in float32."""
    return F.rms_norm(x.float(), x.shape[-1:], weight, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [B, heads, T, head_width], half-split (export.py reorders it)."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class DecoderBlock(nn.Module):
    """Llama block: RMS norms, grouped-query attention, SwiGLU."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.size = size
        inner, shared = size.heads * size.head_width, size.kv_heads * size.head_width
        self.attention_norm = nn.Parameter(torch.ones(size.width))
        self.ffn_norm = nn.Parameter(torch.ones(size.width))
        self.query = nn.Linear(size.width, inner, bias=False)
        self.key = nn.Linear(size.width, shared, bias=False)
        self.value = nn.Linear(size.width, shared, bias=False)
        self.output = nn.Linear(inner, size.width, bias=False)
        self.gate = nn.Linear(size.width, size.ffn, bias=False)
        self.up = nn.Linear(size.width, size.ffn, bias=False)
        self.down = nn.Linear(size.ffn, size.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """x [B, T, width]; cos, sin [B, 1, T, head_width / 2]; mask [B, 1, T, T]."""
        size = self.size
        normed = rms_norm(x, self.attention_norm, size.eps)
        query, key, value = (
            layer(normed).unflatten(-1, (-1, size.head_width)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        query, key = (rotate(part, cos.to(part.dtype), sin.to(part.dtype)) for part in (query, key))
        # Written out instead of enable_gqa=True: the fused CPU kernel then also takes the mask.
        key, value = (
            part.repeat_interleave(size.heads // size.kv_heads, 1) for part in (key, value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        normed = rms_norm(x, self.ffn_norm, size.eps)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Decoder(nn.Module):
    """Llama decoder with tied input and output embeddings."""

    def __init__(self, size: ModelSize, vocabulary: int) -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(vocabulary, size.width)
        self.blocks = nn.ModuleList(DecoderBlock(size) for _ in range(size.blocks))
        self.norm = nn.Parameter(torch.ones(size.width))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # Layers that write into the residual stream start smaller, the more of them there
                # are.
                writes = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(
                    parameter, std=0.02 / math.sqrt(2 * size.blocks) if writes else 0.02
                )

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor, tap: int = -1
    ) -> tuple[Tensor, Tensor]:
        """The final hidden states, and those after block `tap` (without one: the input).

        x [B, T, width], positions [B, T], mask bool [B, 1, T, T].
        """
        half = torch.arange(0, self.size.head_width, 2, dtype=torch.float32)
        angles = positions.float()[:, None, :, None] * self.size.rope_base ** (
            -half / self.size.head_width
        )
        cos, sin = angles.cos(), angles.sin()
        tapped = x
        for number, block in enumerate(self.blocks):
            x = block(x, cos, sin, mask)
            if number == tap:
                tapped = x
        return rms_norm(x, self.norm, self.size.eps), tapped

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., width] -> [..., vocabulary]."""
        return F.linear(hidden, self.embedding.weight)


class VisionLanguageModel(nn.Module):
    """Encoder, projector and decoder."""

    def __init__(self, size: ModelSize, vocabulary: int) -> None:
        super().__init__()
        self.size = size
        self.vision = VisionEncoder(size)
        self.projector = Projector(size.vision_width, size.width, size.width)
        self.decoder = Decoder(size, vocabulary)

    def embed(self, ids: Tensor, features: Tensor) -> Tensor:
        """Replace picture tokens by features; returns float32 [B, T, width].

        ids [B, T] are negative at picture tokens; features [pictures, patches, vision_width] are in
        the order of the ids.
        """
        words = self.decoder.embedding(ids.clamp(min=0))
        tokens = self.projector(features).flatten(0, 1).to(words.dtype)
        return words.masked_scatter((ids < 0)[..., None].expand_as(words), tokens)
