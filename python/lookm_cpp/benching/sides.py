"""What decodes by turns: a compressed cache, and llama.cpp's own at a depth; all with the same
weights in memory.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lookm_cpp import _core
from lookm_cpp.benching.job import Case, Job
from lookm_cpp.benching.machine import PeakMemory, give_back, status_bytes
from lookm_cpp.benching.prompt import Filler, Prompt
from lookm_cpp.cache_types import read_and_kept
from lookm_cpp.compression import Compression

if TYPE_CHECKING:
    from typing_extensions import Self

_ORIGIN = Compression(method="origin")
_FEW = 16


@dataclass(frozen=True)
class Answered:
    """One prompt read, compressed and answered, seconds and bytes; as of ``Stats`` where not said
    otherwise.

    Attributes:
        stats: Of the session, after the answer.
        flash_attn: As the session resolved it.
        first_token_seconds: From the call until the first token is there, image encoding included.
        end_to_end_seconds: Until the answer's last token.
        answer_tokens: Its tokens.
        rss: Resident memory of the process: ``before`` the model was opened, at its ``peak`` until
            the answer's end, and the ``final`` one; ``None`` where the kernel does not say. Weights
            that were there already count as if they came with the model: ``before`` is without
            them.
    """

    stats: dict[str, Any]
    flash_attn: str
    first_token_seconds: float
    end_to_end_seconds: float
    answer_tokens: int
    rss: dict[str, int | None]


class Side:
    """A session whose answer never ends; ``weights`` are those of the side that has loaded them."""

    def __init__(
        self,
        job: Job,
        cache: str,
        *,
        flash_attn: str,
        images: bool = False,
        scored: bool = False,
        weights: FullCache | None = None,
    ) -> None:
        read, kept = read_and_kept(cache)
        options = _core.ModelOptions(
            model_path=job.model,
            mmproj_path=(job.mmproj or "") if images else "",
            n_threads=job.n_threads,
            n_gpu_layers=job.n_gpu_layers,
            flash_attn=flash_attn,
            type_k=read,
            type_v=read,
            kept_type_k=kept,
            kept_type_v=kept,
            scored=scored,
        )
        self.session: _core.Session = _core.Session(
            options, weights_of=None if weights is None else weights.session
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def begin(self) -> None:
        """Choose the first token of an answer; nothing is decoded yet."""
        self.session.start(temperature=0.0, ignore_eos=True)
        self.session.next()

    def step(self) -> None:
        """Decode one token and choose the next."""
        self.session.next()

    def prefill(self, prompt: Prompt, how: Compression, n_answer: int) -> None:
        """Read a prompt and compress it."""
        self.session.prefill(
            prompt.text, prompt.images, how.core(), contexts=prompt.contexts, n_answer=n_answer
        )


def picture_of(job: Job) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """Noise of the job's image size, where there is a projector."""
    width, height = job.image_size
    return (
        np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        if job.mmproj
        else None
    )


def answer(
    job: Job, case: Case, n_cells: int, weights: FullCache | None = None
) -> tuple[Side, Answered]:
    """Do what a user does, on a clock: open a model, read a prompt, compress its cache, answer.

    The side stays open.
    """
    how = Compression(kv_ratio=case.kv_ratio, method=job.method)
    scored = _core.scores_all_queries(how.core())
    flash = job.scored_flash_attn.get(case.cache, job.flash_attn) if scored else job.flash_attn
    give_back()
    before = status_bytes("VmRSS") - (0 if weights is None else weights.weight_bytes)
    with PeakMemory() as memory:
        side = Side(job, case.cache, flash_attn=flash, images=True, scored=scored, weights=weights)
        try:
            prompt = Filler(side.session, picture_of(job)).prompt(n_cells)
            start = time.perf_counter()
            side.prefill(prompt, how, job.decoded_tokens)
            side.begin()
            first = time.perf_counter() - start
            for _ in range(job.answer_tokens - 1):
                side.step()
            end = time.perf_counter() - start
            final = status_bytes("VmRSS") or None
        except BaseException:
            side.session.close()
            raise
    # the kernel counts the peak in steps of a few pages
    peak = None if memory.peak is None else max(memory.peak, final or 0)
    rss = {"before": None if final is None else before, "peak": peak, "final": final}
    return side, Answered(
        {**side.session.stats}, side.session.flash_attn, first, end, job.answer_tokens, rss
    )


def native(job: Job, cache: str, depth: int, flash_attn: str, weights: FullCache) -> Side:
    """llama.cpp with so many cells of plain text in its cache, which nothing was compressed in.

    Of ``READ:KEPT``, in a cache of the latter from the start; flash attention is then as it would
    be there.
    """
    read, kept = read_and_kept(cache)
    side = Side(
        job, kept, flash_attn=flash_attn if read == kept else job.flash_attn, weights=weights
    )
    try:
        side.prefill(Filler(side.session, None).text(depth), _ORIGIN, job.decoded_tokens)
        side.begin()
    except BaseException:
        side.session.close()
        raise
    return side


class FullCache(Side):
    """The full cache of plain text, which goes back to its depth before it is compared to something
    else.

    Attributes:
        weight_bytes: Resident memory that came with the weights, 0 where the kernel does not say.
    """

    def __init__(self, job: Job, cache: str, depth: int) -> None:
        give_back()
        before = status_bytes("VmRSS")
        super().__init__(job, cache, flash_attn=job.flash_attn)
        self.prefill(
            Filler(self.session, None).text(_FEW), _ORIGIN, _FEW
        )  # mapped weights come when they are used
        give_back()
        self.weight_bytes = status_bytes("VmRSS") - before
        prompt = Filler(self.session, None).text(depth)
        self.session.read(
            prompt.text,
            prompt.images,
            _ORIGIN.core(),
            contexts=prompt.contexts,
            n_answer=job.decoded_tokens,
        )

    def begin(self) -> None:
        """As of ``Side``, from the depth of the prompt."""
        self.session.trial(_ORIGIN.core())
        super().begin()
