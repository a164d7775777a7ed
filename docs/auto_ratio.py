"""Chosen ratios beside fixed ones at equal bytes: `python docs/auto_ratio.py FILE.jsonl ...`.

Reads the records of `lookm eval` with `--methods NAME,NAME@QUALITY,... --ratios ...`, for
compression after the prompt, and prints a table for each file, and one for all of them together. A
chosen ratio is compared with the two nearest fixed ratios, mixed such that they keep as many bytes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lookm_cpp.evaluation.statistics import Scores, scores_of

Prompt = tuple[int, str]  # number of the context, task


@dataclass(frozen=True)
class Arm:
    """The scores of an arm, and the mean share of the full cache's bytes that it keeps."""

    scores: Scores
    kept: float


def read(paths: list[Path]) -> dict[str, dict[Prompt, tuple[float, int]]]:
    """(score, bytes) of each arm and prompt."""
    found: dict[str, dict[Prompt, tuple[float, int]]] = {}
    for number, path in enumerate(paths):
        for line in path.read_text().splitlines()[1:]:
            r = json.loads(line)
            if r["place"] == "after":
                prompt = (10**6 * number + r["context"], f"{number} {r['task']}")
                found.setdefault(r["arm"], {})[prompt] = (r["score"], r["kv_bytes"])
    return found


def table(paths: list[Path], method: str) -> str:
    """A Markdown table: a row for each quality."""
    found = read(paths)
    full = found["full cache/f16/-"]
    qualities = sorted(name for name in found if name.startswith(f"{method}@"))
    ratios = [name for name in found if name.startswith(f"{method}/f16/")]
    prompts = sorted(set(full).intersection(*(found[name] for name in qualities + ratios)))
    contexts = sorted({context for context, _ in prompts})
    tasks = sorted({task for _, task in prompts})

    def arm(name: str) -> Arm:
        given = [(*prompt, found[name][prompt][0]) for prompt in prompts]
        kept = np.mean([found[name][prompt][1] / full[prompt][1] for prompt in prompts])
        return Arm(scores_of(given, contexts, tasks), float(kept))

    curve = sorted((arm(name) for name in ratios), key=lambda fixed: fixed.kept)
    lines = [
        f"{len(prompts)} prompts, full cache {arm('full cache/f16/-').scores.mean():.0f}",
        "",
        "| quality | cells | auto | fixed, same bytes | difference |",
        "|---|---|---|---|---|",
    ]
    for name in qualities:
        chosen = arm(name)
        fixed = mixed(curve, chosen.kept)
        by = chosen.scores.minus(fixed)
        lines.append(
            f"| {name.split('@')[1].split('/')[0]} | {chosen.kept:.1%} "
            f"| {chosen.scores.mean():.1f} | {fixed.mean():.1f} "
            f"| {by.mean:+.1f} ({by.low:+.1f} to {by.high:+.1f}) |"
        )
    return "\n".join(lines)


def mixed(curve: list[Arm], kept: float) -> Scores:
    """Scores of a mix of the two nearest fixed ratios that keeps the same share of bytes."""
    above = next(number for number, arm in enumerate(curve) if arm.kept >= kept or arm is curve[-1])
    low, high = curve[max(above - 1, 0)], curve[above]
    share = 1.0 if low is high else min(max((kept - low.kept) / (high.kept - low.kept), 0.0), 1.0)
    return Scores((1 - share) * low.scores.values + share * high.scores.values)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, nargs="+")
    parser.add_argument("--method", default="lookm_plus")
    arguments = parser.parse_args()
    for path in arguments.records:
        print(f"{path.stem}: {table([path], arguments.method)}\n")
    if len(arguments.records) > 1:
        print(f"all: {table(arguments.records, arguments.method)}")


if __name__ == "__main__":
    main()
