"""``lookm ask``: one question, with one cache or with two."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import typer
from rich.console import Console

from lookm_cpp import embedded
from lookm_cpp.chat import question_messages
from lookm_cpp.chat_types import FinishReason
from lookm_cpp.cli.asked import ContextFiles, Images, Question, question_and_images
from lookm_cpp.cli.console import print_json, prompt_progress, side_by_side, stats_line, stats_rows
from lookm_cpp.cli.flags import (
    ANSWER,
    COMPRESSION,
    FORM,
    KV_RATIO,
    OPENING,
    SEED,
    Json,
    Mmproj,
    Model,
    System,
    TextOnly,
    projector_of,
    with_flags,
    without,
)
from lookm_cpp.cli.media import MEDIA, series_of, with_series
from lookm_cpp.comparison import COMPARED_RATIO, Answered
from lookm_cpp.compression import RATIOS
from lookm_cpp.evaluation.fidelity import Fidelity
from lookm_cpp.files import read_text
from lookm_cpp.images import ImageLike
from lookm_cpp.llava import Llava
from lookm_cpp.options import ChatOptions
from lookm_cpp.parsing import ratio_or_auto


@dataclass(frozen=True)
class Asked:
    """What is asked, and about what."""

    text: str
    images: Sequence[ImageLike] = ()
    contexts: Sequence[str] = ()
    system: str | None = None


def open_model(
    model: str, mmproj: str | Literal[False] | None, options: Mapping[str, Any]
) -> Llava:
    """The model of a command line, with the library's options."""
    if model == embedded.NAME:
        return Llava.embedded(**options)
    return Llava(model, mmproj=mmproj, **options)


def run(llm: Llava, question: Asked, options: ChatOptions, *, echo: bool = False) -> Answered:
    """Ask, with progress on stderr; ``echo`` writes the answer to stdout as it comes."""
    with prompt_progress() as progress:
        shown: ChatOptions = {**options, "progress": progress}
        messages = question_messages(
            question.text, question.images, question.contexts, question.system
        )
        chunks = llm.create_chat_completion(messages, stream=True, **shown)
    answer = ""
    reason: FinishReason | None = None
    for chunk in chunks:
        choice = chunk["choices"][0]
        reason = choice["finish_reason"]
        longer = (answer + choice["delta"].get("content", "")).lstrip()
        if echo:
            sys.stdout.write(longer[len(answer) :])
            sys.stdout.flush()
        answer = longer
    if echo:
        sys.stdout.write("\n")
    return Answered(answer.rstrip(), reason, llm.stats)


def _ask_once(llm: Llava, question: Asked, options: ChatOptions, *, as_json: bool) -> None:
    """Answer on stdout, a line about it on stderr; or both as JSON."""
    result = run(llm, question, options, echo=not as_json)
    if as_json:
        print_json({"model": llm.model_name, "question": question.text, **result.as_dict()})
    else:
        sys.stderr.write(f"[{stats_line(result.stats)}]\n")


def _ask_twice(llm: Llava, question: Asked, options: ChatOptions, *, as_json: bool) -> None:
    """The same question with the full and with the compressed cache, side by side."""
    with prompt_progress() as progress:
        options["progress"] = progress
        found = llm.compare(
            question.text,
            question.images,
            context=question.contexts,
            system=question.system,
            **options,
        )
    if as_json:
        print_json({"model": llm.model_name, "question": question.text, **found.as_dict()})
        return
    full, small = found.full, found.compressed
    rows = [
        ["answer", full.answer, small.answer],
        *_fidelity_rows(found.fidelity),
        *stats_rows((full.stats, small.stats)),
    ]
    if small.stats.note:
        rows.append(["note", full.stats.note, small.stats.note])
    Console(highlight=False).print(
        side_by_side(("full cache", f"compressed by {small.stats.method}"), rows)
    )


def _fidelity_rows(found: Fidelity | None) -> list[list[str]]:
    if found is None:
        return []
    return [
        ["KL divergence", "", f"{found.kl_divergence:.3g} nats"],
        ["top-1 agreement", "", f"{found.top1_agreement:.1%} of {found.n_tokens} tokens"],
    ]


@with_flags(
    how=without(COMPRESSION, "kv_ratio"),
    answer=(*ANSWER, SEED, *FORM),
    media=MEDIA,
    opened=OPENING,
)
def ask(
    question: Question = None,
    *,
    model: Model,
    mmproj: Mmproj = None,
    system: System = None,
    text_only: TextOnly = False,
    image: Images = None,
    context_file: ContextFiles = None,
    kv_ratio: Annotated[
        str | None,
        typer.Option(
            "--kv-ratio",
            metavar=KV_RATIO.metavar,
            help=f"{KV_RATIO.help}  [default: 1, with --compare 0.2]",
            rich_help_panel=KV_RATIO.section,
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Show the answer with the full cache next to it, and how close the two caches' "
            "predictions are along that answer. --kv-ratio is then 0.2 by default.",
        ),
    ] = False,
    as_json: Json = False,
    how: dict[str, Any],
    answer: dict[str, Any],
    media: dict[str, Any],
    opened: dict[str, Any],
) -> None:
    """Answer a question about images and texts.

    The answer goes to stdout, a line about cells and speed to stderr.
    """
    ratios_given = (kv_ratio, how["important_ratio"], how["recent_ratio"]) != (None, None, None)
    default_ratio = COMPARED_RATIO if compare and not ratios_given else 1.0
    how["kv_ratio"] = default_ratio if kv_ratio is None else ratio_or_auto(kv_ratio)
    ratios = {name: how[name] for name in RATIOS}
    projector = projector_of(model, mmproj, text_only=text_only)
    if compare and (opened["kv_cells"] is not None or opened["kv_memory"] is not None):
        raise ValueError(
            "--compare needs the full cache, expected no --kv-cells or --kv-memory with it"
        )
    contexts = [read_text(file, "--context-file") for file in context_file or ()]
    text, images = with_series(*question_and_images(question, image), series_of(media))
    asked = Asked(text, images, contexts, system)
    if not compare:  # nothing comes again
        opened |= {"prefix_memory": 0, "image_cache": 0}
    with open_model(model, projector, {**opened, **how}) as llm:
        (_ask_twice if compare else _ask_once)(
            llm, asked, cast("ChatOptions", {**answer, **ratios}), as_json=as_json
        )
