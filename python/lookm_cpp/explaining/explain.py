"""Ask one question with the full cache and by each method, and keep what became of its cells."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lookm_cpp.brief import brief
from lookm_cpp.chat import question_messages
from lookm_cpp.compression import METHOD, PAPER_METHOD
from lookm_cpp.explaining.explanation import Explanation, MethodCells, layers_of, pieces_of, upright
from lookm_cpp.images import Images, image_list, load_image
from lookm_cpp.stats import Stats

if TYPE_CHECKING:
    from lookm_cpp import _core
    from lookm_cpp.llava import Llava
    from lookm_cpp.options import ChatOptions
    from lookm_cpp.turns import Turns

METHODS = (METHOD, PAPER_METHOD, "snapkv")
"""What is explained unless something else is asked for: the paper's best, and two without text prior and merging."""
KV_RATIO = 0.2
"""Share of the cells to keep where neither the model was opened with a ratio below 1 nor one is given."""

_one_at_a_time = threading.RLock()
_thread = threading.local()


def explains() -> bool:
    """Whether this thread's next prompt is to be explained; those of others are not."""
    return getattr(_thread, "asks", False)


class Outcome(NamedTuple):
    """One answer, and what the session says about its prompt."""

    answer: str
    stats: Stats
    found: _core.Explanation


class Explainer:
    """Asks a model and its session what became of the cells."""

    def __init__(self, llm: Llava, session: _core.Session, turns: Turns, max_pixels: int) -> None:
        self._llm = llm
        self._session = session
        self._turns = turns
        self._max_pixels = max_pixels

    def explain(
        self,
        question: str,
        images: Images,
        contexts: Sequence[str],
        system: str | None,
        methods: Sequence[str],
        options: ChatOptions,
    ) -> Explanation:
        """Ask once with the full cache and once by each method.

        Raises:
            ValueError: ``methods`` names none or one twice, or as in ``Llava.create_chat_completion``.
        """
        names = [] if isinstance(methods, str) or not isinstance(methods, Iterable) else list(methods)
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError(f"methods is {brief(methods)}, expected a sequence of names, each once")
        if options.get("method") is not None:
            raise ValueError(f"method is {brief(options['method'])}, expected methods=[...] here")
        pictures = upright(
            [load_image(image, f"image {i + 1}", self._max_pixels) for i, image in enumerate(image_list(images))]
        )
        messages = question_messages(question, pictures, contexts, system)
        nothing: ChatOptions = {"kv_ratio": 1.0, "important_ratio": None, "recent_ratio": None}
        with _one_at_a_time:
            full = self._ask(messages, {**options, **nothing})
            by_method = [self._ask(messages, {**options, "method": method}) for method in names]
        return Explanation(
            model=self._llm.model_name,
            question=question,
            images=pictures,
            answer=full.answer,
            stats=full.stats,
            is_text=full.found["is_text"],
            piece=full.found["piece"],
            place=full.found["place"],
            text=tuple(full.found["text"]),
            pieces=pieces_of(full.found),
            methods=tuple(
                MethodCells(method, one.answer, one.stats, layers_of(one.found))
                for method, one in zip(names, by_method, strict=True)
            ),
        )

    def _ask(self, messages: Sequence[Mapping[str, Any]], options: ChatOptions) -> Outcome:
        _thread.asks = True
        try:
            chunks = self._llm.create_chat_completion(messages, stream=True, **options)
        finally:
            _thread.asks = False
        with self._turns.hold():
            found, stats = self._session.explanation, Stats(**self._session.stats)
        # another thread's prompt in between ends this stream, so that what was found is this prompt's
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert found is not None
        return Outcome(text.strip(), stats, found)
