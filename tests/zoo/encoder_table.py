"""The encoders and projectors of the zoo, by the names that ``pairs`` uses."""

from __future__ import annotations

from zoo.decoders import N_EMBD as OUT
from zoo.encoders import N_FF, N_HEAD, WIDTH, Encoder
from zoo.gguf_file import Int, Metadata, Shapes, linear, norm


def _positions(n: int) -> Shapes:
    return {"v.position_embd.weight": (n, WIDTH)}


_CLASS: Shapes = {"v.class_embd": (WIDTH,)}
_PATCH_BIAS: Shapes = {"v.patch_embd.bias": (WIDTH,)}
_POST_NORM = norm("v.post_ln", WIDTH)
_SIGLIP = {**_PATCH_BIAS, **_POST_NORM}
_MERGED = 4 * WIDTH
"""Width of 2 x 2 patches put together."""
_LLAVA_MLP = {**linear("mm.0", WIDTH, OUT), **linear("mm.2", OUT, OUT)}
_QWEN_MLP = {**linear("mm.0", _MERGED, _MERGED), **linear("mm.2", _MERGED, OUT)}
_GATED: Shapes = {
    "mm.gate.weight": (N_FF, OUT),
    "mm.up.weight": (N_FF, OUT),
    "mm.down.weight": (OUT, N_FF),
}
_PIXELS: Metadata = {
    "vision.image_min_pixels": 2048,
    "vision.image_max_pixels": 1 << 20,
    "use_gelu": True,
}
_PIXTRAL: Shapes = {
    "v.pre_ln.weight": (WIDTH,),
    "mm.1.weight": (OUT, WIDTH),
    "mm.2.weight": (OUT, OUT),
    "v.token_embd.img_break": (OUT,),
}


def _clip(n_positions: int) -> Shapes:
    return {**_CLASS, **_positions(n_positions + 1), **norm("v.pre_ln", WIDTH)}


def _two_frames(patch: int) -> Shapes:
    """Qwen's encoders read an image as two equal frames of a video."""
    return {"v.patch_embd.weight.1": (WIDTH, 3, patch, patch)}


def _deepstack(layer: int) -> Shapes:
    """The projector of a layer's output, which goes to the decoder's first layers."""
    name = f"v.deepstack.{layer}"
    return {
        **norm(f"{name}.norm", _MERGED),
        **linear(f"{name}.fc1", _MERGED, _MERGED),
        **linear(f"{name}.fc2", _MERGED, OUT),
    }


