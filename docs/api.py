"""A griffe extension for ``make docs``: what docstrings and signatures show as they stand, shown as
they are meant.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


class Shown(griffe.Extension):
    """Doctests become blocks of code, not quotations; dicts show their keys; a default is its
    value, not its name.
    """

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put fences around each example, which ends at an empty line."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(
                lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value
            )

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """A ``TypedDict`` is its keys, which have no docstrings of their own."""
        if cls.docstring and "TypedDict" in map(str, cls.bases):
            keys = "\n".join(f"{name}: {key.annotation}" for name, key in cls.attributes.items())
            cls.docstring.value += f"\n\n```python\n{keys}\n```"

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Look defaults up, now that all modules are there."""
        for function in _functions(pkg):
            for parameter in function.parameters:
                if isinstance(parameter.default, griffe.ExprName):
                    name = parameter.default.canonical_path.removeprefix(f"{pkg.path}.")
                    parameter.default = pkg[name].value


def _functions(parent: griffe.Object) -> list[griffe.Function]:
    found = []
    for member in parent.members.values():
        if isinstance(member, griffe.Function):
            found.append(member)
        elif isinstance(member, griffe.Module | griffe.Class):
            found += _functions(member)
    return found
