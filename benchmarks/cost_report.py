"""Shows a run in the terminal, and writes it between the README's markers."""

from __future__ import annotations

from pathlib import Path

from lookm_cpp.cli.bench_tables import rich_table
from rich.console import Console
from rich.markup import escape

from benchmarks.cost_record import Results
from benchmarks.cost_tables import GB, all_tables, goals

BEGIN = "<!-- results: written by python -m benchmarks -->"
END = "<!-- end of results -->"


def origin(results: Results) -> list[tuple[str, str]]:
    """Where the figures come from."""
    machine, versions = results.machine, results.versions
    vectors = ", ".join(machine["vectors"]) or "none named"
    return [
        ("machine", f"{machine['cpu']} (family/model {machine['cpu_family_model']}; {vectors})"),
        ("cores, memory", f"{machine['cores']}, {machine['memory_bytes'] / GB:.0f} GB"),
        (
            "read bandwidth",
            f"{results.read_bandwidth / GB:.1f} GB/s "
            f"(NumPy, {results.settings['n_threads']} threads)",
        ),
        ("load before", f"{machine['load']} (mean of a minute)"),
        ("system", f"{machine['system']}, Python {versions['python']}"),
        ("compiler", versions["compiler"]),
        ("llama.cpp", versions["llama.cpp"]),
        ("commit", f"{results.commit} (lookm_cpp {versions['lookm_cpp']})"),
        ("command", f"`{results.command}`"),
        ("date, duration", f"{results.date}, {results.seconds / 60:.0f} minutes"),
    ]


def show(results: Results, console: Console) -> None:
    """Print everything as tables."""
    for name, value in origin(results):
        console.print(f"[bold]{name:15}[/] {escape(value)}", highlight=False)
    for table in all_tables(results):
        console.print(rich_table(table))
    for goal in goals(results):
        console.print(f"- {escape(goal.replace('**', ''))}", highlight=False)


def markdown(results: Results) -> str:
    """The part of the README that is made from figures."""
    lines = [
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in origin(results)),
        "",
    ]
    lines += ["## Goals", "", *(f"- {goal}" for goal in goals(results)), "", "## Tables", "", ""]
    return "\n".join(lines) + "\n\n".join(table.markdown() for table in all_tables(results))


def update_readme(path: Path, results: Results) -> None:
    """Replace the text between the README's markers."""
    replace_between(path, BEGIN, END, markdown(results))


def replace_between(path: Path, begin: str, end: str, new: str) -> None:
    """Replace the text between two markers of a page."""
    text = path.read_text()
    if begin not in text or end not in text:
        raise ValueError(
            f"{path}: the markers of the results are missing; expected {begin} and {end}"
        )
    head, rest = text.split(begin, 1)
    tail = rest.split(end, 1)[1]
    path.write_text(f"{head}{begin}\n\n{new}\n\n{end}{tail}")
