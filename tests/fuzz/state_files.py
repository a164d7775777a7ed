"""Files of ``Chat.save`` with something wrong in the header, in the cells, or in any byte."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookm_cpp import Llava

from fuzz.bytes_changed import changed
from fuzz.embedded_model import OWL, PICTURES, QUESTION, EmbeddedModel
from fuzz.target import Library, LibraryTarget
from fuzz.things import Plain
from fuzz.trees import mutated
from fuzz.values import json_value

MAGIC = 8
N_CHECKSUM = 32
BASES = ("text", "pictures")
RATIO = {"text": 1.0, "pictures": 0.4}


@dataclass(frozen=True)
class Parts:
    """A state file, taken apart by its format."""

    head: bytes
    header: Any
    state: bytes

    @classmethod
    def of(cls, data: bytes) -> Parts:
        (n,) = struct.unpack_from("<I", data, MAGIC + 4)
        at = MAGIC + 8
        return cls(data[: MAGIC + 4], json.loads(data[at : at + n]), data[at + n + 8 : -N_CHECKSUM])

    def pack(self, header: bytes, state: bytes) -> bytes:
        body = (
            self.head
            + struct.pack("<I", len(header))
            + header
            + struct.pack("<Q", len(state))
            + state
        )
        return body + hashlib.sha256(body).digest()


class _StateFiles(EmbeddedModel):
    documented = (OSError,)

    def __init__(self, llm: Llava, folder: Path) -> None:
        super().__init__(llm)
        self._path = folder / "mutated.state"
        self._whole: dict[str, bytes] = {}
        for name in BASES:
            chat = llm.chat(kv_ratio=RATIO[name])
            if name == "text":
                chat.ask("What is an owl?", max_tokens=4)
            else:
                chat.ask(QUESTION, PICTURES, max_tokens=4)
                chat.ask("And in image 1?", max_tokens=4)
            chat.save(folder / f"{name}.state")
            self._whole[name] = (folder / f"{name}.state").read_bytes()

    def take(self, given: Any) -> None:
        self._path.write_bytes(self._data(given))
        chat = self.llm.load_state(self._path)
        chat.ask("What is in image 1?", OWL, max_tokens=2)

    def _data(self, given: Any) -> bytes:
        """The file of an input: edits of a whole one; ``header`` replaces keys."""
        whole = self._whole[given["base"]]
        if "raw" in given:
            return changed(whole, random.Random(given["raw"]), 1)
        parts = Parts.of(whole)
        header, state = parts.header, parts.state
        if "header" in given:
            header = mutated(header, random.Random(given["header"]), json_value, given["n"])
        if "replace" in given:
            header = {**header, **given["replace"]}
        if "state" in given:
            # lengths and positions stand at the start
            cut = given["first"] or len(state)
            rng, in_place = random.Random(given["state"]), given["in place"]
            state = changed(state[:cut], rng, given["n"], in_place=in_place) + state[cut:]
        text = json.dumps(header, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if "text" in given:
            text = changed(text, random.Random(given["text"]), given["n"])
        return parts.pack(text, state)


class StateFiles(LibraryTarget):
    name = "state files"

    def make(self, rng: random.Random) -> Plain:
        number = rng.randrange(1 << 32)
        given: dict[str, Plain] = {"base": rng.choice(BASES), "n": rng.choice((1, 1, 2, 3))}
        what = rng.randrange(10)
        if what == 0:
            given["raw"] = number
        elif what < 4:
            given["header"] = number
        elif what == 4:
            given["text"] = number
        elif what == 5:
            key = rng.choice(
                ("model", "mmproj", "cache", "compression", "system", "turns", "chat_template")
            )
            given["replace"] = {key: json_value(rng)}
        else:
            given["state"] = number
            given["first"] = rng.choice((0, 64, 64, 2048))
            given["in place"] = rng.random() < 0.7
        return given

    @contextmanager
    def library(self, folder: Path) -> Iterator[Library]:
        with Llava.embedded(n_ctx=2048) as llm:
            yield _StateFiles(llm, folder)
