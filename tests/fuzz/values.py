"""Values that stand where another was expected."""

from __future__ import annotations

import random

from fuzz.things import Plain, Thing

NUMBERS = (
    0, 1, -1, 2, 3, 7, 8, 63, 64, 127, 128, 255, 256, 257, 1000, 4096, 65535, 65536, 10**6,
    (1 << 31) - 1, 1 << 31, -(1 << 31), (1 << 32) - 1, 1 << 32, (1 << 53) + 1, (1 << 63) - 1,
    1 << 63, 1 << 64, -(1 << 63), 10**30,
)  # fmt: skip
REALS = (
    0.0, -0.0, 0.5, 0.1, 1.0, 1.5, -0.5, -1.0, 1e-45, 1e-300, 1e300, 3.4e38, 3.5e38,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = (
    "", " ", "\n", "\0", "a\0b", "x", "0", "1", "-1", "0.5", "1e999", "nan", "null", "true", "auto",
    "user", "assistant", "system", "tool", "text", "image_url", "<image>", "<__media__>",
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "{{ 1 }}", "{% for %}",
    "\ud800", "a\udcff", "\U0010ffff", "\u202e", "\u0301" * 40, "\ufeff", "\ufffd",
    "é", "漢字", "🦉👩‍👩‍👧", "../../etc/passwd", "/dev/zero", "/", ".", "~",
    "a" * 300, "word " * 700, "[" * 300, '"', "\\", "\\u0000", "%00", "%s%n", "data:", "data:,",
    "data:image/png;base64,", "data:image/png;base64,%%%", "data:image/png;base64,AAAA",
    "data:text/plain,hello", "http://127.0.0.1:9/x.png", "file://", "file:///dev/null",
    "file://localhost/dev/full", "file:///nowhere.png", "nowhere.png",
    "q8_0", "q4_0", "f16", "h2o", "512MiB", "1e3GiB", "8GiB", "127.0.0.1:1", "vicuna", "chatml",
)  # fmt: skip
BYTES = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"GGUF",
    b"\x89PNG\r\n\x1a\n",
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
    bytes(300),
)


def json_value(rng: random.Random, depth: int = 2) -> Plain:
    """Of JSON; lone surrogates among its texts."""
    kind = rng.randrange(11 if depth else 9)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 5:
        return rng.choice(REALS)
    if kind < 8:
        return rng.choice(TEXTS)
    if kind == 8:
        return rng.choice((None, True, False))
    values = [json_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 9:
        return values
    return {rng.choice(TEXTS): value for value in values}


def any_value(rng: random.Random) -> Plain:
    """Of Python."""
    if rng.random() < 0.6:
        return json_value(rng)
    if rng.random() < 0.2:
        return rng.choice(BYTES)
    return thing(rng)


def thing(rng: random.Random) -> Thing:
    """What no JSON has."""
    items = [json_value(rng, 0) for _ in range(rng.randrange(3))]
    data = rng.choice(BYTES)
    shape = [rng.choice((0, 1, 2, 3, 4, 5, 20)) for _ in range(rng.randrange(5))]
    size = [rng.choice((0, 1, 2, 17, 64)) for _ in range(2)]
    return rng.choice(
        (
            Thing("object"),
            Thing("type"),
            Thing("function"),
            Thing("set", [1, "x"]),
            Thing("tuple", items),
            Thing("iterator", items),
            Thing("mapping", {"role": "user", "content": "x"}),
            Thing("keys", [[rng.choice((1, None, "role", 2.5, False)), "x"]]),
            Thing("bytearray", data),
            Thing("memoryview", data),
            Thing("words", data),
            Thing("file", data),
            Thing("closed file", data),
            Thing("text file", "x"),
            Thing("path", rng.choice(TEXTS)),
            Thing("complex"),
            Thing("fraction", [1, 2]),
            Thing("numpy int", 3),
            Thing("numpy float", 0.5),
            Thing(
                "array",
                [shape, rng.choice(("uint8", "int8", "float32", "int64", "bool", "U1", "O"))],
            ),
            Thing(
                "picture",
                [
                    rng.choice(
                        ("RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "I", "F", "I;16", "HSV")
                    ),
                    size,
                ],
            ),
            Thing("nested", rng.choice((3, 200, 1200))),
            Thing("circle"),
            Thing("long", [rng.choice(("x", "é", "a ", "<image>")), rng.choice((100, 3000))]),
        )
    )
