"""Ask one question with the full cache and with each method, and record each prompt's cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from PIL.Image import Image

from lookm_cpp.brief import brief
from lookm_cpp.compression import METHOD, PAPER_METHOD
from lookm_cpp.explaining.cells import MethodCells, layers_of, pieces_of, upright
from lookm_cpp.explaining.explanation import Explanation
from lookm_cpp.images import Images, image_list, load_image
from lookm_cpp.stats import Stats

if TYPE_CHECKING:
    from lookm_cpp import _core
    from lookm_cpp.options import ChatOptions

METHODS = (METHOD, PAPER_METHOD, "snapkv")
"""The default methods: this project's, the paper's best, and one without text prior and merging."""
KV_RATIO = 0.2
"""The default ratio, if neither the model nor the call has one below 1."""


class Outcome(NamedTuple):
    """One answer, and the session's record of its prompt."""

    answer: str
    stats: Stats
    found: _core.Explanation


class Shown(NamedTuple):
    """The question that all methods are asked."""

    model: str
    question: str
    images: tuple[Image, ...]


def upright_images(images: Images, max_pixels: int) -> tuple[Image, ...]:
    """Load the images, turned upright."""
    return upright(
        [
            load_image(image, f"image {i + 1}", max_pixels)
            for i, image in enumerate(image_list(images))
        ]
    )


def explain_methods(
    ask: Callable[[ChatOptions], Outcome],
    shown: Shown,
    methods: Sequence[str],
    options: ChatOptions,
) -> Explanation:
    """Ask once with the full cache and once with each method.

    Raises:
        ValueError: ``methods`` is empty or names a method twice, or ``ask`` raises it.
    """
    names = [] if isinstance(methods, str) or not isinstance(methods, Iterable) else list(methods)
    if (
        not names
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
    ):
        raise ValueError(f"methods is {brief(methods)}, expected a sequence of names, each once")
    if options.get("method") is not None:
        raise ValueError(f"method is {brief(options['method'])}, expected methods=[...] here")
    nothing: ChatOptions = {"kv_ratio": 1.0, "important_ratio": None, "recent_ratio": None}
    full = ask({**options, **nothing})
    by_method = [ask({**options, "method": method}) for method in names]
    return Explanation(
        model=shown.model,
        question=shown.question,
        images=shown.images,
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
