"""Options of the library's functions, with values that are right."""

from __future__ import annotations

from typing import Any

Table = dict[str, tuple[Any, ...]]

COMPRESSION: Table = {
    "kv_ratio": (1.0, 0.5, 0.2, 0.05, 1, "auto"),
    "method": (
        "lookm_plus",
        "text_prior_pivot_merge",
        "h2o",
        "snapkv",
        "roco",
        "streaming_llm",
        "random",
    ),
    "important_ratio": (None, 0.1, 0.3),
    "recent_ratio": (None, 0.1, 0.0),
    "ratio_floor": (0.05, 0.01),
    "ratio_ceiling": (0.5, 1.0),
    "quality": (0.98, 0.5, 1),
    "text_overflow": (None, "keep", "evict"),
    "fidelity": ("paper", "upstream"),
    "scorer": (None, "cumulative", "window", "none"),
    "window": (None, 1, 32, 64),
    "merge": (None, "none", "average", "pivot", "weighted"),
    "merge_keys": (True, False),
    "merge_within_modality": (True, False),
    "visual_quota": (None, 0.0, 0.5, 1.0),
}
ANSWER: Table = {
    "max_tokens": (1, 2, 3),
    "temperature": (0, 0.2, 1.0, None),
    "top_p": (0.95, 1.0),
    "top_k": (40, 0, -1),
    "min_p": (0.05, 0.0),
    "repeat_penalty": (1.0, 1.1),
    "frequency_penalty": (0.0, 0.5),
    "presence_penalty": (0.0, 0.5),
    "seed": (1, -1, None),
    "stop": (None, "owl", ["a", "b"]),
    "progress": (None,),
}
QUESTION: Table = {
    "question": ("What is an owl?", "Who?<image>"),
    "images": ((), None),
    "context": (None, "A story.", ["One.", "Two."]),
    "system": (None, "Be brief."),
}
MODEL: Table = {
    "chat_template": (
        None,
        "chatml",
        "vicuna",
        "{% for m in messages %}{{ m.content }}{% endfor %}",
    ),
    "n_ctx": (0, 512, 2048),
    "n_batch": (2048, 64),
    "n_ubatch": (512, 64, 32),
    "n_gpu_layers": (-1, 0),
    "flash_attn": ("auto", True, False),
    "type_k": ("f16", "q8_0", "f32"),
    "type_v": ("f16", "q8_0"),
    "kept_type_k": (None, "q4_0", "q8_0"),
    "kept_type_v": (None, "q4_0"),
    "compute_bytes": (64 << 20, 1 << 20),
    "shrink": (True, False),
    "kv_cells": (None, 256, 1000),
    "kv_memory": (None, "4MiB", 1 << 22),
    "max_pixels": (8192 * 8192, 4096),
}
OPEN: Table = {
    **COMPRESSION,
    **MODEL,
    "n_threads": (1, None, 2),
    "rpc_servers": (None,),
    "tensor_split": (None, [1.0], (1, 2)),
    "seed": (1, -1),
}
PLAN: Table = {
    **COMPRESSION,
    **MODEL,
    "images": (1, 4, 40),
    "image_size": ((1024, 768), (64, 64)),
    "question": ("What do these show?",),
    "system": (None, "Be brief."),
    "max_tokens": (512, 1),
    "memory": (None, "8GiB", 1 << 30),
}
EXPLAIN: Table = {
    **QUESTION,
    **ANSWER,
    "methods": (["h2o"], ("snapkv", "lookm_plus")),
    "kv_ratio": (0.5, 0.2),
}
INFO: Table = {"type_k": ("f16", "q8_0"), "type_v": ("f16", "q4_0")}
DEVICES: Table = {"rpc_servers": (None,), **INFO}

CALLS: dict[str, Table] = {
    "complete": {**COMPRESSION, **ANSWER},
    "ask": {**QUESTION, **COMPRESSION, **ANSWER},
    "chat": {"system": QUESTION["system"], **COMPRESSION},
    "turn": {**{name: QUESTION[name] for name in ("question", "images", "context")}, **ANSWER},
    "explain": EXPLAIN,
    "open": OPEN,
    "plan": PLAN,
    "info": INFO,
    "devices": DEVICES,
}
SHARES = {
    "complete": 30,
    "ask": 25,
    "chat": 10,
    "turn": 12,
    "explain": 2,
    "open": 6,
    "plan": 6,
    "info": 6,
    "devices": 3,
}
