"""Messages of the library's ``create_chat_completion``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lookm_cpp import Llava

from fuzz.conversations import conversation
from fuzz.embedded_model import EmbeddedModel
from fuzz.target import Library, LibraryTarget
from fuzz.things import Plain
from fuzz.trees import mutated
from fuzz.values import any_value


class _Messages(EmbeddedModel):
    documented = (FileNotFoundError, TypeError)  # of images

    def take(self, given: Any) -> None:
        ratio = given.get("kv_ratio")
        self.llm.create_chat_completion(
            given["messages"], max_tokens=1, temperature=0, kv_ratio=ratio
        )


class Messages(LibraryTarget):
    name = "messages"

    def make(self, rng: random.Random) -> Plain:
        good = conversation(rng, python=True)
        messages = mutated(good, rng, any_value, rng.choice((1, 1, 1, 2, 3)))
        return {"messages": messages, "kv_ratio": rng.choice((None, None, 0.3))}

    @contextmanager
    def library(self, folder: Path) -> Iterator[Library]:
        with Llava.embedded() as llm:
            yield _Messages(llm)
