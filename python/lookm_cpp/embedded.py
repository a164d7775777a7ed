"""The model that ships with the package, and demo prompts with pictures it was not trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lookm_cpp.chat import PLACEHOLDER

NAME = "embedded"
"""The model's name on the command line."""
FOLDER = Path(__file__).parent / "models"
MODEL = FOLDER / "tiny-llava-q8_0.gguf"
MMPROJ = FOLDER / "mmproj-tiny-llava-f16.gguf"
TEMPLATE = FOLDER / "chat.jinja"
DEMO = FOLDER / "demo"


@dataclass(frozen=True)
class DemoPrompt:
    """A question about held-out pictures, with the right answer.

    Attributes:
        task: The kind of question.
        images: The pictures, in the order of their placeholders.
        content: The user's turn; each ``<image>`` stands for the next picture.
        answer: The right answer, word for word.
    """

    task: str
    images: tuple[Path, ...]
    content: str
    answer: str

    @property
    def question(self) -> str:
        """The text after the last picture."""
        return self.content.rpartition(PLACEHOLDER)[2].strip()


def demo_prompts() -> list[DemoPrompt]:
    """All demo prompts, in the order of their file.

    >>> prompt = demo_prompts()[0]
    >>> prompt.question
    'What is at the bottom right of image 2?'
    >>> prompt.answer
    'The bottom right of image 2 shows a watermelon.'
    """
    stored = json.loads((DEMO / "demo.json").read_text(encoding="utf-8"))
    return [
        DemoPrompt(
            entry["task"],
            tuple(DEMO / name for name in entry["images"]),
            entry["content"],
            entry["answer"],
        )
        for entry in stored["prompts"]
    ]
