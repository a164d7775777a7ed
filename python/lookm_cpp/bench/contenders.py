"""The sessions that are timed: a compressed cache, llama.cpp's cache of that length, the full one.

They share one copy of the weights.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lookm_cpp import _core
from lookm_cpp.bench.filler_prompt import Filler, Prompt
from lookm_cpp.bench.process_memory import PeakMemory, give_back, status_bytes
from lookm_cpp.bench.workload import FULL_CACHE, SECOND_RATIO, Case, Workload
from lookm_cpp.cache_types import read_and_kept
from lookm_cpp.compression import Compression
from lookm_cpp.images import Picture
from lookm_cpp.opening import model_options

if TYPE_CHECKING:
    from typing_extensions import Self

_ORIGIN = Compression(method="origin")
_FEW = 16


@dataclass(frozen=True)
class Answered:
    """One prompt that was read, compressed and answered.

    Attributes:
        stats: Statistics of the session after the answer.
        flash_attn: The session's flash attention, ``auto`` resolved.
        first_token_seconds: From the call to the first token, image encoding included.
        end_to_end_seconds: From the call to the last token of the answer.
        answer_tokens: Tokens of the answer.
        rss: Resident memory of the process in bytes: ``before`` the model was opened, at its
            ``peak`` until the end of the answer, and the ``final`` value; ``None`` if the kernel
            does not say. Weights that were in memory already count as if they came with the model,
            so ``before`` excludes them.
    """

    stats: dict[str, Any]
    flash_attn: str
    first_token_seconds: float
    end_to_end_seconds: float
    answer_tokens: int
    rss: dict[str, int | None]


class Contender:
    """A session whose answers never end; it uses the weights that ``weights`` has loaded."""

    def __init__(
        self,
        workload: Workload,
        cache: str,
        *,
        flash_attn: bool | str,
        images: bool = False,
        compression: Compression | None = None,
        weights: FullCache | None = None,
        **more: Any,
    ) -> None:
        read, kept = read_and_kept(cache)
        projector = Path(workload.mmproj) if workload.mmproj and images else None
        types = {"type_k": read, "type_v": read, "kept_type_k": kept, "kept_type_v": kept}
        given: dict[str, Any] = {
            **workload.opened,
            **types,
            "flash_attn": flash_attn,
            "image_cache": 0,  # the same images are encoded again and again
            **more,
        }
        self.session: _core.Session = _core.Session(
            model_options(Path(workload.model), projector, **given),
            None if compression is None else compression.core(),
            weights_of=None if weights is None else weights.session,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def begin(self) -> None:
        """Choose the first token of an answer, without decoding anything yet."""
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


def picture_of(workload: Workload) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """An image of noise in the workload's size, or ``None`` without a projector."""
    width, height = workload.image_size
    return (
        np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        if workload.mmproj
        else None
    )


def answer(
    workload: Workload, case: Case, n_cells: int, weights: FullCache | None = None
) -> tuple[Contender, Answered]:
    """Time what a user does: open a model, read a prompt, compress its cache, answer.

    The contender stays open.
    """
    how = Compression(kv_ratio=case.kv_ratio, **workload.compression)
    flash = workload.opened["flash_attn"]
    give_back()
    before = status_bytes("VmRSS") - (0 if weights is None else weights.weight_bytes)
    with PeakMemory() as memory:
        contender = Contender(
            workload, case.cache, flash_attn=flash, images=True, compression=how, weights=weights
        )
        try:
            prompt = Filler(contender.session, picture_of(workload)).prompt(n_cells)
            start = time.perf_counter()
            contender.prefill(prompt, how, workload.decoded_tokens)
            contender.begin()
            first = time.perf_counter() - start
            for _ in range(workload.answer_tokens - 1):
                contender.step()
            end = time.perf_counter() - start
            final = status_bytes("VmRSS") or None
        except BaseException:
            contender.session.close()
            raise
    # the kernel counts the peak in steps of a few pages
    peak = None if memory.peak is None else max(memory.peak, final or 0)
    rss = {"before": None if final is None else before, "peak": peak, "final": final}
    return contender, Answered(
        {**contender.session.stats},
        contender.session.flash_attn,
        first,
        end,
        workload.answer_tokens,
        rss,
    )


