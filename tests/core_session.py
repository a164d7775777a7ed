"""``_core.Session`` by keyword arguments alone, as tests like it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lookm_cpp import _core

_OF_READING = ("contexts", "n_answer", "progress", "explain", "reuse")


def _split(options: dict[str, Any]) -> tuple[_core.Compression, dict[str, Any]]:
    reading = {name: options.pop(name) for name in _OF_READING if name in options}
    return _core.Compression(**options), reading


class Session(_core.Session):
    """Fields of ``ModelOptions`` open it; those of a ``Compression`` go with what is read."""

    def __init__(
        self,
        model_path: str,
        mmproj_path: str,
        *,
        weights_of: _core.Session | None = None,
        **options: Any,
    ) -> None:
        opened = _core.ModelOptions(model_path=model_path, mmproj_path=mmproj_path, **options)
        super().__init__(opened, weights_of=weights_of)

    def check(self, compression: _core.Compression | None = None, **how: Any) -> None:
        super().check(compression or _core.Compression(**how))

    def trial(self, compression: _core.Compression | None = None, **how: Any) -> None:
        super().trial(compression or _core.Compression(**how))

    def restore(
        self, state: bytes, compression: _core.Compression | None = None, **how: Any
    ) -> None:
        super().restore(state, compression or _core.Compression(**how))

    def prefill(
        self,
        prompt: str,
        images: Sequence[Any],
        compression: _core.Compression | None = None,
        **options: Any,
    ) -> None:
        how, reading = _split(options)
        super().prefill(prompt, images, compression or how, **reading)

    def keep_prefix(
        self,
        prompt: str,
        images: Sequence[Any],
        compression: _core.Compression | None = None,
        **options: Any,
    ) -> int:
        how, reading = _split(options)
        return super().keep_prefix(prompt, images, compression or how, **reading)

    def prefix_state(
        self,
        prompt: str,
        images: Sequence[Any],
        compression: _core.Compression | None = None,
        **options: Any,
    ) -> bytes:
        how, reading = _split(options)
        return super().prefix_state(prompt, images, compression or how, **reading)

    def converse(
        self,
        prompt: str,
        images: Sequence[Any],
        compression: _core.Compression | None = None,
        **options: Any,
    ) -> None:
        how, reading = _split(options)
        super().converse(prompt, images, compression or how, **reading)

    def converse_anew(
        self,
        prompt: str,
        images: Sequence[Any],
        compression: _core.Compression | None = None,
        **options: Any,
    ) -> None:
        how, reading = _split(options)
        super().converse_anew(prompt, images, compression or how, **reading)

    def read(
        self,
        prompt: str,
        images: Sequence[Any],
        compression: _core.Compression | None = None,
        **options: Any,
    ) -> None:
        how, reading = _split(options)
        super().read(prompt, images, compression or how, **reading)
