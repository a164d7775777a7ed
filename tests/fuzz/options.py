"""Options of all that the library offers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lookm_cpp import Llava, devices, model_info, plan
from lookm_cpp.embedded import MMPROJ, MODEL

from fuzz.embedded_model import OWL, EmbeddedModel
from fuzz.option_table import CALLS, SHARES
from fuzz.target import Library, LibraryTarget
from fuzz.things import Plain, Thing
from fuzz.trees import near
from fuzz.values import any_value

MESSAGES = [
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": str(OWL)},
            {"type": "text", "text": "What is in image 1?"},
        ],
    }
]


class _Options(EmbeddedModel):
    # a template's file; what is no image; a context that cannot be made
    documented = (FileNotFoundError, TypeError, RuntimeError)

    def take(self, given: Any) -> None:
        call, options = given["call"], dict(given["options"])
        if callable(options.get("progress")):  # what a caller's own function raises is the caller's
            options["progress"] = lambda *_: None
        if call == "complete":
            self.llm.create_chat_completion(MESSAGES, **{"max_tokens": 2, **options})
        elif call == "ask":
            question, images = options.pop("question", "Who?"), options.pop("images", OWL)
            self.llm.ask(question, images, **{"max_tokens": 2, **options})
        elif call == "chat":
            self.llm.chat(**options).ask("What is in image 1?", OWL, max_tokens=2)
        elif call == "turn":
            question, images = options.pop("question", "Who?"), options.pop("images", OWL)
            self.llm.chat(kv_ratio=0.5).ask(question, images, **{"max_tokens": 2, **options})
        elif call == "explain":
            question, images = options.pop("question", "Who?"), options.pop("images", OWL)
            self.llm.explain(question, images, **{"max_tokens": 2, **options})
        elif call == "open":
            with Llava(MODEL, mmproj=MMPROJ, **{"n_threads": 1, **options}) as llm:
                llm.ask("What is in image 1?", OWL, max_tokens=2)
        elif call == "plan":
            plan(MODEL, **{"mmproj": MMPROJ, "images": 2, **options})
        elif call == "info":
            model_info(MODEL, **options)
        elif call == "devices":
            devices(**options)


class Options(LibraryTarget):
    name = "options"

    def make(self, rng: random.Random) -> Plain:
        (call,) = rng.choices(list(SHARES), list(SHARES.values()))
        table = CALLS[call]
        names = rng.sample(sorted(table), min(len(table), rng.randrange(1, 5)))
        options = {name: _plain(rng.choice(table[name])) for name in names}
        for name in rng.sample(names, min(len(names), rng.choice((0, 1, 1, 1, 2)))):
            odd = rng.random() < 0.7
            options[name] = any_value(rng) if odd else near(options[name], rng)
        return {"call": call, "options": options}

    @contextmanager
    def library(self, folder: Path) -> Iterator[Library]:
        with Llava.embedded() as llm:
            yield _Options(llm)


def _plain(value: Any) -> Plain:
    return Thing("tuple", list(value)) if isinstance(value, tuple) else value