def _reader(workload: Workload, how: Compression, weights: FullCache, **more: Any) -> Contender:
    """One that reads images into the usual cache."""
    return Contender(
        workload,
        FULL_CACHE,
        flash_attn=workload.opened["flash_attn"],
        images=True,
        compression=how,
        weights=weights,
        **more,
    )


def second_question(workload: Workload, weights: FullCache) -> dict[str, Any]:
    """Seconds to the first token of a prompt, and of another question about the same images.

    The second goes on from what the first has read (``docs/prefixes.md``).
    """
    how = Compression(kv_ratio=SECOND_RATIO, **workload.compression)
    with _reader(workload, how, weights, prefix_memory=1 << 40) as contender:  # what there is
        prompt = Filler(contender.session, picture_of(workload)).prompt(workload.cells)
        # as in a Llava: an image that was decoded and scaled before is known by its digest
        pictures = [Picture(image, "image") for image in prompt.images]
        seconds = []
        for question in (prompt.text, f"{prompt.text} ?"):
            start = time.perf_counter()
            contender.session.prefill(
                question,
                pictures,
                how.core(),
                contexts=prompt.contexts,
                n_answer=workload.answer_tokens,
                reuse=True,
            )
            contender.begin()
            seconds.append(time.perf_counter() - start)
        stats = contender.session.stats
        return {
            "first_seconds": seconds[0],
            "second_seconds": seconds[1],
            "prompt_cells": stats["prompt_cells"],
            "reused_cells": stats["reused_cells"],
            "prefix_bytes": contender.session.prefix_bytes,
        }


def fewer_cells(workload: Workload, weights: FullCache) -> dict[str, Any]:
    """What reading a prompt takes, whole and with fewer cells of each image."""
    how = Compression(kv_ratio=SECOND_RATIO, **workload.compression)
    found: dict[str, Any] = {}
    with _reader(workload, how, weights) as contender:
        prompt = Filler(contender.session, picture_of(workload)).prompt(workload.cells)
        for name, read in {"whole": how, "pruned": replace(how, **workload.pruning)}.items():
            start = time.perf_counter()
            contender.prefill(prompt, read, workload.answer_tokens)
            contender.begin()
            stats = contender.session.stats
            found[name] = {
                "seconds": time.perf_counter() - start,
                "encode_seconds": stats["encode_seconds"],
                "prompt_cells": stats["prompt_cells"],
                "kept_cells": stats["kept_cells"],
                "kv_bytes": stats["kv_bytes_used_after"],
            }
    return found


def native(
    workload: Workload, cache: str, depth: int, flash_attn: str, weights: FullCache
) -> Contender:
    """llama.cpp with ``depth`` cells of plain text in its cache, without any compression.

    For a cache ``READ:KEPT``, its type is ``KEPT`` from the start, with flash attention as that
    type would have it.
    """
    read, kept = read_and_kept(cache)
    contender = Contender(
        workload,
        kept,
        flash_attn=flash_attn if read == kept else workload.opened["flash_attn"],
        weights=weights,
    )
    try:
        contender.prefill(
            Filler(contender.session, None).text(depth), _ORIGIN, workload.decoded_tokens
        )
        contender.begin()
    except BaseException:
        contender.session.close()
        raise
    return contender


class FullCache(Contender):
    """The full cache of plain text; it returns to its depth before each comparison.

    Attributes:
        weight_bytes: Resident memory of the weights, 0 if the kernel does not say.
    """

    def __init__(self, workload: Workload, cache: str, depth: int) -> None:
        give_back()
        before = status_bytes("VmRSS")
        super().__init__(workload, cache, flash_attn=workload.opened["flash_attn"])
        # mapped weights become resident when they are used
        self.prefill(Filler(self.session, None).text(_FEW), _ORIGIN, _FEW)
        give_back()
        self.weight_bytes = status_bytes("VmRSS") - before
        prompt = Filler(self.session, None).text(depth)
        self.session.read(
            prompt.text,
            prompt.images,
            _ORIGIN.core(),
            contexts=prompt.contexts,
            n_answer=workload.decoded_tokens,
        )

    def begin(self) -> None:
        """Return to the depth of the prompt, then choose the first token."""
        self.session.trial(_ORIGIN.core())
        super().begin()
