"""Slot files of lookm-server with something wrong, with and without a checksum that is right."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any, ClassVar

from lookm_cpp.embedded import demo_prompts
from server.servers import Server

from fuzz.bytes_changed import changed
from fuzz.live import SECONDS, LiveTarget, of_status
from fuzz.outcomes import Outcome
from fuzz.things import Plain

N_CHECKSUM = 16
MASK = (1 << 64) - 1
NAME = "mutated.bin"


def checksum(data: bytes) -> bytes:
    """What lookm-server writes behind a slot's bytes."""
    total = 0x9E3779B97F4A7C15 ^ len(data)
    padded = data + bytes(-len(data) % 8)
    for (word,) in struct.iter_unpack("<Q", padded):
        total = (total ^ word) * 0xBF58476D1CE4E5B9 & MASK
        total ^= total >> 29
    return b"LOOKMSUM" + struct.pack("<Q", total)


class SlotFiles(LiveTarget):
    name = "slot files"
    flag_sets: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("-np", "1", "-c", "1024", "--kv-ratio", "0.5"),
        ("-np", "1", "-c", "512", "--kv-ratio", "0.5", "--kv-cells", "300", "-fa", "off"),
    )

    def make(self, rng: random.Random) -> Plain:
        return {
            "server": rng.randrange(2),
            "seed": rng.randrange(1 << 32),
            "n": rng.choice((1, 1, 2, 3)),
            # where the header, the tokens and the first cells stand, or anywhere
            "first": rng.choice((12, 64, 700, 2000, 0)),
            "in place": rng.random() < 0.7,
            "checksum": rng.choice(("right",) * 7 + ("none", "none", "old")),
        }

    def send(self, server: Server, folder: Path, given: Any) -> Outcome:
        whole = self._whole(server, folder)
        body, old = whole[:-N_CHECKSUM], whole[-N_CHECKSUM:]
        cut = given["first"] or len(body)
        rng, in_place = random.Random(given["seed"]), given["in place"]
        data = changed(body[:cut], rng, given["n"], in_place=in_place) + body[cut:]
        end = {"right": checksum(data), "none": b"", "old": old}[given["checksum"]]
        (folder / NAME).write_bytes(data + end)
        path = "/slots/0?action=restore"
        response = server.http.post(path, json={"filename": NAME}, timeout=SECONDS)
        outcome = of_status(response.status_code, response.text, path)
        if not outcome.right:
            return outcome
        # whatever the slot holds now, what follows is answered
        after = server.http.post("/completion", json={"prompt": "What is an owl?", "n_predict": 2})
        later = of_status(after.status_code, after.text, "/completion after restore")
        return outcome if later.right else later

    def settle(self, server: Server) -> None:
        """A file with a right checksum may say anything about cells; erasing must be enough."""
        server.post("/slots/0?action=erase")

    def _whole(self, server: Server, folder: Path) -> bytes:
        port = server.url.rpartition(":")[2]
        name = f"whole-{port}.bin"
        if not (folder / name).exists():
            prompt = min(demo_prompts(), key=lambda prompt: len(prompt.images))
            server.chat(prompt, max_tokens=4)
            server.post("/slots/0?action=save", filename=name)
        return (folder / name).read_bytes()
