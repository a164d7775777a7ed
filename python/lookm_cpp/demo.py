"""``lookm demo``: every shipped prompt twice, with the full cache and with a compressed one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookm_cpp.asking import Question, Run, run
from lookm_cpp.console import print_json, side_by_side, stats_rows
from lookm_cpp.embedded import DemoPrompt, demo_prompts
from lookm_cpp.llava import Llava
from lookm_cpp.stats import Stats


@dataclass(frozen=True)
class Result:
    """A prompt and its two answers."""

    prompt: DemoPrompt
    full: Run
    small: Run

    def right(self, answer: Run) -> bool:
        """Whether an answer is the right one, word for word."""
        return answer.answer == self.prompt.answer

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        runs = {"full": self.full, "compressed": self.small}
        return {
            "task": self.prompt.task,
            "images": [image.name for image in self.prompt.images],
            "question": self.prompt.question,
            "answer": self.prompt.answer,
            **{name: {"right": self.right(one), **one.as_dict()} for name, one in runs.items()},
        }


def run_demo(kv_ratio: float, method: str, *, as_json: bool) -> None:
    """Ask all prompts in the order of their file, greedily, and show every answer."""
    console = Console(highlight=False, quiet=as_json)
    prompts = demo_prompts()
    results: list[Result] = []
    with Llava.embedded(kv_ratio=kv_ratio, method=method) as llm:
        console.print(
            f"{llm.model_name}: {len(prompts)} questions about held-out pictures, each asked twice: with the full KV "
            f"cache, and with kv_ratio {kv_ratio:g} of it by {method}. Greedy decoding; every answer is shown, and "
            "only one that is right word for word counts as right.\n"
        )
        for prompt in prompts:
            question = Question(prompt.content, prompt.images)
            full = run(llm, question, {"temperature": 0.0, "kv_ratio": 1.0})
            small = run(llm, question, {"temperature": 0.0})
            results.append(Result(prompt, full, small))
            console.print(_card(results[-1], len(results), kv_ratio))
    if as_json:
        print_json({"model": llm.model_name, **_summary_dict(results, kv_ratio, method)})
    else:
        console.print(_summary(results, kv_ratio))


def _card(result: Result, number: int, kv_ratio: float) -> Table:
    prompt = result.prompt
    card = Table.grid(padding=(0, 2))
    card.add_column(min_width=15, no_wrap=True)
    card.add_column(overflow="fold")
    card.add_row(Text(f"{number:2} {prompt.task}", style="bold"), f"{prompt.question} ({len(prompt.images)} images)")
    card.add_row("   right answer", Text(prompt.answer))
    for name, one in (("full cache", result.full), (f"kv_ratio {kv_ratio:g}", result.small)):
        right = result.right(one)
        mark = Text("right: " if right else "WRONG: ", style="green" if right else "red")
        card.add_row(f"   {name}", mark + Text(one.answer))
    card.add_row()
    return card


def _mean(runs: Sequence[Run]) -> Stats:
    """The mean of every number over all prompts, so that a rate is all tokens by all seconds."""
    values = {
        field.name: statistics.fmean(getattr(one.stats, field.name) for one in runs)
        for field in fields(Stats)
        if field.name not in ("method", "note")
    }
    counts = {name: round(value) for name, value in values.items() if name.endswith("_cells") or "_bytes_" in name}
    counts["image_cells"] = counts["prompt_cells"] - counts["text_cells"]
    ratio = sum(one.stats.kept_cells for one in runs) / sum(one.stats.prompt_cells for one in runs)
    return Stats(**{**values, **counts, "kv_ratio": ratio, "method": runs[0].stats.method, "note": ""})  # type: ignore[arg-type]


def _summary(results: Sequence[Result], kv_ratio: float) -> Table:
    full, small = [result.full for result in results], [result.small for result in results]
    right = [
        f"{sum(result.right(one) for result, one in zip(results, runs, strict=True))} of {len(results)}"
        for runs in (full, small)
    ]
    rows = [["right answers", *right], *stats_rows((_mean(full), _mean(small)))]
    table = side_by_side(("full cache", f"kv_ratio {kv_ratio:g}"), rows)
    table.title = "All prompts; cells and bytes are means"
    table.title_justify = "left"
    return table


def _summary_dict(results: Sequence[Result], kv_ratio: float, method: str) -> dict[str, Any]:
    summary = {
        "prompts": len(results),
        "full": {
            "right": sum(result.right(result.full) for result in results),
            "mean": _mean([result.full for result in results]).as_dict(),
        },
        "compressed": {
            "right": sum(result.right(result.small) for result in results),
            "mean": _mean([result.small for result in results]).as_dict(),
        },
    }
    return {
        "kv_ratio": kv_ratio,
        "method": method,
        "prompts": [result.as_dict() for result in results],
        "summary": summary,
    }
