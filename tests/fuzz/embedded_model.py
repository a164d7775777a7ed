"""The model that ships with the package, opened once in a child."""

from __future__ import annotations

from lookm_cpp import Llava
from lookm_cpp.embedded import DEMO

from fuzz.target import Library

OWL = DEMO / "pic08.png"
QUESTION = "Image 1:<image> Image 2:<image> What is in image 2?"
PICTURES = (DEMO / "pic03.png", OWL)


class EmbeddedModel(Library):
    """Asks about an owl between inputs."""

    def __init__(self, llm: Llava) -> None:
        self.llm = llm

    def question(self) -> str:
        return self.llm.ask(QUESTION, PICTURES, max_tokens=16, kv_ratio=0.5)
