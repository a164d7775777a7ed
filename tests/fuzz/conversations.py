"""Messages that are right: what mutations start from."""

from __future__ import annotations

import base64
import random

from lookm_cpp.embedded import DEMO

from fuzz.things import Plain, Thing

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
SMALL = (DEMO / "pic05.png").read_bytes()
"""A picture of 270 bytes."""
URI = "data:image/png;base64," + base64.b64encode(SMALL).decode()


def conversation(rng: random.Random, *, python: bool) -> list[Plain]:
    """Some turns; with ``python``, images in forms beyond JSON, and evictable texts."""
    messages: list[Plain] = []
    if rng.random() < 0.3:
        messages.append({"role": "system", "content": "You are brief."})
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        messages += [_user(rng, python), {"role": "assistant", "content": "An owl."}]
    if rng.random() < 0.1:
        messages += [
            _user(rng, python),
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "1", "name": "f", "content": "42"},
        ]
    return [*messages, _user(rng, python)]


def _user(rng: random.Random, python: bool) -> Plain:
    kind = rng.randrange(4)
    if kind == 0:
        return {"role": "user", "content": "What is an owl?"}
    if kind == 1 and python:  # ollama's form
        return {"role": "user", "content": "What is this?", "images": [_picture(rng, python)]}
    parts: list[Plain] = []
    for _ in range(rng.choice((0, 1, 1, 2))):
        url = _picture(rng, python)
        nested = {"url": url, "detail": "low"} if rng.random() < 0.5 or not python else url
        parts.append({"type": "image_url", "image_url": nested})
    if python and rng.random() < 0.3:
        parts.append({"type": "text", "text": "A long story.\n", "evictable": True})
    parts.append({"type": "text", "text": "What is in image 1?"})
    if rng.random() < 0.3:
        rng.shuffle(parts)
    return {"role": "user", "content": parts}


def _picture(rng: random.Random, python: bool) -> Plain:
    if not python:
        return URI
    made = (Thing("picture", ["RGB", [8, 8]]), Thing("closed picture", SMALL))
    forms = (URI, SMALL, Thing("file", SMALL), Thing("bytearray", SMALL), *made)
    return rng.choice((*forms, URI[22:], str(DEMO / "pic05.png")))
