"""``lookm demo``: every shipped prompt with the full cache, and compressed by some methods."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeAlias

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookm_cpp import _core
from lookm_cpp.cli.ask import Asked, run
from lookm_cpp.cli.console import print_json, side_by_side, stats_rows
from lookm_cpp.cli.flags import COMPRESSION, KV_RATIO, OPENING, Json, with_flags, without
from lookm_cpp.comparison import Answered
from lookm_cpp.compression import METHOD, PAPER_METHOD, Compression
from lookm_cpp.embedded import DemoPrompt, demo_prompts
from lookm_cpp.llava import Llava
from lookm_cpp.parsing import ratio_or_auto
from lookm_cpp.stats import Stats

DEMO_RATIO = 0.2
DEMO_METHODS = (METHOD, PAPER_METHOD)

KNOWN_AT_TIMES = ("chosen_ratio", "attention_held")  # statistics that may be None

Ratio: TypeAlias = float | Literal["auto"]


@dataclass(frozen=True)
class Result:
    """A prompt and its answers: with the full cache, and by method."""

    prompt: DemoPrompt
    full: Answered
    small: dict[str, Answered]

    def right(self, answer: Answered) -> bool:
        """Whether an answer is the right one, word for word."""
        return answer.answer == self.prompt.answer

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        small = {
            method: {"right": self.right(one), **one.as_dict()}
            for method, one in self.small.items()
        }
        return {
            "task": self.prompt.task,
            "images": [image.name for image in self.prompt.images],
            "question": self.prompt.question,
            "answer": self.prompt.answer,
            "full": {"right": self.right(self.full), **self.full.as_dict()},
            "compressed": small,
        }


@with_flags(
    how=without(COMPRESSION, "kv_ratio", "important_ratio", "recent_ratio", "method"),
    opened=OPENING,
)
def demo(
    *,
    kv_ratio: Annotated[
        str, typer.Option("--kv-ratio", metavar=KV_RATIO.metavar, help=KV_RATIO.help)
    ] = f"{DEMO_RATIO:g}",
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help=f"A method to show; may be repeated.  [default: {' and '.join(DEMO_METHODS)}]",
        ),
    ] = None,
    as_json: Json = False,
    opened: dict[str, Any],
    how: dict[str, Any],
) -> None:
    """Answer the shipped questions with full and compressed caches.

    The embedded model answers every question with the full cache and with each method.
    """
    _run(ratio_or_auto(kv_ratio), method or DEMO_METHODS, {**opened, **how}, as_json=as_json)


def _run(
    kv_ratio: Ratio, methods: Sequence[str], options: Mapping[str, Any], *, as_json: bool
) -> None:
    """Ask all prompts in the order of their file, greedily, and show every answer.

    Raises:
        ValueError: ``kv_ratio`` or a method is wrong.
    """
    for method in methods:
        _core.check_compression(Compression(kv_ratio, method).core())
    console = Console(highlight=False, quiet=as_json)
    prompts = demo_prompts()
    results: list[Result] = []
    # every prompt is read for each method, so that its times are those of the method
    options = {"prefix_memory": 0, "image_cache": 0, **options}
    with Llava.embedded(kv_ratio=kv_ratio, method=methods[0], **options) as llm:
        console.print(
            f"{llm.model_name}: {len(prompts)} questions about held-out pictures, each asked with "
            f"the full KV cache, and with kv_ratio {_word(kv_ratio)} of it by "
            f"{' and by '.join(methods)}. Greedy decoding; every answer is shown, and only one "
            "that is right word for word counts as right.\n"
        )
        for prompt in prompts:
            question = Asked(prompt.content, prompt.images)
            full = run(llm, question, {"temperature": 0.0, "kv_ratio": 1.0})
            small = {
                method: run(llm, question, {"temperature": 0.0, "method": method})
                for method in methods
            }
            results.append(Result(prompt, full, small))
            console.print(_card(results[-1], len(results)))
    if as_json:
        print_json({"model": llm.model_name, **_summary_dict(results, kv_ratio)})
    else:
        console.print(_summary(results, kv_ratio))


def _word(ratio: Ratio) -> str:
    return ratio if ratio == "auto" else f"{ratio:g}"


def _card(result: Result, number: int) -> Table:
    prompt = result.prompt
    card = Table.grid(padding=(0, 2))
    card.add_column(min_width=25, no_wrap=True)
    card.add_column(overflow="fold")
    card.add_row(
        Text(f"{number:2} {prompt.task}", style="bold"),
        f"{prompt.question} ({len(prompt.images)} images)",
    )
    card.add_row("   right answer", Text(prompt.answer))
    for name, one in {"full cache": result.full, **result.small}.items():
        right = result.right(one)
        mark = Text("right: " if right else "WRONG: ", style="green" if right else "red")
        card.add_row(f"   {name}", mark + Text(one.answer))
    card.add_row()
    return card


def _mean(runs: Sequence[Answered]) -> Stats:
    """The mean of every number over all prompts, so that a rate is all tokens by all seconds."""
    values: dict[str, float | None] = {
        field.name: statistics.fmean(getattr(one.stats, field.name) for one in runs)
        for field in fields(Stats)
        if field.name not in ("method", "note", *KNOWN_AT_TIMES)
    }
    for name in KNOWN_AT_TIMES:
        known = [value for one in runs if (value := getattr(one.stats, name)) is not None]
        values[name] = statistics.fmean(known) if known else None
    counts = {
        name: round(value or 0)
        for name, value in values.items()
        if name.endswith("_cells") or "_bytes_" in name
    }
    counts["image_cells"] = counts["prompt_cells"] - counts["text_cells"]
    counts["kept_image_cells"] = counts["kept_cells"] - counts["kept_text_cells"]
    ratio = sum(one.stats.kept_cells for one in runs) / sum(one.stats.prompt_cells for one in runs)
    found = {**values, **counts, "kv_ratio": ratio, "method": runs[0].stats.method, "note": ""}
    return Stats(**found)  # type: ignore[arg-type]


def _by_name(results: Sequence[Result]) -> dict[str, list[Answered]]:
    methods = list(results[0].small)
    return {"full cache": [result.full for result in results]} | {
        method: [result.small[method] for result in results] for method in methods
    }


def _n_right(results: Sequence[Result], runs: Sequence[Answered]) -> int:
    return sum(result.right(one) for result, one in zip(results, runs, strict=True))


def _summary(results: Sequence[Result], kv_ratio: Ratio) -> Table:
    columns = _by_name(results)
    right = [f"{_n_right(results, runs)} of {len(results)}" for runs in columns.values()]
    rows = [["right answers", *right], *stats_rows(_mean(runs) for runs in columns.values())]
    table = side_by_side(columns, rows)
    table.title = f"All prompts, kv_ratio {_word(kv_ratio)}; cells and bytes are means"
    table.title_justify = "left"
    return table


def _summary_dict(results: Sequence[Result], kv_ratio: Ratio) -> dict[str, Any]:
    full, *small = [
        {"right": _n_right(results, runs), "mean": _mean(runs).as_dict()}
        for runs in _by_name(results).values()
    ]
    return {
        "kv_ratio": kv_ratio,
        "prompts": [result.as_dict() for result in results],
        "summary": {
            "prompts": len(results),
            "full": full,
            "compressed": dict(zip(results[0].small, small, strict=True)),
        },
    }
