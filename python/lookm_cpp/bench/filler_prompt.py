"""Makes prompts with a given number of cells, for any tokenizer and projector.

Their content does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lookm_cpp import _core

UNITS = (" a", "x", " x", "\n")
TEXT_SHARE = 0.04
"""Fraction of a prompt's cells that is the question.

It is below the smallest ratio, so that the text fits into the budget and the ratio is met.
"""
_PROBE = 32

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prompt:
    """The arguments of ``Session.prefill``."""

    text: str
    images: list[Picture]
    contexts: list[str]


class Filler:
    """Fills prompts for a session.

    It reads a few short ones first, to learn how many cells text and images take.
    """

    def __init__(self, session: _core.Session, picture: Picture | None) -> None:
        self._session = session
        self._picture = picture
        self._unit = next((unit for unit in UNITS if self._is_one_token(unit)), UNITS[-1])
        self._extra = self._read(self._prompt(0, _PROBE, _PROBE)) - 2 * self._count(_PROBE)
        self._image_cells = 0
        if picture is not None:
            with_image = self._read(self._prompt(1, _PROBE, _PROBE))
            self._image_cells = with_image - self._extra - 2 * self._count(_PROBE)

    def prompt(self, n_cells: int) -> Prompt:
        """As many images as fit, text that may be evicted for the rest, and a question."""
        n_text = max(1, round(TEXT_SHARE * n_cells))
        n_left = n_cells - self._extra - n_text
        n_images = max(0, n_left) // self._image_cells if self._image_cells else 0
        return self._prompt(
            n_images, self._units(n_left - n_images * self._image_cells), self._units(n_text)
        )

    def text(self, n_cells: int) -> Prompt:
        """Only text, none of which may be evicted."""
        extra = self._read(self._prompt(0, 0, _PROBE)) - self._count(_PROBE)
        return self._prompt(0, 0, self._units(n_cells - extra))

    def _prompt(self, n_images: int, n_context: int, n_question: int) -> Prompt:
        markers = self._session.media_marker * n_images + (
            self._session.context_marker if n_context else ""
        )
        images = [] if self._picture is None else [self._picture] * n_images
        contexts = [self._unit * n_context] if n_context else []
        return Prompt(markers + self._unit * n_question, images, contexts)

    def _read(self, prompt: Prompt) -> int:
        self._session.prefill(
            prompt.text, prompt.images, _core.Compression(method="origin"), contexts=prompt.contexts
        )
        return self._session.stats["prompt_cells"]

    def _count(self, n_units: int) -> int:
        return len(self._session.tokens_of(self._unit * n_units))

    def _is_one_token(self, unit: str) -> bool:
        return (
            len(self._session.tokens_of(unit * (2 * _PROBE)))
            - len(self._session.tokens_of(unit * _PROBE))
            == _PROBE
        )

    def _units(self, n_tokens: int) -> int:
        """The largest number of units that takes ``n_tokens`` at most."""
        low, high = 0, max(0, n_tokens)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._count(middle) <= n_tokens else (low, middle - 1)
        return low
