"""``lookm chat``: a conversation at the terminal."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Any

import typer

from lookm_cpp.cli.ask import open_model
from lookm_cpp.cli.flags import (
    ANSWER,
    COMPRESSION,
    FORM,
    OPENING,
    SEED,
    Mmproj,
    Model,
    System,
    TextOnly,
    projector_of,
    with_flags,
)
from lookm_cpp.cli.lines import typed_lines
from lookm_cpp.cli.talk import COMMANDS, Talk
from lookm_cpp.conversation import Chat
from lookm_cpp.files import read_text
from lookm_cpp.full_conversation import FullChat
from lookm_cpp.llava import Llava


class Keep(str, Enum):
    """What stays of earlier turns."""

    all = "all"
    compressed = "compressed"


@with_flags(how=COMPRESSION, answer=(*ANSWER, SEED, *FORM), opened=OPENING)
def chat(
    *,
    model: Model,
    mmproj: Mmproj = None,
    system: System = None,
    text_only: TextOnly = False,
    keep: Annotated[
        Keep,
        typer.Option(
            "--keep",
            help="What stays of earlier turns: all of it, in host memory, so that each answer is "
            "compressed for its own question; or what compression has left.",
        ),
    ] = Keep.all,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="FILE",
            help="Go on from what /save has written, with the same --keep.",
        ),
    ] = None,
    how: dict[str, Any],
    answer: dict[str, Any],
    opened: dict[str, Any],
) -> None:
    """Have a conversation about images and texts.

    /help lists what a line may begin with; a line of names of images attaches these to the next
    question. Answers go to stdout, everything else to stderr.
    """
    projector = projector_of(model, mmproj, text_only=text_only)
    with open_model(model, projector, {**opened, **how}) as llm:
        talk = Talk(llm, _begun(llm, keep, system, resume), answer)
        for line in typed_lines(COMMANDS, talk.status):
            if not talk.take(line):
                break


def _begun(llm: Llava, keep: Keep, system: str | None, resume: str | None) -> Chat | FullChat:
    if resume is not None and system is not None:
        raise ValueError(
            "--system is given with --resume, expected one that was saved, or a new one"
        )
    if keep is Keep.compressed:
        return llm.chat(system=system) if resume is None else llm.load_state(resume)
    if resume is None:
        return llm.chat(system=system, keep="all")
    try:
        messages = json.loads(read_text(resume, "--resume"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"--resume {resume!r}: {error}, expected what /save has written") from None
    if not isinstance(messages, list):
        raise ValueError(f"--resume {resume!r} has no list, expected what /save has written")
    return llm.chat(keep="all", messages=messages)
