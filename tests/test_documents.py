"""The Markdown files: links that lead somewhere, and an index that names every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {".venv", ".git", ".pytest_cache", "node_modules"}
PAGES = [p for p in sorted(ROOT.rglob("*.md")) if not LEFT_OUT & set(p.relative_to(ROOT).parts)]


def anchors(page: Path) -> set[str]:
    """The headings' names, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of this repository, and to a heading in it."""
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        known = target.startswith(("https://", "http://"))
        if not known and not (file.exists() and (not anchor or anchor in anchors(file))):
            lost.append(target)

    assert lost == []


def test_the_index_names_every_page_for_readers() -> None:
    """docs/README.md; the decisions are a folder of it, and a run's tables belong to docs/results.md."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}

    assert pages <= set(re.findall(r"\]\(([\w-]+\.md)\)", index))
