"""What a release and a forge read: version and date, the citation, and the commands of CI."""

from __future__ import annotations

import datetime
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp.cli.app import app
from typer.main import get_command

yaml: Any = pytest.importorskip("yaml")  # gguf needs it too

ROOT = Path(__file__).parents[2]


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _version() -> str:
    found = re.search(r'^version = "(.*)"$', _text("pyproject.toml"), re.MULTILINE)
    assert found is not None
    return found[1]


def _released() -> list[tuple[str, str]]:
    """Versions and dates of the changelog, the newest first."""
    return re.findall(r"^## (\S+) - (\d{4}-\d{2}-\d{2})$", _text("CHANGELOG.md"), re.MULTILINE)


def test_the_changelog_has_a_dated_section_for_this_version() -> None:
    sections = re.findall(r"^## (.+)$", _text("CHANGELOG.md"), re.MULTILINE)
    released = _released()
    assert released[0][0] == _version()
    dates = [datetime.date.fromisoformat(date) for _, date in released]
    assert dates == sorted(dates, reverse=True)
    named = [f"{version} - {date}" for version, date in released]
    assert sections in (named, ["Unreleased", *named])


def test_the_citation_is_of_this_version_and_of_the_paper() -> None:
    cited = yaml.safe_load(_text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited), "what the format requires"
    assert (cited["cff-version"], cited["type"], cited["license"]) == ("1.2.0", "software", "MIT")
    assert (cited["title"], cited["version"]) == ("lookm_cpp", _version())
    assert cited["date-released"] == _released()[0][1]
    (paper,) = cited["references"]
    entry = _text("README.md").partition("```bibtex")[2].partition("```")[0]
    bibtex = " ".join(entry.replace("{", "").replace("}", "").split())
    assert paper["title"] in bibtex
    names = [f"{one['family-names']}, {one['given-names']}" for one in paper["authors"]]
    assert " and ".join(names) in bibtex


def _ci_commands() -> list[list[str]]:
    jobs = yaml.safe_load(_text(".github/workflows/ci.yml"))["jobs"]
    assert set(jobs) == {"linux", "macos", "windows"}
    steps = [step for job in jobs.values() for step in job["steps"]]
    return [shlex.split(step["run"]) for step in steps if "run" in step]


def test_ci_runs_commands_that_exist() -> None:
    targets = re.findall(r"^([a-z][a-z-]*(?: [a-z-]+)*):(?!=)", _text("Makefile"), re.MULTILINE)
    known = {name for line in targets for name in line.split()}
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    ran = _ci_commands()
    assert [".ci/run"] in ran
    for program, *arguments in ran:
        if program == "make":
            assert arguments
            assert set(arguments) <= known
        elif program == "lookm":
            assert arguments[0] in commands
        elif program == ".ci/run":
            assert os.access(ROOT / program, os.X_OK)
        else:
            assert [program, *arguments][:2] in (["pip", "install"], ["python", "-c"])
