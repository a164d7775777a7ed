"""Trains a bridge's projector further, through the language model, which stays as it is.

The prompts are those of `lookm eval pictures`, about training pictures. The projector learns to
make the right answer follow what the answer begins with.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path

import torch
import torch.nn.functional as F
from lookm_cpp import _core
from lookm_cpp.chat import question_messages
from lookm_cpp.evaluation import large_prompts, picture_prompts
from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.pictures import Picture as Shown
from lookm_cpp.messages import template_input
from PIL import Image
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from .data import Pool
from .model import Projector

N_SHOWN = 400
"""Pictures that a context draws from."""


@dataclass(frozen=True)
class Prompt:
    """A question about pictures, and its answer.

    `texts` are the tokens before, between and behind the pictures, whose numbers in the pool are
    `pictures`.
    """

    texts: list[list[int]]
    pictures: list[int]
    answer: list[int]


class Prompts:
    """Draws questions in the language model's words."""

    def __init__(self, llm: Path, pool: Pool, *, large: bool) -> None:
        options = _core.ModelOptions(model_path=str(llm), n_gpu_layers=0, n_ctx=64)
        self._session = _core.Session(options)
        self._make_context = (large_prompts if large else picture_prompts).make_context
        # only told apart, not looked at
        self._shown = [
            Shown(p.kind, p.names, p.questions, Image.new("RGB", (1, 1))) for p in pool.pictures
        ]
        self._number = {id(shown.image): number for number, shown in enumerate(self._shown)}

    def draw(self, rng: random.Random, number: int) -> Iterator[Prompt]:
        """All questions of a context."""
        context = self._make_context(
            rng.sample(self._shown, N_SHOWN), number, rng.randrange(1 << 30)
        )
        for question in context.questions:
            assert isinstance(question, FactsQuestion)
            messages = question_messages(f"{context.text}{question.text}", context.images)
            session, marker = self._session, self._session.media_marker
            found = template_input(messages, marker, session.context_marker)
            whole = session.apply_template(found.messages) + question.begins
            space = "" if question.begins.endswith('"') else " "
            yield Prompt(
                [session.tokens_of(part, control=True) for part in whole.split(marker)],
                [self._number[id(image)] for image in context.images],
                session.tokens_of(f"{space}{question.answer}{question.ends or '.'}"),
            )


def finetune(
    projector: Projector,
    features: Tensor,
    pool: Pool,
    llm: Path,
    *,
    large: bool,
    steps: int,
    rate: float,
    seed: int,
    device: str,
    log: Callable[[str], None],
) -> None:
    """Trains the projector in place, one context a step.

    Args:
        projector: The bridge's.
        features: The encoder's output for the pool's pictures, [pictures, patches, width].
        pool: Training pictures.
        llm: The language model, a GGUF file.
        large: The pictures are the large ones.
        steps: Number of contexts.
        rate: Adam's largest step, reached after a twentieth of the steps.
        seed: Of the contexts.
        device: Where torch computes.
        log: Is told the loss from time to time.
    """
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        str(llm.parent), gguf_file=llm.name, dtype=torch.bfloat16
    )
    model.requires_grad_(False).to(device)
    projector.to(device)
    prompts, rng = Prompts(llm, pool, large=large), random.Random(seed)
    optimizer = torch.optim.Adam(projector.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, 20 * (step + 1) / steps) * (1 + cos(pi * step / steps)) / 2
    )
    losses: list[float] = []
    for step in range(steps):
        optimizer.zero_grad()
        asked = list(prompts.draw(rng, step))
        loss = sum(_loss(model, projector, features, prompt) for prompt in asked) / len(asked)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 20 == 0:
            log(f"step {step + 1} of {steps}, loss {sum(losses[-20:]) / 20:.3f}")
    projector.to("cpu")


def _loss(model: PreTrainedModel, projector: Projector, features: Tensor, prompt: Prompt) -> Tensor:
    """Mean cross entropy of the answer's tokens."""
    device = next(projector.parameters()).device
    words = model.get_input_embeddings()
    parts = [words(torch.tensor(prompt.texts[0], device=device))]
    for picture, text in zip(prompt.pictures, prompt.texts[1:], strict=True):
        parts.append(projector(features[picture].to(device)).to(model.dtype))
        parts.append(words(torch.tensor(text, device=device)))
    answer = torch.tensor(prompt.answer, device=device)
    parts.append(words(answer[:-1]))
    out = model(inputs_embeds=torch.cat(parts)[None], logits_to_keep=len(answer))
    return F.cross_entropy(out.logits[0].float(), answer)
