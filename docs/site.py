"""Hooks of mkdocs: which files of the repository are pages, without anything from elsewhere.

Files have the paths that they have in the repository; only the site's own addresses leave out
``docs/``.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BESIDE_DOCS = (
    "*.md",
    "benchmarks/*.md",
    "benchmarks/*.json",
    "benchmarks/lookm-bench/*",
    "examples/*.py",
    "python/lookm_cpp/models/README.md",
    "third_party/README.md",
    "training/README.md",
)
SHOWN = {".md", ".svg", ".png", ".css"}
RUN = re.compile(r"^(```\w+) (?:no)?run$", re.MULTILINE)
"""What the README's tests read of a block; mkdocs takes it for no block at all."""
ROW = re.compile(r"^\|.*$", re.MULTILINE)
CODE = re.compile(r"`[^`]+`")
ELSEWHERE = re.compile(
    r"<(?:script|link|img|iframe|source|video|object)\b[^>]*\b(?:src|href|data)=\"?(?:https?:)?//[^>]*>"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages by their paths in the repository; the theme's files as they are."""
    docs = {
        file.src_uri
        for file in files
        if Path(file.src_uri).suffix in SHOWN and file.src_dir == config.docs_dir
    }
    theirs = [file for file in files if file.src_dir != config.docs_dir]
    beside = sorted(
        str(path.relative_to(ROOT)) for names in BESIDE_DOCS for path in ROOT.glob(names)
    )
    ours = [f"docs/{name}" for name in sorted(docs)] + beside
    return Files([*theirs, *(_file(path, config) for path in ours)])


def _file(path: str, config: MkDocsConfig) -> File:
    file = File(
        path,
        src_dir=str(ROOT),
        dest_dir=config.site_dir,
        use_directory_urls=config.use_directory_urls,
    )
    file.dest_uri = file.dest_uri.removeprefix("docs/")
    return file


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Keep only the language of blocks, and undo the escaped bar in a table's code."""
    plain = ROW.sub(
        lambda row: CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), markdown
    )
    return RUN.sub(r"\1", plain)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Refuse a page that loads a script, a style, a font or a picture from another host."""
    if found := ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {found[0]}")
    return output
