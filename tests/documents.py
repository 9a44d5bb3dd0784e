"""Parts of Markdown pages that are made by tests: between a comment that names one and the next comment."""

from __future__ import annotations

from pathlib import Path


def replace_marked(page: Path, name: str, text: str) -> None:
    """
    Write the part anew that begins behind `<!-- NAME: ... -->` and ends before the next comment.

    Raises:
        ValueError: the page has no such comment, or none behind it.
    """
    content = page.read_text(encoding="utf-8")
    start = content.index("-->\n", content.index(f"<!-- {name}: ")) + len("-->\n")
    page.write_text(content[:start] + text + "\n" + content[content.index("<!--", start) :], encoding="utf-8")
