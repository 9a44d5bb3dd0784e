"""
Writes bench/prompts.jsonl: 200 prompts from held-out files, functions cut in the middle and docstrings.

    python -m bench.pair.prompts
"""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path

from bench.pair import data
from bench.pair.corpus import Document

COUNT = 200
MIN_BYTES, MAX_BYTES = 160, 560
"""About 40 to 160 tokens at 3.5 to 4 bytes a token."""
OUT = Path(__file__).parent.parent / "prompts.jsonl"


def candidates(document: Document) -> list[dict[str, str]]:
    """Prompts of one file: each function up to the end of its docstring, and up to the middle of its body."""
    try:
        tree = ast.parse(document.text)
    except (SyntaxError, ValueError):
        return []
    lines = document.text.splitlines(keepends=True)
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        start = node.lineno - 1
        if ast.get_docstring(node) is not None and len(node.body) > 1:
            found.append(("docstring", "".join(lines[start : node.body[0].end_lineno])))
        middle = (node.lineno + (node.end_lineno or node.lineno)) // 2
        if middle - start >= 3:
            found.append(("function", "".join(lines[start:middle])))
    return [
        {"source": document.source, "kind": kind, "prompt": text}
        for kind, text in found
        if MIN_BYTES <= len(text.encode()) <= MAX_BYTES
    ]


def main() -> None:
    """The command."""
    data.prepare()
    rows = [row for document in data.held_out() for row in candidates(document)]
    generator = random.Random(data.SEED)
    generator.shuffle(rows)
    halves = {kind: [r for r in rows if r["kind"] == kind][: COUNT // 2] for kind in ("function", "docstring")}
    chosen = halves["function"] + halves["docstring"]
    generator.shuffle(chosen)
    assert len(chosen) == COUNT, f"only {len(chosen)} held-out prompts found"
    with OUT.open("w") as file:
        for number, row in enumerate(chosen):
            file.write(json.dumps({"id": f"p{number:03d}", **row}) + "\n")


if __name__ == "__main__":
    main()
