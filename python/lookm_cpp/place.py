"""Where conversations and prefixes live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lookm_cpp import _core
from lookm_cpp.files import model_parts
from lookm_cpp.state_header import Origin
from lookm_cpp.statefile import fingerprint
from lookm_cpp.turns import Turns


@dataclass(frozen=True)
class Place:
    """What conversations and prefixes of one ``Llava`` share: its session and its settings."""

    session: _core.Session
    turns: Turns
    model: Path
    projector: Path | None
    cache: dict[str, str]
    chat_template: str
    seed: int
    max_pixels: int

    def origin(self, **cache: str) -> Origin:
        """What a file that is saved here comes from; ``cache``: more types of cells."""
        return Origin(
            model=fingerprint(model_parts(self.model)),
            mmproj=fingerprint([self.projector]) if self.projector else None,
            cache={**self.cache, **cache},
            chat_template=self.chat_template,
        )
