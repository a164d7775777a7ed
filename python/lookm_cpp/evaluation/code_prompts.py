"""Questions about source code and tables, for any chat model.

Each context is one source file, in Python or C, and one table, in Markdown or CSV. All of it may
be evicted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.suite import Context
from lookm_cpp.parsing import words

TASKS = ("parameter", "constant", "cell")
N_FUNCTIONS = 8
N_ROWS = 8

_VERBS = words("load, check, store, merge, split, send, sort, render, count, parse, trim, scan")
_THINGS = words(
    "orders, invoices, sensors, tickets, users, routes, samples, labels, parcels, rooms, "
    "meters, drafts"
)
_PARAMETERS = words(
    "retries, timeout, margin, depth, chunk_size, limit, offset, window, step, capacity, "
    "min_length, max_items"
)
_CONSTANTS = words(
    "BASE_RATE, PAGE_LIMIT, FRAME_BYTES, CACHE_SLOTS, TICK_COUNT, QUEUE_BOUND, "
    "GRID_SPAN, LINE_COST, ROUND_STEP, BATCH_CAP, PIN_SHIFT, ZONE_FACTOR"
)
_PRODUCTS = words(
    "oak desk,pine shelf,steel rack,garden bench,floor lamp,coat stand,filing cabinet,"
    "office chair,tea trolley,book stand,wall clock,foot stool,folding table,tool chest,"
    "plant stand,shoe rack,bar stool,night stand,writing board,wine rack"
)
_COLUMNS = ("price", "stock", "weight")


@dataclass(frozen=True)
class _Function:
    name: str
    parameter: str
    default: int
    constant: str


def make_context(number: int, seed: int) -> Context:
    """Python and CSV, C and Markdown, in turn for two contexts each, so that either half of a
    split has both.
    """
    rng = random.Random(f"lookm eval code {seed} {number}")
    functions, values = _functions(rng)
    cells = _cells(rng)
    in_c = number // 2 % 2 == 1
    code = _c_file(rng, functions, values) if in_c else _python_file(rng, functions, values)
    table = _markdown_table(cells) if in_c else _csv_table(cells)
    return Context(number, "", (), (f"{code}\n\n{table}",), _questions(rng, functions, cells, in_c))


def _functions(rng: random.Random) -> tuple[list[_Function], dict[str, int]]:
    """The functions, and the value of each constant. No number occurs twice."""
    verbs, things = (rng.sample(words, N_FUNCTIONS) for words in (_VERBS, _THINGS))
    parameters = rng.sample(_PARAMETERS, N_FUNCTIONS)
    constants = rng.sample(_CONSTANTS, N_FUNCTIONS)
    figures = rng.sample(range(11, 500), 2 * N_FUNCTIONS)
    functions = [
        _Function(f"{verb}_{thing}", parameter, default, constant)
        for verb, thing, parameter, default, constant in zip(
            verbs, things, parameters, figures[:N_FUNCTIONS], constants, strict=True
        )
    ]
    return functions, dict(zip(constants, figures[N_FUNCTIONS:], strict=True))


def _python_file(rng: random.Random, functions: Sequence[_Function], values: dict[str, int]) -> str:
    lines = ['"""Helpers of the warehouse."""', "", "import math", ""]
    lines += [f"{name} = {values[name]}" for name in sorted(values)]
    for function in functions:
        verb, thing = function.name.split("_")
        parameter, body = function.parameter, rng.randrange(3)
        lines += ["", "", f"def {function.name}({thing}, {parameter}={function.default}):"]
        lines += [f'    """{verb.capitalize()} the {thing} and return the result."""']
        lines += [
            [
                "    found = []",
                f"    for item in {thing}:",
                f"        if item.size > {parameter}:",
                f"            found.append(item.size * {function.constant})",
                "    return found",
            ],
            [
                f"    total = sum(len(item) for item in {thing})",
                f"    if total < {parameter}:",
                "        return None",
                f"    return math.ceil(total / {function.constant})",
            ],
            [
                f"    ready = [item for item in {thing} if item.ready]",
                f"    while len(ready) > {function.constant}:",
                f"        ready = ready[{parameter}:]",
                "    return sorted(ready)",
            ],
        ][body]
    return "File `warehouse.py`:\n\n```python\n" + "\n".join(lines) + "\n```"


def _c_file(rng: random.Random, functions: Sequence[_Function], values: dict[str, int]) -> str:
    """C has no default arguments: a parameter of 0 stands for its default."""
    lines = ["/* Helpers of the warehouse. */", "#include <stddef.h>", "", '#include "item.h"', ""]
    lines += [f"#define {name} {values[name]}" for name in sorted(values)]
    for function in functions:
        verb, thing = function.name.split("_")
        parameter, body = function.parameter, rng.randrange(3)
        lines += ["", f"/* {verb.capitalize()} the {thing} and return the result. */"]
        lines += [f"long {function.name}(const item *{thing}, size_t n, int {parameter})", "{"]
        lines += [f"    if ({parameter} == 0)", f"        {parameter} = {function.default};"]
        lines += [
            [
                "    long sum = 0;",
                "    for (size_t i = 0; i < n; i++)",
                f"        if ({thing}[i].size > {parameter})",
                f"            sum += {thing}[i].size * {function.constant};",
                "    return sum;",
            ],
            [
                f"    long total = total_size({thing}, n);",
                f"    return total < {parameter} ? -1 : total / {function.constant};",
            ],
            [
                f"    long ready = count_ready({thing}, n);",
                f"    while (ready > {function.constant})",
                f"        ready -= {parameter};",
                "    return ready;",
            ],
        ][body]
        lines += ["}"]
    return "File `warehouse.c`:\n\n```c\n" + "\n".join(lines) + "\n```"


def _cells(rng: random.Random) -> dict[str, dict[str, int]]:
    """The table's rows by product. No number occurs twice, nor in the source file."""
    figures = iter(rng.sample(range(501, 10000), N_ROWS * len(_COLUMNS)))
    return {
        product: {column: next(figures) for column in _COLUMNS}
        for product in rng.sample(_PRODUCTS, N_ROWS)
    }


