"""How the package's Python modules depend on each other, read from their sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "python" / "lookm_cpp"


def _name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def _run(nodes: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run, inside functions as well; those for type checkers alone do not."""
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _run(node.orelse)
            continue
        yield node
        for inner in ("body", "orelse", "finalbody"):
            yield from _run(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            yield from _run(handler.body)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Modules by their full names; a name that is imported from a package may be a module of it."""
    for node in _run(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports have full names"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES or alias.name == "_core" else node.module


IMPORTS = {name: {*_imported(ast.parse(file.read_bytes()))} for name, file in FILES.items()}


def _users(library: str) -> set[str]:
    return {
        name
        for name, modules in IMPORTS.items()
        if any(module.split(".")[0] == library for module in modules)
    }


def test_what_is_read_of_a_source() -> None:
    source = """
import a.b
from lookm_cpp import _core, sizes
if TYPE_CHECKING:
    import types_alone
def f():
    try:
        import in_a_function
    except ImportError:
        import otherwise
    with g():
        from lookm_cpp.sizes import number
"""
    assert [*_imported(ast.parse(source))] == [
        "a.b",
        "lookm_cpp._core",
        "lookm_cpp.sizes",
        "in_a_function",
        "otherwise",
        "lookm_cpp.sizes",
    ]


@pytest.mark.parametrize("library", ["typer", "rich"])
def test_only_the_commands_import(library: str) -> None:
    users = _users(library)
    assert "lookm_cpp.cli.bench" in users
    assert not {name for name in users if not name.startswith("lookm_cpp.cli.")}


def test_the_library_does_not_know_its_commands() -> None:
    outside = {name: modules for name, modules in IMPORTS.items() if ".cli" not in name}
    users = {
        name
        for name, modules in outside.items()
        if any(module.startswith("lookm_cpp.cli") for module in modules)
    }
    assert users == {"lookm_cpp.__main__"}


def test_no_module_imports_itself_through_others() -> None:
    left = {name: {m for m in modules if m in FILES} for name, modules in IMPORTS.items()}
    assert left["lookm_cpp.llava"]
    while free := {name for name, modules in left.items() if not modules & left.keys()}:
        for name in free:
            del left[name]
    assert not left, "these import each other, or modules that do"
