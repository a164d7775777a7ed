"""HTTP requests whose bodies have something wrong."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

from server.servers import Server

from fuzz.bytes_changed import changed
from fuzz.conversations import CALL, conversation
from fuzz.live import LiveTarget, of_status
from fuzz.outcomes import Outcome
from fuzz.pictures import spoiled
from fuzz.things import Plain
from fuzz.trees import mutated
from fuzz.values import TEXTS, json_value

TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {
            "type": "object",
            "properties": {"x": {"type": "integer"}},
            "required": ["x"],
        },
    },
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"enum": [1, 2]}}}
FIELDS: dict[str, tuple[Plain, ...]] = {
    "temperature": (0, 0.7),
    "top_p": (0.9,),
    "top_k": (40, 1),
    "min_p": (0.05,),
    "typical_p": (0.9,),
    "repeat_penalty": (1.1,),
    "repeat_last_n": (64, -1),
    "presence_penalty": (0.5,),
    "frequency_penalty": (0.5,),
    "dry_multiplier": (0.8,),
    "dry_sequence_breakers": (["\n"],),
    "xtc_probability": (0.5,),
    "xtc_threshold": (0.1,),
    "mirostat": (0, 1, 2),
    "dynatemp_range": (0.5,),
    "seed": (1, -1),
    "stop": ("x", ["a", "b"]),
    "n": (1, 2),
    "n_keep": (0, 4),
    "n_probs": (0, 3),
    "logprobs": (True,),
    "top_logprobs": (2,),
    "min_keep": (0, 1),
    "logit_bias": ([[5, 1.0]], {"5": -1.0}, [["a", False]]),
    "samplers": (["top_k", "temperature"], "kt"),
    "stream": (True, False),
    "stream_options": ({"include_usage": True},),
    "cache_prompt": (True, False),
    "id_slot": (0, -1),
    "ignore_eos": (True,),
    "return_tokens": (True,),
    "return_progress": (True,),
    "timings_per_token": (True,),
    "post_sampling_probs": (True,),
    "response_fields": (["content"],),
    "t_max_predict_ms": (1000,),
    "n_indent": (1,),
    "lora": ([],),
    "grammar": ('root ::= "a" | "b"',),
    "json_schema": (SCHEMA,),
    "response_format": (
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
        {"type": "text"},
    ),
    "tools": ([TOOL],),
    "tool_choice": ("auto", "required", "none"),
    "parallel_tool_calls": (True,),
    "reasoning_format": ("none", "auto"),
    "chat_template_kwargs": ({"enable_thinking": False},),
    "add_generation_prompt": (True, False),
    "user": ("me",),
    "model": ("x",),
    "kv_ratio": (0.5, 0.2, 1, "auto"),
    "kv_method": ("h2o", "lookm_plus", "snapkv"),
    "important_ratio": (0.1,),
    "recent_ratio": (0.1,),
    "text_overflow": ("keep", "evict"),
    "fidelity": ("paper",),
    "scorer": ("window",),
    "window": (32,),
    "merge_keys": (True,),
    "visual_quota": (0.5,),
}
CHATS = (
    "/v1/chat/completions",
    "/chat/completions",
    "/v1/messages",
    "/v1/responses",
    "/apply-template",
)
COMPLETIONS = ("/completion", "/completions", "/v1/completions", "/infill")
SMALL: dict[str, Plain] = {
    "/tokenize": {"content": "What is an owl?", "add_special": True, "with_pieces": True},
    "/detokenize": {"tokens": [5, 6, 7]},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "Hi"}]},
    "/embedding": {"content": "x"},
    "/v1/embeddings": {"input": ["a", "b"]},
    "/v1/rerank": {"query": "a", "documents": ["b", "c"]},
    "/slots/0?action=erase": {},
    "/slots/1?action=save": {"filename": "saved.bin"},
    "/slots/0?action=restore": {"filename": "saved.bin"},
    "/props": {},
    "/lora-adapters": [{"id": 0, "scale": 0.5}],
    "/v1/audio/transcriptions": {"file": "x", "model": "y"},
    "/models/load": {"model": "x"},
}
GETS = (
    "/health",
    "/v1/models",
    "/props",
    "/slots",
    "/metrics",
    "/",
    "/lora-adapters",
    "/slots?fail_on_no_slot=1",
)


class Requests(LiveTarget):
    name = "HTTP bodies"

    def make(self, rng: random.Random) -> Plain:
        given: dict[str, Plain] = {"server": rng.randrange(2), "method": "POST"}
        kind = rng.randrange(20)
        if kind < 9:
            given |= {"path": rng.choice((*CHATS, CHATS[0], CHATS[0])), "body": _chat(rng)}
        elif kind < 13:
            given |= {"path": rng.choice(COMPLETIONS), "body": _completion(rng)}
        elif kind < 17:
            path = rng.choice(sorted(SMALL))
            given |= {
                "path": path,
                "body": mutated(SMALL[path], rng, json_value, rng.choice((0, 1, 1, 2))),
            }
        elif kind < 19:
            given |= {"path": CHATS[0], "body": _picture(rng)}
        else:
            return given | {
                "method": rng.choice(("GET", "DELETE", "OPTIONS", "HEAD", "PUT")),
                "path": rng.choice(GETS),
            }
        if rng.random() < 0.05:
            given["path"] = rng.choice(
                (*SMALL, *CHATS, "/slots/99?action=save", "/slots/x?action=erase", "/nowhere")
            )
        text = json.dumps(given["body"]).encode()
        if rng.random() < 0.1:
            given["body"] = changed(text, rng)
        return given

    def send(self, server: Server, folder: Path, given: Any) -> Outcome:
        body = given.get("body")
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        response = server.http.request(given["method"], given["path"], content=raw)
        return of_status(response.status_code, response.text, given["path"])


def _chat(rng: random.Random) -> Plain:
    body: dict[str, Plain] = {
        "messages": conversation(rng, python=False),
        "max_tokens": rng.choice((1, 2, 4)),
    }
    return _with_fields(body, rng)


def _completion(rng: random.Random) -> Plain:
    prompt = rng.choice(
        ("What is an owl?", [5, 6, 7, 8], ["One", "two"], [5, "and", 6], rng.choice(TEXTS))
    )
    body: dict[str, Plain] = {"prompt": prompt, "n_predict": rng.choice((1, 2, 4))}
    if rng.random() < 0.1:
        body |= {
            "input_prefix": "a",
            "input_suffix": "b",
            "input_extra": [{"text": "c", "filename": "d"}],
        }
    if rng.random() < 0.1:
        body["prompt"] = {"prompt_string": "See <__media__>", "multimodal_data": ["AAAA"]}
    return _with_fields(body, rng)


def _with_fields(body: dict[str, Plain], rng: random.Random) -> Plain:
    for name in rng.sample(sorted(FIELDS), rng.randrange(4)):
        body[name] = rng.choice(FIELDS[name])
    if rng.random() < 0.05:
        body["messages"] = [*body.get("messages", []), {"role": "assistant", "tool_calls": [CALL]}]
    return mutated(body, rng, json_value, rng.choice((0, 1, 1, 1, 2, 3)))


def _picture(rng: random.Random) -> Plain:
    kind = rng.choice(("png", "jpeg", "webp", "x"))
    uri = f"data:image/{kind};base64," + base64.b64encode(spoiled(rng)).decode()
    parts = [
        {"type": "image_url", "image_url": {"url": uri}},
        {"type": "text", "text": "What is this?"},
    ]
    return {"messages": [{"role": "user", "content": parts}], "max_tokens": 1}
