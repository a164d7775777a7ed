"""The commands of ``lookm eval`` whose suites any chat model can answer."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from lookm_cpp.cli.eval_options import (
    CHAT_METHODS,
    CHAT_RATIOS,
    EQUAL_BYTES_FLAGS,
    MODEL_FLAGS,
    Caches,
    Methods,
    Output,
    Place,
    Ratios,
    Seed,
    Split,
    fields_given,
    make_setup,
    progress_bar,
    split_numbers,
)
from lookm_cpp.cli.eval_tables import report, run_and_report
from lookm_cpp.cli.flags import Json, Mmproj, Model, with_flags
from lookm_cpp.compression import METHOD
from lookm_cpp.evaluation import (
    code_prompts,
    document_prompts,
    large_prompts,
    long_prompts,
    picture_prompts,
)
from lookm_cpp.evaluation.arms import TEXT_ONLY, Arm, make_arms
from lookm_cpp.evaluation.conversation_prompts import make_conversation
from lookm_cpp.evaluation.conversation_suite import PLACE, run_conversations
from lookm_cpp.evaluation.pictures import ARCHIVE, Picture, load_pictures
from lookm_cpp.evaluation.records import Records
from lookm_cpp.evaluation.report import rows_of
from lookm_cpp.evaluation.suite import Context, SuiteRun, places_of
from lookm_cpp.files import existing_file
from lookm_cpp.parsing import numbers, words

N_CONTEXTS = 40
N_CONVERSATIONS = 20
MAX_TOKENS = 64  # of answers whose question sets no limit
CHAT_TOKENS = 16
CONVERSATION_RATIOS = "0.5,0.35,0.2,0.1"

Contexts = Annotated[
    int, typer.Option("--contexts", metavar="N", help="Number of contexts, with --split all.")
]
Pictures = Annotated[
    str | None,
    typer.Option(
        "--pictures",
        metavar="ZIP",
        help="Another archive made by training.eval_pictures.  [default: the shipped pictures]",
    ),
]


@dataclass(frozen=True)
class TextSuite:
    """A suite about texts, all of which may be evicted.

    Attributes:
        name: Its command.
        summary: The command's help.
        make_context: Makes a context from its number and the seed.
    """

    name: str
    summary: str
    make_context: Callable[[int, int], Context]


TEXT_SUITES = (
    TextSuite(
        "documents",
        """Ask about facts in long documents.

        Questions for one fact, for two facts, and for a fact that the question puts into other
        words. For chat models.
        """,
        document_prompts.make_context,
    ),
    TextSuite(
        "code",
        """Ask about source code and tables.

        The default of a parameter, the constant that a function uses, and a cell of a table, in
        Python and C, CSV and Markdown. For chat models.
        """,
        code_prompts.make_context,
    ),
    TextSuite(
        "long",
        """Ask for long answers about documents.

        Reports on a person, a project and firms, of up to 192 tokens. The score is the share of
        facts that an answer tells. For chat models.
        """,
        long_prompts.make_context,
    ),
)


def text_command(suite: TextSuite) -> Callable[..., None]:
    """The command of a suite."""

    def command(
        *,
        model: Model,
        methods: Methods = CHAT_METHODS,
        ratios: Ratios = CHAT_RATIOS,
        caches: Caches = "f16",
        place: Place = "after",
        contexts: Contexts = N_CONTEXTS,
        split: Split = "all",
        seed: Seed = 0,
        output: Output = None,
        as_json: Json = False,
        opened: dict[str, Any],
        how: dict[str, Any],
    ) -> None:
        given = fields_given(how, EQUAL_BYTES_FLAGS)
        arms = make_arms(words(methods), numbers(ratios, "--ratios"), words(caches), given)
        setup = make_setup(model, text_only=True, **opened)
        asked = [suite.make_context(number, seed) for number in split_numbers(contexts, split)]
        run = SuiteRun(suite.name, setup, arms, places_of(place), asked, seed, MAX_TOKENS, given)
        run_and_report(run, output, as_json=as_json)

    command.__name__, command.__doc__ = suite.name, suite.summary
    return with_flags(how=EQUAL_BYTES_FLAGS, opened=MODEL_FLAGS)(command)


@with_flags(how=EQUAL_BYTES_FLAGS, opened=MODEL_FLAGS)
def pictures(
    *,
    model: Model,
    mmproj: Mmproj = None,
    archive: Pictures = None,
    methods: Methods = CHAT_METHODS,
    ratios: Ratios = CHAT_RATIOS,
    caches: Caches = "f16",
    place: Place = "after",
    contexts: Contexts = N_CONTEXTS,
    split: Split = "all",
    seed: Seed = 0,
    output: Output = None,
    as_json: Json = False,
    opened: dict[str, Any],
    how: dict[str, Any],
) -> None:
    """Ask about several pictures and the text between them.

    What a picture shows, which picture shows something, and a code told between the pictures. An
    archive of large pictures has questions of its own. For chat models that can name what a picture
    shows.
    """
    given = fields_given(how, EQUAL_BYTES_FLAGS)
    arms = make_arms(words(methods), numbers(ratios, "--ratios"), words(caches), given)
    setup = make_setup(model, mmproj, **opened)
    pool, name = _pool("pictures", archive)
    single = any(picture.kind == "single" for picture in pool)
    make_context = (picture_prompts if single else large_prompts).make_context
    asked = [make_context(pool, number, seed) for number in split_numbers(contexts, split)]
    run = SuiteRun(name, setup, arms, places_of(place), asked, seed, MAX_TOKENS, given)
    run_and_report(run, output, as_json=as_json)


@with_flags(how=EQUAL_BYTES_FLAGS, opened=MODEL_FLAGS)
def conversations(
    *,
    model: Model,
    mmproj: Mmproj = None,
    archive: Pictures = None,
    methods: Methods = CHAT_METHODS,
    ratios: Ratios = CONVERSATION_RATIOS,
    contexts: Annotated[
        int,
        typer.Option("--contexts", metavar="N", help="Number of conversations, with --split all."),
    ] = N_CONVERSATIONS,
    split: Split = "all",
    seed: Seed = 0,
    output: Output = None,
    as_json: Json = False,
    opened: dict[str, Any],
    how: dict[str, Any],
) -> None:
    """Ask about pictures and notes, and again four turns later.

    Conversations of six turns. The first turns bring pictures and notes that may be evicted, the
    last ones ask about the oldest. For chat models that can name what a picture shows.
    """
    given = fields_given(how, EQUAL_BYTES_FLAGS)
    arms = _conversation_arms(make_arms(words(methods), numbers(ratios, "--ratios"), (), given))
    setup = make_setup(model, mmproj, **opened)
    pool, name = _pool("conversations", archive)
    held = [make_conversation(pool, number, seed) for number in split_numbers(contexts, split)]
    run = SuiteRun(name, setup, arms, (PLACE,), held, seed, CHAT_TOKENS, given)
    with Records(output, run.identity()) as records:
        with progress_bar("conversations") as progress:
            run_conversations(run, held, records, progress)
        rows = rows_of(run, records.all)
    report(run, rows, output, as_json=as_json)


def _conversation_arms(arms: Sequence[Arm]) -> list[Arm]:
    """The arms, and the default method with conversations that keep everything.

    Text always stays in a conversation, so arms that differ only in that are left out.
    """
    known: list[Arm] = []
    for arm in arms:
        alike = [other for other in known if _apart_from_text(other) == _apart_from_text(arm)]
        if arm.name != TEXT_ONLY and not alike:
            known.append(arm)
    whole = [
        replace(arm, name=f"{arm.name}, all kept", keeps_all=True)
        for arm in known
        if arm.name == METHOD and arm.budget is not None
    ]
    return [*known, *whole]


def _apart_from_text(arm: Arm) -> tuple[str, float | None, float]:
    return arm.compression.method, arm.budget, arm.compression.quality


def _pool(suite: str, archive: str | None) -> tuple[list[Picture], str]:
    """The pictures, and the suite's name in records, which tells archives apart."""
    if archive is None:
        return load_pictures(ARCHIVE), suite
    file = existing_file(archive, "--pictures")
    try:
        pool = load_pictures(file)
    except (zipfile.BadZipFile, KeyError, ValueError):
        raise ValueError(
            f"--pictures {archive!r} is not an archive of pictures, "
            "expected one that training.eval_pictures makes"
        ) from None
    return pool, f"{suite} {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
