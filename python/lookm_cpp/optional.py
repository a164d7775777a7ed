"""Packages that only some functions need."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def optional_package(name: str, needed_for: str, *modules: str) -> Any:
    """The package, with these modules of it.

    Raises:
        ImportError: It is not installed.
    """
    try:
        package = import_module(name)
        for module in modules:
            import_module(f"{name}.{module}")
    except ImportError:
        raise ImportError(f"{needed_for} need {name}: pip install {name}") from None
    return package
