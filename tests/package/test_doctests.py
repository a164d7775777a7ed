"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import lookm_cpp
import pytest

MODULES = sorted(
    f"lookm_cpp.{module.name}"
    for module in pkgutil.iter_modules(lookm_cpp.__path__)
    if module.name not in {"_core", "__main__"}
)
WITH_EXAMPLES = {
    f"lookm_cpp.{name}" for name in ("answer", "arrays", "chat", "embedded", "images", "info", "llava", "planning")
}


@pytest.mark.parametrize("name", ["lookm_cpp", *MODULES])
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.failed == 0
    assert found.attempted > 0 or name not in WITH_EXAMPLES
