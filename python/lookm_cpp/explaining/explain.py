"""Ask one question with the full cache and by each method, and keep what became of its cells."""

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
"""What is explained unless something else is asked for: the paper's best, and two without text
prior and merging.
"""
KV_RATIO = 0.2
"""Share of the cells to keep where neither the model was opened with a ratio below 1 nor one is
given.
"""


class Outcome(NamedTuple):
    """One answer, and what the session says about its prompt."""

    answer: str
    stats: Stats
    found: _core.Explanation


class Shown(NamedTuple):
    """What all methods are asked."""

    model: str
    question: str
    images: tuple[Image, ...]


def upright_images(images: Images, max_pixels: int) -> tuple[Image, ...]:
    """The images, loaded, and turned as their cameras meant them."""
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
    """Ask once with the full cache and once by each method.

    Raises:
        ValueError: ``methods`` names none or one twice, or as ``ask`` does.
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
