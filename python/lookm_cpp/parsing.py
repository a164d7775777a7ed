"""Values that users write as one word: lists with commas, and sizes of an image."""

from __future__ import annotations

from typing import Literal


def words(text: str | None) -> list[str]:
    """The words between commas.

    >>> words("h2o, snapkv")
    ['h2o', 'snapkv']
    """
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def numbers(text: str, option: str) -> list[float]:
    """The numbers between commas; ``option`` is its name in error messages.

    Raises:
        ValueError: One of them is not a number.

    >>> numbers("0.5,0.2", "--ratios")
    [0.5, 0.2]
    """
    try:
        return [float(word) for word in words(text)]
    except ValueError:
        raise ValueError(
            f"{option} is {text!r}, expected numbers with commas between them"
        ) from None


def ratio_or_auto(text: str, option: str = "--kv-ratio") -> float | Literal["auto"]:
    """A ratio, or ``auto``; ``option`` is its name in error messages.

    Raises:
        ValueError: It is neither.

    >>> ratio_or_auto("0.2"), ratio_or_auto("auto")
    (0.2, 'auto')
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} is {text!r}, expected a number or auto") from None


def whole_numbers(text: str, option: str) -> list[int]:
    """The positive whole numbers between commas, as ``numbers``.

    Raises:
        ValueError: One of them is not a positive whole number.

    >>> whole_numbers("1000,2000", "--cells")
    [1000, 2000]
    """
    found = words(text)
    if not found or not all(word.isascii() and word.isdecimal() and int(word) for word in found):
        raise ValueError(f"{option} is {text!r}, expected positive whole numbers with commas")
    return [int(word) for word in found]


def image_pixels(text: str) -> tuple[int, int]:
    """``--image-size`` as width and height.

    Raises:
        ValueError: The text is not a size.

    >>> image_pixels("1024x768")
    (1024, 768)
    """
    width, x, height = text.partition("x")
    if not (
        x and width.isascii() and width.isdecimal() and height.isascii() and height.isdecimal()
    ):
        raise ValueError(f"--image-size is {text!r}, expected WxH such as 1024x768")
    if len(width) > 9 or len(height) > 9:
        raise ValueError(f"--image-size is {text!r:.80}, expected fewer pixels")
    return int(width), int(height)
