"""``-i a.png b.png``: several images after one flag, as a shell writes them for ``*.png``."""

from __future__ import annotations

import mimetypes
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from lookm_cpp.cli.command import Command

IMAGE = ("-i", "--image")


class ImageCommand(Command):
    """A command whose ``-i`` takes every word up to the next flag."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does, with one ``-i`` for each image."""
        with_value = {
            name
            for param in self.params
            if not getattr(param, "is_flag", False)
            for name in param.opts
            if name.startswith("-")
        }
        return super().parse_args(ctx, one_flag_each(args, with_value))


def one_flag_each(words: Sequence[str], with_value: Collection[str]) -> list[str]:
    """The command line with one ``-i`` for each image.

    Every word from ``-i`` to the next flag is an image. If the question is not given elsewhere, it
    is the last of these words that is neither the first one after its ``-i``, nor the name of a
    file, nor a single word like ``x.png``. What comes after ``--`` is left as it is.

    Args:
        words: The command line.
        with_value: The flags that take a value.

    >>> one_flag_each(["-i", "a.png", "b.png", "What?"], ["-i"])
    ['-i', 'a.png', '-i', 'b.png', 'What?']
    >>> one_flag_each(["What?", "-i", "a.png", "b.png"], ["-i"])
    ['What?', '-i', 'a.png', '-i', 'b.png']
    """
    parts: list[list[str]] = []  # a flag with its value, or one word
    more: list[int] = []  # the parts that are images after the first of their flag
    asked = flag = False
    left = list(words)
    while left:
        word = left.pop(0)
        is_flag = word.startswith("-") and word != "-"
        if word == "--":
            parts.append([word, *left])
            asked = asked or bool(left)
            break
        if is_flag:
            value = [left.pop(0)] if word in with_value and left else []
            parts.append([word, *value])
            flag = word.partition("=")[0] in IMAGE
        elif flag:
            more.append(len(parts))
            parts.append([IMAGE[0], word])
        else:
            asked = True
            parts.append([word])
    if not asked:
        questions = [i for i in more if not _is_a_name(parts[i][1])]
        if questions:
            del parts[questions[-1]][0]
    return [word for part in parts for word in part]


def _is_a_name(word: str) -> bool:
    try:
        if Path(word).is_file():
            return True
    except (OSError, ValueError):  # a question may be longer than any path, or contain a NUL
        return False
    kind, _ = mimetypes.guess_type(word)
    return (kind or "").startswith("image/") and " " not in word
