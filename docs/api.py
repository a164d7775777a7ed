"""A griffe extension for ``make docs``, which shows docstrings and signatures as they are meant."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


class Shown(griffe.Extension):
    """Shows doctests as code, the keys of dicts, and the values of defaults."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put fences around each example, which ends at an empty line."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(
                lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value
            )

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add the keys of a ``TypedDict`` to its docstring, unless that explains them."""
        explained = cls.docstring is not None and "Attributes:" in cls.docstring.value
        if cls.docstring and not explained and "TypedDict" in map(str, cls.bases):
            keys = "\n".join(f"{name}: {key.annotation}" for name, key in cls.attributes.items())
            cls.docstring.value += f"\n\n```python\n{keys}\n```"

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Name options and look up defaults, once all modules are loaded."""
        for function in _functions(pkg):
            _name_options(function, pkg)
            for parameter in function.parameters:
                if isinstance(parameter.default, griffe.ExprName):
                    name = parameter.default.canonical_path.removeprefix(f"{pkg.path}.")
                    parameter.default = pkg[name].value


def _name_options(function: griffe.Function, pkg: griffe.Module) -> None:
    """Replace ``**options`` by the options' names, unless the docstring has it itself."""
    holder = function.parent if function.name == "__init__" else function
    if holder is None or holder.docstring is None or "**options" in holder.docstring.value:
        return
    for options in [*function.parameters]:
        unpacked = options.annotation
        if not isinstance(unpacked, griffe.ExprSubscript) or unpacked.canonical_name != "Unpack":
            continue
        del function.parameters[options.name]
        for name, annotation in _keys(pkg, unpacked.slice.canonical_path).items():
            function.parameters.add(
                griffe.Parameter(
                    name,
                    annotation=annotation,
                    kind=griffe.ParameterKind.keyword_only,
                    default="...",
                )
            )


def _keys(pkg: griffe.Module, path: str) -> dict[str, Any]:
    """The keys of a ``TypedDict`` and their types, those of its bases first."""
    cls = pkg[path.removeprefix(f"{pkg.path}.")]
    bases = [base.canonical_path for base in cls.bases if isinstance(base, griffe.Expr)]
    keys: dict[str, Any] = {}
    for base in bases:
        keys |= _keys(pkg, base) if base.startswith(pkg.path) else {}
    return keys | {name: key.annotation for name, key in cls.attributes.items()}


def _functions(parent: griffe.Object) -> list[griffe.Function]:
    found = []
    for member in parent.members.values():
        if isinstance(member, griffe.Function):
            found.append(member)
        elif isinstance(member, griffe.Module | griffe.Class):
            found += _functions(member)
    return found
