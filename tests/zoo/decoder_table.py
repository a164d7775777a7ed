"""The decoders of the zoo, by the names that ``pairs`` uses."""

from __future__ import annotations

from zoo.decoders import HEAD_DIM, N_EMBD, N_FF, N_HEAD, N_HEAD_KV, Decoder
from zoo.gguf_file import Int, Metadata

_WINDOWS: Metadata = {
    # a window of 32 cells, much shorter than an image, in every other layer
    "attention.sliding_window": 32,
    "attention.sliding_window_pattern": [True, False] * 2,
}
_GEMMA_4: Metadata = {
    **_WINDOWS,
    "attention.key_length_swa": HEAD_DIM,
    "attention.value_length_swa": HEAD_DIM,
    "embedding_length_per_layer_input": 0,
    "final_logit_softcapping": 30.0,
}
_PER_LAYER = 16
"""Numbers that each token brings to each layer of the small Gemma 4 models."""
_N_LATENT, _N_ROPE = 32, 16
_N_STATE = 32
"""Side of a linear attention head's state."""

DECODERS = {
    "llama": Decoder("llama"),
    "qwen2": Decoder("qwen2", bias=True),
    "qwen3": Decoder("qwen3", head_norm=True),
    "mistral3": Decoder("mistral3"),
    "qwen2vl": Decoder("qwen2vl", bias=True, metadata={"rope.dimension_sections": [4, 6, 6, 0]}),
    "qwen3vl": Decoder(
        "qwen3vl",
        head_norm=True,
        metadata={"rope.dimension_sections": [6, 5, 5, 0], "n_deepstack_layers": 2},
    ),
    "glm4": Decoder(
        "glm4", post_norm=True, wide_up=True, metadata={"rope.dimension_sections": [4, 6, 6, 0]}
    ),
    "hunyuan_vl": Decoder(
        "hunyuan_vl", head_norm=True, metadata={"rope.dimension_sections": [4, 4, 4, 4]}
    ),
    "paddleocr": Decoder("paddleocr", metadata={"rope.dimension_sections": [4, 6, 6, 0]}),
    "phi3": Decoder("phi3", wide_up=True),
    # separate weights for image cells
    "cogvlm": Decoder(
        "cogvlm",
        metadata={"attention.head_count_kv": N_HEAD},
        special=(0, 1, 2),
        instead={
            f"{who}attn_{name}.weight": (n * HEAD_DIM, N_EMBD)
            for who in ("", "vis_")
            for name, n in (("qkv", 3 * N_HEAD), ("output", N_HEAD))
        },
        layer_outer={
            "vis_gate.weight": (N_FF, N_EMBD),
            "vis_up.weight": (N_FF, N_EMBD),
            "vis_down.weight": (N_EMBD, N_FF),
        },
    ),
    # two of the four layers have attention, the others are gated delta nets
    "qwen35": Decoder(
        "qwen35",
        n_layer=4,
        head_norm=True,
        metadata={
            "rope.dimension_sections": [6, 5, 5, 0],
            "full_attention_interval": 2,
            "ssm.conv_kernel": 4,
            "ssm.inner_size": 4 * _N_STATE,
            "ssm.state_size": _N_STATE,
            "ssm.time_step_rank": 4,
            "ssm.group_count": 2,
        },
        special=(0, 2),
        instead={
            "attn_qkv.weight": (8 * _N_STATE, N_EMBD),
            "attn_gate.weight": (4 * _N_STATE, N_EMBD),
            "ssm_conv1d.weight": (8 * _N_STATE, 4),
            "ssm_dt.bias": (4,),
            "ssm_a": (4,),
            "ssm_beta.weight": (4, N_EMBD),
            "ssm_alpha.weight": (4, N_EMBD),
            "ssm_norm.weight": (_N_STATE,),
            "ssm_out.weight": (N_EMBD, 4 * _N_STATE),
        },
        wide_query=True,
        names={"ffn_norm.weight": "post_attention_norm.weight"},
    ),
    "lfm2": Decoder(
        "lfm2",
        n_layer=4,
        head_norm=True,
        metadata={"attention.head_count_kv": [Int(0), N_HEAD_KV] * 2, "shortconv.l_cache": 3},
        special=(0, 2),
        instead={
            "shortconv.conv.weight": (N_EMBD, 3),
            "shortconv.in_proj.weight": (3 * N_EMBD, N_EMBD),
            "shortconv.out_proj.weight": (N_EMBD, N_EMBD),
        },
        names={"output_norm.weight": "token_embd_norm.weight"},
    ),
    # chunks of 8192 cells in three of the four layers; no experts, to be small
    "llama4": Decoder(
        "llama4",
        n_layer=4,
        metadata={
            "expert_count": 2,
            "expert_used_count": 1,
            "expert_feed_forward_length": N_FF,
            "interleave_moe_layer_step": 0,
        },
    ),
    # multi-head latent attention
    "deepseek2": Decoder(
        "deepseek2",
        metadata={
            "attention.head_count_kv": 1,
            "attention.key_length": _N_LATENT + _N_ROPE,
            "attention.value_length": _N_LATENT,
            "attention.key_length_mla": HEAD_DIM,
            "attention.value_length_mla": HEAD_DIM,
            "attention.q_lora_rank": 0,
            "attention.kv_lora_rank": _N_LATENT,
            "rope.dimension_count": _N_ROPE,
            "leading_dense_block_count": 3,
            "expert_feed_forward_length": N_FF,
            "expert_shared_count": 1,
        },
        special=(0, 1, 2),
        instead={
            "attn_q.weight": (N_HEAD * HEAD_DIM, N_EMBD),
            "attn_kv_a_mqa.weight": (_N_LATENT + _N_ROPE, N_EMBD),
            "attn_kv_a_norm.weight": (_N_LATENT,),
            "attn_k_b.weight": (N_HEAD, _N_LATENT, HEAD_DIM - _N_ROPE),
            "attn_v_b.weight": (N_HEAD, HEAD_DIM, _N_LATENT),
            "attn_output.weight": (N_EMBD, N_HEAD * HEAD_DIM),
        },
    ),
    "gemma3": Decoder("gemma3", n_layer=4, head_norm=True, post_norm=True, metadata=_WINDOWS),
    "gemma4": Decoder(
        "gemma4",
        n_layer=4,
        head_norm=True,
        post_norm=True,
        metadata=_GEMMA_4,
        outer={"rope_freqs.weight": (HEAD_DIM // 2,)},
    ),
    # the last two of six layers have no K and V: they read those of layers 2 and 3
    "gemma4-e2b": Decoder(
        "gemma4",
        n_layer=6,
        head_norm=True,
        post_norm=True,
        metadata=_GEMMA_4
        | {
            "attention.sliding_window_pattern": [True, False] * 3,
            "attention.shared_kv_layers": 2,
            "embedding_length_per_layer_input": _PER_LAYER,
        },
        outer={
            "rope_freqs.weight": (HEAD_DIM // 2,),
            "per_layer_model_proj.weight": (6 * _PER_LAYER, N_EMBD),
            "per_layer_proj_norm.weight": (_PER_LAYER,),
        },
        layer_outer={
            "inp_gate.weight": (_PER_LAYER, N_EMBD),
            "proj.weight": (N_EMBD, _PER_LAYER),
            "post_norm.weight": (N_EMBD,),
        },
        token_embd={"per_layer_token_embd.weight": 6 * _PER_LAYER},
    ),
}