def _csv_table(cells: dict[str, dict[str, int]]) -> str:
    lines = [",".join(("product", *_COLUMNS))]
    lines += [",".join((name, *map(str, row.values()))) for name, row in cells.items()]
    return "File `stock.csv`:\n\n```csv\n" + "\n".join(lines) + "\n```\n"


def _markdown_table(cells: dict[str, dict[str, int]]) -> str:
    rows = [("product", *_COLUMNS), ("---",) * (1 + len(_COLUMNS))]
    rows += [(name, *map(str, row.values())) for name, row in cells.items()]
    return "File `stock.md`:\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _questions(
    rng: random.Random,
    functions: Sequence[_Function],
    cells: dict[str, dict[str, int]],
    in_c: bool,
) -> tuple[FactsQuestion, ...]:
    one, other = rng.sample(functions, 2)
    product, column = rng.choice(list(cells)), rng.choice(_COLUMNS)
    value = str(cells[product][column])
    if in_c:
        asked = f"Which value does `{one.name}` give to `{one.parameter}` if that is 0?"
    else:
        asked = f"What is the default value of the parameter `{one.parameter}` of `{one.name}`?"
    return (
        _asked("parameter", asked, str(one.default), f"The default of `{one.parameter}` is"),
        _asked(
            "constant",
            f"Which constant does the function `{other.name}` use?",
            other.constant,
            f"The function `{other.name}` uses the constant `",
            ends="`",
        ),
        _asked(
            "cell",
            f"In the table, what is the {column} of the {product}?",
            value,
            f"The {column} of the {product} is",
        ),
    )


def _asked(task: str, text: str, right: str, begins: str, ends: str = "\n") -> FactsQuestion:
    return FactsQuestion(
        task, text, right, begins=begins, max_tokens=12, facts=((right,),), ends=ends
    )
