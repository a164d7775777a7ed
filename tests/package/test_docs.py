"""Links between the pages, which a forge follows as they stand, and the site's list of pages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from package.test_build import ROOT

BESIDE_DOCS = [
    "[!.]*.md",
    "[!.]*/README.md",
    "benchmarks/*/*.md",
    "python/lookm_cpp/models/README.md",
]
PAGES = sorted(page for names in ("docs/*.md", *BESIDE_DOCS) for page in ROOT.glob(names))
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _anchors(page: Path) -> set[str]:
    """As forges and mkdocs make them of headings."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in HEADING.findall(text)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target, anchor in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        file = (page.parent / target).resolve() if target else page
        assert file.is_file(), target
        assert not anchor or anchor in _anchors(file), f"{target}#{anchor}"


def test_the_site_has_every_page_once() -> None:
    nav = (
        (ROOT / "mkdocs.yml")
        .read_text(encoding="utf-8")
        .partition("\nnav:")[2]
        .partition("\n\n")[0]
    )
    named = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    assert sorted(named) == [str(page.relative_to(ROOT)) for page in PAGES]


def test_the_page_of_commands_is_what_they_say() -> None:
    """After a change to a command: ``python docs/cli.py > docs/cli.md``."""
    command = [sys.executable, str(ROOT / "docs" / "cli.py")]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert made == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
