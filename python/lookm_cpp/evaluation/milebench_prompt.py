"""From a sample of MileBench to a prompt that fits: the context is cut at its beginning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.evaluation.milebench_data import Dataset, Sample

WITHOUT_LETTERS = "GPR1200"

ToTokens = Callable[[str], Sequence[int]]
ToText = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Limits:
    """The limits of a prompt, and the tokenizer that measures it.

    Attributes:
        max_context: Tokens of instruction and context together, pictures included.
        image_tokens: Tokens of a picture.
        to_tokens: The model's tokenizer.
        to_text: Its inverse.
    """

    max_context: int
    image_tokens: int
    to_tokens: ToTokens
    to_text: ToText


@dataclass(frozen=True)
class Prompt:
    """A user's turn; each ``<image>`` in ``text`` stands for the next of ``images``."""

    text: str
    images: tuple[Path, ...]


def build_prompt(
    dataset: Dataset, sample: Sample, limits: Limits, *, combined: bool = False
) -> Prompt:
    """The instruction, then as much of the end of the context as fits.

    If pictures do not fit, the first ones are left out. Placeholders without a picture are removed,
    and pictures without a placeholder come first. This happens if a sample names a picture twice or
    not at all, or if the limit falls between a picture and its text.
    """
    context = sample.context
    if sample.choices:
        context += f"\nChoice list: \n{_listed(dataset, sample)}\nYour answer is: "
    for k in range(1, sample.n_places + 1):
        place = f"<Image {k}> " if combined else PLACEHOLDER
        context = context.replace(f"{{image#{k}}}", place).replace(f"{{table#{k}}}", place)
    text, images = _end_of(context, sample, limits, combined=combined)
    pictures_first = f"{PLACEHOLDER * len(images)}\n" if combined else ""
    text = f"{pictures_first}{sample.instruction}\n{text}"
    return Prompt(_parted(_matched(text, len(images))), images)


def _listed(dataset: Dataset, sample: Sample) -> str:
    lettered = dataset.name != WITHOUT_LETTERS
    return "\n".join(
        f"{chr(65 + i)}. {choice}" if lettered else choice
        for i, choice in enumerate(sample.choices)
    )


def _end_of(
    context: str, sample: Sample, limits: Limits, *, combined: bool
) -> tuple[str, tuple[Path, ...]]:
    """The last fragments of the context that fit, each with the picture before it."""
    left = limits.max_context - len(limits.to_tokens(sample.instruction))
    taken: list[str] = []
    images: list[Path] = []
    waiting = [] if combined else list(sample.images)
    used, begins_with_image = 0, False
    for fragment in reversed(context.split(PLACEHOLDER)):
        tokens = limits.to_tokens(fragment)
        if used + len(tokens) > left:
            if not taken:
                taken.append(limits.to_text(tokens[-left:]) if left > 0 else "")
            break
        begins_with_image = False
        taken.insert(0, fragment)
        used += len(tokens)
        if combined:
            continue
        if used + limits.image_tokens > left:
            break
        if waiting:
            begins_with_image = True
            images.insert(0, waiting.pop())
            used += limits.image_tokens
    text = PLACEHOLDER.join(taken)
    return (PLACEHOLDER if begins_with_image else "") + text, sample.images if combined else tuple(
        images
    )


def _matched(text: str, n_images: int) -> str:
    """The text with as many placeholders as pictures.

    Surplus placeholders are removed from the front; missing ones are added there.
    """
    first, *rest = text.split(PLACEHOLDER)
    excess = len(rest) - n_images
    if excess > 0:
        return "".join([first, *rest[:excess]]) + "".join(
            PLACEHOLDER + part for part in rest[excess:]
        )
    return PLACEHOLDER * -excess + text


def _parted(text: str) -> str:
    """Put two adjacent pictures on lines of their own."""
    return text.replace(PLACEHOLDER * 2, f"{PLACEHOLDER}\n{PLACEHOLDER}\n")
