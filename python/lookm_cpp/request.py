"""One prompt, together with all options for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lookm_cpp import _core
from lookm_cpp.answer import Answer, answer_cells, stop_strings
from lookm_cpp.compression import Compression, compression_of
from lookm_cpp.messages import TemplateInput, template_input
from lookm_cpp.options import Sampling, method_seed, sampling_of
from lookm_cpp.words import flag

if TYPE_CHECKING:
    from lookm_cpp.options import ChatOptions, Progress


Result = TypeVar("Result")


@dataclass(frozen=True)
class Request:
    """A request whose options have been checked before its prompt is read.

    Attributes:
        found: The messages, their images and contexts.
        compression: How the prompt is compressed.
        sampling: How the tokens of the answer are chosen.
        stops: Strings that end the answer.
        max_tokens: Maximum number of tokens in the answer; ``None`` for no limit.
        n_answer: Number of cells to reserve for the answer.
        progress: Called while the prompt is read.
        reuse: Go on from what an earlier prompt began with, and keep what this one begins with.
    """

    found: TemplateInput
    compression: _core.Compression
    sampling: Sampling
    stops: tuple[str, ...]
    max_tokens: int | None
    n_answer: int
    progress: Progress | None
    reuse: bool

    @classmethod
    def of(
        cls,
        session: _core.Session,
        messages: Sequence[Mapping[str, Any]],
        options: ChatOptions,
        *,
        compression: Compression,
        seed: int,
        max_pixels: int,
    ) -> Request:
        """Make a request from the arguments of ``create_chat_completion``.

        The last three arguments are the defaults of what ``options`` do not set.

        Raises:
            ValueError: An argument is invalid, or the messages cannot be used.
            TypeError: There is no option of that name.
        """
        given: dict[str, Any] = {**options}
        how = compression_of(compression, given)
        stops, max_tokens = stop_strings(given.pop("stop", None)), given.pop("max_tokens", None)
        progress = given.pop("progress", None)
        reuse = flag("reuse", given.pop("reuse", True))
        given["seed"] = seed if given.get("seed") is None else given["seed"]
        sampling = sampling_of(**given)
        session.check_sampling(**sampling)
        return cls(
            n_answer=answer_cells(max_tokens, session.n_ctx),
            found=template_input(
                messages, session.media_marker, session.context_marker, max_pixels
            ),
            compression=how.core(method_seed(sampling)),
            sampling=sampling,
            stops=stops,
            max_tokens=max_tokens,
            progress=progress,
            reuse=reuse,
        )

    def begin(self, session: _core.Session, *, explain: bool = False) -> Answer:
        """Read the prompt and begin its answer; the caller holds the session."""
        self.read(session, explain=explain)
        return self.answer(session)

    def read(self, session: _core.Session, *, explain: bool = False) -> None:
        """Read the prompt."""
        self._by(
            session.prefill, session, n_answer=self.n_answer, explain=explain, reuse=self.reuse
        )

    def keep(self, session: _core.Session) -> int:
        """Read what can be reused of the prompt, and keep it; the number of its cells."""
        return self._by(session.keep_prefix, session)

    def state(self, session: _core.Session) -> bytes:
        """What ``keep`` has kept, for another session; the caller holds this one."""
        return self._by(session.prefix_state, session)

    def _by(self, reading: Callable[..., Result], session: _core.Session, **more: Any) -> Result:
        """Call one of the session's functions that read a prompt."""
        return reading(
            session.apply_template(self.found.messages),
            self.found.images,
            self.compression,
            contexts=self.found.contexts,
            progress=self.progress,
            **more,
        )

    def answer(self, session: _core.Session, watch: Callable[[], None] | None = None) -> Answer:
        """Begin the answer to the prompt that was read; ``watch`` as in ``Answer``."""
        session.start(**self.sampling)
        return Answer(session, self.stops, self.max_tokens, watch)
