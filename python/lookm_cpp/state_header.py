"""The headers of saved conversations and prefixes."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lookm_cpp.brief import brief
from lookm_cpp.compression import Compression

_LATER = {
    name: getattr(Compression(), name)
    for name in ("ratio_floor", "ratio_ceiling", "quality", "merge")
}
"""Fields that the files of version 0.1.0 do not have."""
CHANGES = ("rope_freq_base", "rope_freq_scale", "lora_path", "lora_scale")
"""Options that make another model of the same files; in ``Origin.cache`` only where given."""


@dataclass(frozen=True)
class Origin:
    """What the next session must agree with.

    Attributes:
        model: Fingerprint of the model's files.
        mmproj: Fingerprint of the projector, if there was one.
        cache: Types of K and V, and whether flash attention was on; of a prefix, also its own type;
            and ``CHANGES``.
        chat_template: As given to ``Llava``; empty for the model's own.
    """

    model: str
    mmproj: str | None
    cache: dict[str, str]
    chat_template: str

    def as_dict(self) -> dict[str, Any]:
        """The header as a dict, ready for JSON."""
        return asdict(self)

    def check(self, here: Origin, name: str, model: Path, projector: Path | None) -> None:
        """Check that a session with the origin ``here`` can go on with what has this one.

        ``name`` is the file's in error messages, ``model`` and ``projector`` are the files here.

        Raises:
            ValueError: It cannot.
        """
        if self.model != here.model:
            raise ValueError(
                f"{name} was made with another model, expected one made with {model.name!r}"
            )
        # Either side may lack a projector: text can continue after cells of images, and the other
        # way round.
        if projector and self.mmproj not in (None, here.mmproj):
            raise ValueError(
                f"{name} was made with another projector, expected one made with {projector.name!r}"
            )
        for key in dict.fromkeys([*here.cache, *CHANGES]):
            was, now = self.cache.get(key), here.cache.get(key)
            if was != now:
                raise ValueError(f"{name} was made with {key} {was!r}, expected {now!r}")
        if self.chat_template != here.chat_template:
            was, now = (
                f"{text!r:.80}" if text else "the model's own"
                for text in (self.chat_template, here.chat_template)
            )
            raise ValueError(f"{name} was made with chat_template {was}, expected {now}")


@dataclass(frozen=True)
class StateHeader(Origin):
    """How a conversation continues.

    Attributes:
        compression: How turns are compressed.
        system: The system message.
        turns: Number of questions answered so far.
    """

    compression: Compression
    system: str | None
    turns: int

    @classmethod
    def of(cls, found: object, name: str) -> StateHeader:
        """Read a header from JSON; ``name`` is the name of the file in error messages.

        Raises:
            ValueError: A key is missing or unknown, or a value has the wrong type.
        """
        values = _values(cls, found, name)
        if values["turns"] < 1:
            raise ValueError(f"{name} has turns {values['turns']}, expected 1 or more")
        compression = {**_LATER, **values["compression"]}
        values["compression"] = Compression(
            **_values(Compression, compression, f"{name}: compression")
        )
        return cls(**values)


@dataclass(frozen=True)
class PrefixHeader(Origin):
    """What was read.

    Attributes:
        messages: With images as ``data:`` URIs.
    """

    messages: list[Any]

    @classmethod
    def of(cls, found: object, name: str) -> PrefixHeader:
        """Read a header from JSON; ``name`` is the name of the file in error messages.

        Raises:
            ValueError: A key is missing or unknown, or a value has the wrong type.
        """
        return cls(**_values(cls, found, name))


def _values(shape: type[Any], found: object, name: str) -> dict[str, Any]:
    names = [field.name for field in fields(shape)]
    keys = list(found) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or set(found) != set(names):
        raise ValueError(f"{name} has the keys {keys!r:.200}, expected {', '.join(names)}")
    for key, kind in get_type_hints(shape).items():
        if not _fits(found[key], kind):
            raise ValueError(
                f"{name} has {key} {brief(found[key])}, expected {getattr(kind, '__name__', kind)}"
            )
    return dict(found)


def _fits(value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if kind is Compression:
        return isinstance(value, Mapping)
    if get_origin(kind) is dict:
        return isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values())
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is (get_origin(kind) or kind)
