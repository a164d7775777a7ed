"""What a quantized prefix costs: ``python -m benchmarks.prefix_types``.

Each context of ``lookm eval tiny`` is read once, kept in each type, and asked all its questions
(``docs/prefixes.md``).
"""

from __future__ import annotations

from statistics import fmean
from typing import Annotated

import typer
from lookm_cpp import Llava
from lookm_cpp.evaluation.pictures import ARCHIVE, load_pictures
from lookm_cpp.evaluation.tiny_prompts import make_context
from rich.console import Console

TYPES = (None, "q8_0", "q4_0")


def main(
    contexts: Annotated[int, typer.Option(min=1, help="Number of contexts.")] = 42,
    ratios: Annotated[list[float] | None, typer.Option(help="Repeat.")] = None,
) -> None:
    """Print the share of right answers, and of those that are the same as with the exact prefix."""
    pool = load_pictures(ARCHIVE)
    asked = [make_context(pool, number, 0) for number in range(contexts)]
    exact: dict[float, list[str]] = {}
    for kept in TYPES:
        with Llava.embedded(prefix_type=kept, seed=0) as llm:
            for ratio in ratios or (1.0, 0.2):
                answers: list[str] = []
                scores: list[float] = []
                for context in asked:
                    prefix = llm.read(context.text, list(context.images))
                    for question in context.questions:
                        answer = prefix.ask(question.text, kv_ratio=ratio, max_tokens=64)
                        answers.append(answer)
                        scores.append(question.score(answer))
                same = fmean(
                    one == other
                    for one, other in zip(answers, exact.setdefault(ratio, answers), strict=True)
                )
                Console().print(
                    f"prefix_type {kept or 'f16'}, kv_ratio {ratio:g}: {100 * fmean(scores):.1f} "
                    f"right, {100 * same:.1f} the same, of {len(scores)}"
                )


if __name__ == "__main__":
    typer.run(main)
