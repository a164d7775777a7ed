"""A prompt that is read once, then compressed and answered in several ways."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from lookm_cpp import _core, arrays
from lookm_cpp.answer import Answer
from lookm_cpp.cache_types import k_and_v, read_and_kept
from lookm_cpp.chat import PLACEHOLDER, question_messages
from lookm_cpp.compression import PRUNING, Compression
from lookm_cpp.evaluation.fidelity import Rows
from lookm_cpp.file_check import CHECK_FILES, check_model_files
from lookm_cpp.images import MAX_PIXELS, ImageLike
from lookm_cpp.messages import template_input
from lookm_cpp.opening import model_options
from lookm_cpp.options import LlavaOptions
from lookm_cpp.templates import template_text

# roco observes sums and sums of squares over all queries. They serve every method without a window.
_OBSERVER = Compression(kv_ratio=0.5, method="roco")
_LONG = (True, *[False] * 98, True)
"""The cells of a prompt that is longer than any window."""
_AT_ONCE = 32
"""Tokens whose distributions are held at the same time."""


@dataclass(frozen=True)
class Setup:
    """A model, and how it is opened.

    Attributes:
        model: The GGUF language model.
        mmproj: Its projector; ``None`` for text only.
        cache: Type of the K and V cache, ``K+V`` if they differ; ``READ:KEPT`` if prompts are kept
            in another type.
        options: Options of ``Llava`` without the files, the cache types and the compression.
    """

    model: Path
    mmproj: Path | None
    cache: str = "f16"
    options: LlavaOptions = field(default_factory=LlavaOptions)

    @property
    def chat_template(self) -> str:
        """Jinja text or a name that llama.cpp knows; empty for the model's own."""
        return template_text(self.options.get("chat_template"))

    def core(self) -> _core.ModelOptions:
        """The core's options, for prompts that are compressed several times.

        Raises:
            ValueError: An option has the wrong type or is too large.
        """
        (read_k, read_v), (kept_k, kept_v) = map(k_and_v, read_and_kept(self.cache))
        given: dict[str, Any] = {**self.options}
        for name in ("seed", "max_pixels", "check_files"):
            given.pop(name, None)
        types = {"type_k": read_k, "type_v": read_v, "kept_type_k": kept_k, "kept_type_v": kept_v}
        return model_options(self.model, self.mmproj, for_trials=True, **{**given, **types})


@dataclass(frozen=True)
class Ask:
    """What is read after the compression, and then answered.

    Attributes:
        text: A question, where the prompt was set with ``before_question``.
        begins: What the answer is made to begin with; not part of ``Trial.answer``.
        max_tokens: Limit of the answer; ``None`` for that of the lab.
    """

    text: str = ""
    begins: str = ""
    max_tokens: int | None = None


@dataclass(frozen=True)
class Trial:
    """An answer, and the size of the cache that it was given with.

    Attributes:
        answer: The text, without white space around it.
        tokens: The answer's tokens.
        prompt_cells: Number of cells that were compressed.
        kept_cells: Number of cells left, the same in every layer and head.
        kv_bytes: Bytes of the cells left.
        attention_held: As in ``Stats``.
    """

    answer: str
    tokens: tuple[int, ...]
    prompt_cells: int
    kept_cells: int
    kv_bytes: int
    attention_held: float | None