def _mobile_block(i: int) -> Shapes:
    name = f"mm.model.mb_block.{i}.block"
    return {
        f"{name}.0.0.weight": (OUT, 1, 3, 3),
        **norm(f"{name}.0.1", OUT),
        **linear(f"{name}.1.fc1", OUT, OUT // 4),
        **linear(f"{name}.1.fc2", OUT // 4, OUT),
        f"{name}.2.0.weight": (OUT, OUT),
        **norm(f"{name}.2.1", OUT),
    }


def _resampler() -> Shapes:
    parts = {name: linear(f"resampler.attn.{name}", OUT, OUT) for name in ("q", "k", "v", "out")}
    norms = {name: norm(f"resampler.ln_{name}", OUT) for name in ("q", "kv", "post")}
    shapes: Shapes = {
        "resampler.query": (16, OUT),
        "resampler.kv.weight": (OUT, WIDTH),
        "resampler.proj.weight": (OUT, OUT),
        "resampler.pos_embed_k": (64, OUT),
    }
    for part in (*parts.values(), *norms.values()):
        shapes |= part
    return shapes


ENCODERS = {
    "llava-1.5": Encoder("mlp", 64, 8, outer={**_clip(64), **_LLAVA_MLP}),
    # tiles of 32 pixels on the grid that fits an image best, after a view of the whole
    "llava-1.6": Encoder(
        "mlp",
        32,
        8,
        metadata={"vision.image_grid_pinpoints": [32, 64, 64, 32, 64, 64, 96, 32, 32, 96]},
        outer={**_clip(16), **_LLAVA_MLP, "v.image_newline": (OUT,)},
    ),
    "qwen2-vl": Encoder(
        "qwen2vl_merger", 64, 16, outer={**_two_frames(16), **_POST_NORM, **_QWEN_MLP}
    ),
    # windows of 3 x 3 merged patches in every other layer
    "qwen2.5-vl": Encoder(
        "qwen2.5vl_merger",
        64,
        16,
        metadata={"vision.n_wa_pattern": 2, "use_silu": True},
        outer={**_two_frames(16), "v.post_ln.weight": (WIDTH,), **_QWEN_MLP},
        rms=True,
    ),
    "qwen3-vl": Encoder(
        "qwen3vl_merger",
        64,
        16,
        metadata={"use_gelu": True},
        outer={
            **_two_frames(16),
            **_PATCH_BIAS,
            **_positions(16),
            **_POST_NORM,
            **_QWEN_MLP,
            **_deepstack(0),
            **_deepstack(2),
        },
        fused=True,
    ),
    "qwen3.5": Encoder(
        "qwen3vl_merger",
        64,
        16,
        metadata={"use_gelu": True},
        outer={**_two_frames(16), **_PATCH_BIAS, **_positions(16), **_POST_NORM, **_QWEN_MLP},
        fused=True,
    ),
    "lfm2-vl": Encoder(
        "lfm2",
        64,
        4,
        metadata={"vision.projector.scale_factor": 2, "use_gelu": True},
        outer={
            **_SIGLIP,
            **_positions(256),
            **linear("mm.1", _MERGED, OUT),
            **linear("mm.2", OUT, OUT),
        },
    ),
    "glm-4v": Encoder(
        "glm4v",
        64,
        16,
        metadata={"use_silu": True},
        outer={
            **_two_frames(16),
            **_PATCH_BIAS,
            **_positions(16),
            "v.norm_embd.weight": (WIDTH,),
            "v.post_ln.weight": (WIDTH,),
            "mm.patch_merger.weight": (WIDTH, WIDTH, 2, 2),
            "mm.patch_merger.bias": (WIDTH,),
            "mm.model.fc.weight": (OUT, WIDTH),
            **norm("mm.post_norm", OUT),
            **_GATED,
        },
        rms=True,
        bias=False,
    ),
    "hunyuan-vl": Encoder(
        "hunyuanvl",
        64,
        16,
        metadata=_PIXELS,
        outer={
            **_PATCH_BIAS,
            **_positions(16),
            "mm.pre_norm.weight": (WIDTH,),
            "mm.0.weight": (2 * WIDTH, WIDTH, 2, 2),
            "mm.0.bias": (2 * WIDTH,),
            "mm.2.weight": (_MERGED, 2 * WIDTH, 1, 1),
            "mm.2.bias": (_MERGED,),
            **linear("mm.model.fc", _MERGED, OUT),
            "mm.post_norm.weight": (OUT,),
            "mm.image_begin": (OUT,),
            "mm.image_end": (OUT,),
            "v.image_newline": (_MERGED,),
        },
    ),
    "paddleocr-vl": Encoder(
        "paddleocr",
        64,
        16,
        metadata=_PIXELS,
        outer={
            **_PATCH_BIAS,
            **_positions(16),
            **norm("mm.input_norm", WIDTH),
            **linear("mm.1", _MERGED, OUT),
            **linear("mm.2", OUT, OUT),
        },
    ),
    "cogvlm": Encoder(
        "cogvlm",
        64,
        8,
        outer={
            **_CLASS,
            **_PATCH_BIAS,
            **_positions(65),
            "mm.model.fc.weight": (OUT, WIDTH),
            **norm("mm.post_fc_norm", OUT),
            **_GATED,
            "v.boi": (OUT,),
            "v.eoi": (OUT,),
        },
        fused=True,
    ),
    "janus-pro": Encoder(
        "janus_pro",
        64,
        8,
        metadata={"use_gelu": True},
        outer={
            **_SIGLIP,
            **_positions(64),
            **linear("mm.0", WIDTH, OUT),
            **linear("mm.1", OUT, OUT),
        },
    ),
    "phi-4": Encoder(
        "phi4", 64, 8, metadata=_PIXELS, outer={**_SIGLIP, **_positions(64), **_LLAVA_MLP}
    ),
    # always 16 x 16 patches, averaged 2 x 2
    "gemma-3": Encoder(
        "gemma3",
        64,
        4,
        metadata={"vision.projector.scale_factor": 2, "use_gelu": True},
        outer={
            **_SIGLIP,
            **_positions(256),
            "mm.soft_emb_norm.weight": (WIDTH,),
            "mm.input_projection.weight": (WIDTH, OUT),
        },
    ),
    **dict.fromkeys(
        ("gemma-4", "gemma-4-e2b"),
        Encoder(
            "gemma4v",
            64,
            4,
            metadata={"vision.projector.scale_factor": 2, "use_gelu": True},
            outer={
                "v.position_embd.weight": (2, 512, WIDTH),
                "mm.input_projection.weight": (OUT, WIDTH),
            },
            layer_outer={f"attn_{x}_norm.weight": (WIDTH // N_HEAD,) for x in "qk"},
            rms=True,
            bias=False,
        ),
    ),
    "llama-4": Encoder(
        "llama4",
        32,
        4,
        metadata={"vision.projector.scale_factor": 2, "use_gelu": True},
        outer={
            **_clip(64),
            **_POST_NORM,
            "v.patch_embd.weight": (WIDTH, 3 * 4 * 4),
            "mm.model.mlp.1.weight": (OUT, _MERGED),
            "mm.model.mlp.2.weight": (OUT, OUT),
            "mm.model.fc.weight": (OUT, OUT),
        },
    ),
    "kimi-vl": Encoder(
        "kimivl",
        64,
        4,
        metadata={"vision.projector.scale_factor": 2, "use_gelu": True},
        outer={
            **_SIGLIP,
            **_positions(256),
            **norm("mm.input_norm", WIDTH),
            **linear("mm.1", _MERGED, OUT),
            **linear("mm.2", OUT, OUT),
        },
    ),
    "internvl": Encoder(
        "internvl",
        32,
        4,
        metadata={
            "vision.projector.scale_factor": 2,
            "vision.preproc_max_tiles": 4,
            "use_gelu": True,
        },
        outer={
            **_CLASS,
            **_PATCH_BIAS,
            **_positions(65),
            **norm("mm.model.mlp.0", _MERGED),
            **linear("mm.model.mlp.1", _MERGED, OUT),
            **linear("mm.model.mlp.3", OUT, OUT),
        },
        layer_outer={"ls1.weight": (WIDTH,), "ls2.weight": (WIDTH,)},
    ),
    "smolvlm": Encoder(
        "idefics3",
        32,
        4,
        metadata={
            "vision.projector.scale_factor": 2,
            "vision.preproc_image_size": 64,
            "use_gelu": True,
        },
        outer={**_SIGLIP, **_positions(64), "mm.model.fc.weight": (OUT, _MERGED)},
    ),
    "pixtral": Encoder(
        "pixtral", 64, 8, metadata={"use_silu": True}, outer=_PIXTRAL, rms=True, bias=False
    ),
    # like Pixtral, but merges 2 x 2 patches
    "mistral-small-3.1": Encoder(
        "pixtral",
        64,
        8,
        metadata={"use_silu": True, "vision.spatial_merge_size": 2},
        outer={
            **_PIXTRAL,
            "mm.input_norm.weight": (WIDTH,),
            "mm.patch_merger.weight": (WIDTH, _MERGED),
        },
        rms=True,
        bias=False,
    ),
    # 16 queries read each slice; patches have positions on a learned grid of 70 x 70
    "minicpm-v-2.6": Encoder(
        "resampler",
        32,
        4,
        metadata={"minicpmv_version": Int(3), "minicpmv_query_num": 16, "use_gelu": True},
        outer={**_SIGLIP, **_positions(70 * 70), **_resampler()},
    ),
    # both halve 24 x 24 patches in each direction
    "mobilevlm": Encoder(
        "ldp",
        48,
        2,
        outer={
            **_clip(576),
            **linear("mm.model.mlp.1", WIDTH, OUT),
            **linear("mm.model.mlp.3", OUT, OUT),
            **_mobile_block(1),
            **_mobile_block(2),
        },
    ),
    "mobilevlm-v2": Encoder(
        "ldpv2",
        48,
        2,
        outer={
            **_clip(576),
            **linear("mm.model.mlp.0", WIDTH, OUT),
            **linear("mm.model.mlp.2", OUT, OUT),
            "mm.model.peg.0.weight": (OUT, 1, 3, 3),
            "mm.model.peg.0.bias": (OUT,),
        },
    ),
}

ENCODERS["internvl-3.5"] = ENCODERS["internvl"]
ENCODERS["mistral-small-3.2"] = ENCODERS["mistral-small-3.1"]
