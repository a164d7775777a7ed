"""The tests that ``make test-fast`` and ``make test-wheel`` name exist."""

from __future__ import annotations

import re

import pytest

from package.test_build import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
NAMED = [
    name
    for variable in ("FAST_TESTS", "SLOW_TESTS", "WHEEL_TESTS")
    for name in re.findall(rf"^{variable} = (.*)$", MAKEFILE, re.MULTILINE)[0].split()
]


@pytest.mark.parametrize("name", NAMED)
def test_a_fast_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    file = ROOT / path
    assert file.exists()
    assert not function or f"\ndef {function}(" in file.read_text(encoding="utf-8")
