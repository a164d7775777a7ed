"""How the share of attention held predicts answers: `python docs/held.py FILE.jsonl METHOD ...`.

Reads the records of `lookm eval`, and prints how many answers of a range of shares score at least
as well as with the full cache, for compression after the prompt.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from pathlib import Path

EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 1.0)


def table(path: Path, methods: list[str]) -> str:
    """A Markdown table: a row for each range that has records."""
    records = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    asked = [r for r in records if r["place"] == "after"]
    full = {
        (r["context"], r["task"]): r["score"]
        for r in asked
        if r["arm"].startswith("full cache/f16")
    }
    found: dict[tuple[str, float], list[bool]] = defaultdict(list)
    for r in asked:
        name, held = r["arm"].split("/")[0], r["attention_held"]
        if name in methods and held is not None and (r["context"], r["task"]) in full:
            low = max(edge for edge in EDGES[:-1] if edge <= held)
            found[name, low].append(r["score"] >= full[r["context"], r["task"]])
    lines = ["| held | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    for low, high in itertools.pairwise(EDGES):
        cells = [found.get((name, low), []) for name in methods]
        if any(cells):
            shares = [f"{sum(c) / len(c):.0%} of {len(c)}" if c else "" for c in cells]
            lines.append(f"| {low:g} to {high:g} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path)
    parser.add_argument("methods", nargs="+")
    arguments = parser.parse_args()
    print(table(arguments.records, arguments.methods))


if __name__ == "__main__":
    main()