class Lab:
    """Reads prompts and tries compressions on them; ``max_tokens`` limits an answer."""

    def __init__(self, setup: Setup, max_tokens: int) -> None:
        if setup.options.get("check_files", CHECK_FILES):
            check_model_files(setup.model, setup.mmproj)
        self._max_pixels = setup.options.get("max_pixels", MAX_PIXELS)
        self.session = _core.Session(setup.core())
        self.session.check_template()
        self._max_tokens = max_tokens
        self._observed: Compression | None = None
        self._n_answer = 0

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.session.close()

    def prompt(
        self,
        text: str,
        images: Sequence[ImageLike],
        *,
        question: str = "",
        contexts: Sequence[str] = (),
        before_question: bool = False,
    ) -> None:
        """Set the prompt of the next trials; the first of them reads it.

        Args:
            text: The user's turn; each ``<image>`` stands for the next image.
            images: The images.
            question: Text after ``text`` in the same turn.
            contexts: Texts at the very beginning that may be evicted like images.
            before_question: Compress only what comes before ``question``. Each ``trial`` may then
                ask other questions, each on a copy of the cache.
        """
        mark = f"[{secrets.token_hex(8)}]"
        messages = question_messages(f"{text}{mark}", images, contexts)
        markers = (self.session.media_marker, self.session.context_marker)
        found = template_input(messages, *markers, self._max_pixels)
        head, _, self._tail = self.session.apply_template(found.messages).partition(mark)
        self._head = head if before_question else f"{head}{question}{self._tail}"
        self._before_question = before_question
        self._found = found
        self._observed = None

    def trial(
        self, compression: Compression, asks: Sequence[Ask] = (Ask(),), *, seed: int = 0
    ) -> list[Trial]:
        """Compress the prompt as it was read, and answer, each time on a copy of its cells.

        Questions are allowed only if the prompt was set with ``before_question``.
        """
        tail = self._tail if self._before_question else ""
        asked = [(f"{ask.text}{tail}{ask.begins}", self._limit(ask)) for ask in asks]
        n_answer = max(limit + len(self.session.tokens_of(text)) for text, limit in asked)
        self._read(_observer(compression), n_answer)
        trials: list[Trial] = []
        for text, limit in asked:
            if not trials or not text:
                self.session.trial(compression.core(seed))
            if text:
                self.session.follow(text)
            self.session.start(temperature=0.0)
            answer = Answer(self.session, (), limit)
            words = "".join(answer).strip()
            stats = self.session.stats
            trials.append(
                Trial(
                    words,
                    tuple(answer.tokens),
                    stats["prompt_cells"],
                    stats["kept_cells"],
                    stats["kv_bytes_used_after"],
                    stats["attention_held"],
                )
            )
        return trials

    def distributions(
        self, compression: Compression, tokens: Sequence[int], *, seed: int = 0
    ) -> Iterator[Rows]:
        """Compress the prompt as it was read, and read tokens in place of an answer.

        Yields the log-probabilities after each of them, a few tokens at a time. Not for prompts
        that were set with ``before_question``; at most ``max_tokens`` tokens.
        """
        self._read(_observer(compression), self._max_tokens)
        self.session.trial(compression.core(seed))
        for i in range(0, len(tokens), _AT_ONCE):
            yield self.session.distributions(list(tokens[i : i + _AT_ONCE]))

    def _limit(self, ask: Ask) -> int:
        return self._max_tokens if ask.max_tokens is None else ask.max_tokens

    def image_cells(self, image: ImageLike) -> int:
        """Number of cells that an image takes."""
        self.prompt(PLACEHOLDER, [image], before_question=True)
        self._read(Compression(), 0)
        return self.session.stats["image_cells"]

    def _read(self, observer: Compression, n_answer: int) -> None:
        """Read the prompt, unless it was read with the same observer and enough space.

        ``n_answer``: cells for what comes after the prompt. An answer that needed more would end
        the trials.
        """
        if self._observed == observer and n_answer <= self._n_answer:
            return
        self.session.read(
            self._head,
            self._found.images,
            observer.core(),
            contexts=self._found.contexts,
            n_answer=n_answer,
        )
        self._observed, self._n_answer = observer, n_answer


def _observer(compression: Compression) -> Compression:
    """What a prompt is read with: the same for all compressions that read the same cells of images
    and need the same attention.
    """
    observer = _OBSERVER
    if looks_at_window(compression):
        window = compression.window or _core.methods()[compression.method]["window"]
        observer = Compression(_OBSERVER.kv_ratio, "snapkv_question", window=window)
    read = {name: getattr(compression, name) for name in PRUNING}
    return replace(observer, **read)


def looks_at_window(compression: Compression) -> bool:
    """Whether this needs the attention of the last queries, which takes a reading of its own."""
    return (
        compression.has_ratio
        and arrays.first_query(_LONG, method=compression.method, scorer=compression.scorer) > 0
    )
