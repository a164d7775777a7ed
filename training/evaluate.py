"""Accuracy with the full cache: held-out prompts and the demo's, in plain torch and float32."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer

from .config import Evaluation
from .data import Pool
from .grammar import USER, Context, Grammar, Question
from .model import VisionLanguageModel
from .packing import Batch, Packer, right_answers

# Questions taken from each context, where it has as many.
_ASKED = {"local": 4, "corner": 4, "needle": 2, "evqa": 2, "code": 3, "describe": 1}
VARIANTS = (
    "local",
    "corner, unique emoji",
    "corner, repeated emoji",
    "needle",
    "evqa",
    "code, 1 name",
    "code, 2-3 names",
    "describe",
)
PLACEHOLDER = "<image>"

Scores = dict[str, tuple[int, int]]
"""Right answers and questions by variant."""


@torch.no_grad()
def predict(model: VisionLanguageModel, batch: Batch, pixels: np.ndarray) -> torch.Tensor:
    """The likeliest next token everywhere: [B, T]. `pixels` are the batch's pictures in order."""
    embedded = model.embed(batch.ids, model.vision(torch.from_numpy(pixels)))
    hidden, _ = model.decoder(embedded, batch.positions, batch.mask)
    return model.decoder.logits(hidden).argmax(-1)


def held_out(
    model: VisionLanguageModel, tokenizer: Tokenizer, pool: Pool, settings: Evaluation
) -> dict[int, Scores]:
    """Scores for each size of prompt.

    The prompts depend on the seed and the pool alone, so models can be compared.
    """
    grammar, packer = Grammar(pool), Packer(tokenizer, model.size.picture_tokens)
    result: dict[int, Scores] = {}
    for size in settings.sizes:
        rng = random.Random(f"evaluation {settings.seed} {size}")
        answers: list[tuple[Question, bool]] = []
        for number in range(settings.contexts):
            context = grammar.context(rng, size, people=1 + number % 3)
            batch = packer.batch([context], [_choose(rng, context)])
            answers += right_answers(
                predict(model, batch, pool.pixels[batch.pictures.numpy()]), batch
            )
        result[size] = score(answers)
    return result


def _choose(rng: random.Random, context: Context) -> list[Question]:
    return [
        question
        for task, count in _ASKED.items()
        for question in rng.sample(
            context.questions[task], min(count, len(context.questions[task]))
        )
    ]


def score(answers: Sequence[tuple[Question, bool]]) -> Scores:
    """Counts right answers by variant."""
    counts: dict[str, list[bool]] = defaultdict(list)
    for question, right in answers:
        counts[question.variant].append(right)
    return {
        variant: (sum(counts[variant]), len(counts[variant]))
        for variant in VARIANTS
        if variant in counts
    }


def demo(model: VisionLanguageModel, tokenizer: Tokenizer, folder: Path) -> tuple[int, int]:
    """Right answers and prompts of the demo in `folder`."""
    packer = Packer(tokenizer, model.size.picture_tokens)
    prompts = json.loads((folder / "demo.json").read_text())["prompts"]
    right = 0
    for prompt in prompts:
        *leads, text = f"{USER} {prompt['content']}".split(PLACEHOLDER)
        question = Question(prompt["task"], text, f" {prompt['answer']}", prompt["task"])
        context = Context(list(range(len(leads))), leads, {})
        batch = packer.batch([context], [[question]])
        pixels = np.stack(
            [np.asarray(Image.open(folder / name).convert("RGB")) for name in prompt["images"]]
        )
        right += right_answers(predict(model, batch, pixels), batch)[0][1]
    return right, len(prompts)


def table(results: dict[int, Scores]) -> str:
    """A Markdown table: share of right answers in percent, with the number of questions."""
    lines = ["| pictures | " + " | ".join(VARIANTS) + " |", "|" + "---|" * (len(VARIANTS) + 1)]
    for size, scores in results.items():
        cells = (scores.get(variant, (0, 0)) for variant in VARIANTS)
        shown = (f"{100 * right / count:.0f} ({count})" if count else "-" for right, count in cells)
        lines.append(f"| {size} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def overall(results: dict[int, Scores]) -> float:
    """Mean over all variants and sizes: the figure by which two models are compared."""
    shares = [right / count for scores in results.values() for right, count in scores.values()]
    return sum(shares) / len(shares)
