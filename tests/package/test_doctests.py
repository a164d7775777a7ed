"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import lookm_cpp
import pytest
from lookm_cpp import embedded

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(lookm_cpp.__path__, "lookm_cpp.")
    if module.name not in {"lookm_cpp._core", "lookm_cpp._oracle", "lookm_cpp.__main__"}
)
WITH_EXAMPLES = {
    f"lookm_cpp.{name}"
    for name in (
        "answer",
        "arrays",
        "chat",
        "embedded",
        "explaining.colours",
        "images",
        "info",
        "llava",
        "planning",
        "text_model",
    )
}


@pytest.mark.parametrize("name", ["lookm_cpp", *MODULES])
def test_examples_in_docstrings_give_what_they_show(name: str) -> None:
    module = importlib.import_module(name)
    shown = {"Llava": lookm_cpp.Llava, "embedded": embedded}
    found = doctest.testmod(module, extraglobs=shown, optionflags=doctest.ELLIPSIS)
    assert found.failed == 0
    assert found.attempted > 0 or name not in WITH_EXAMPLES
