"""
Writes bench/prompts.jsonl: 200 prompts from held-out files, functions cut in the middle and docstrings.

    python -m training.prompts
"""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path

from training import data, tokenizer
from training.corpus import Document

COUNT = 200
MIN_TOKENS, MAX_TOKENS = 40, 160
OUT = Path(__file__).parents[1] / "bench" / "prompts.jsonl"


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
    return [{"source": document.source, "kind": kind, "prompt": text} for kind, text in found]


def main() -> None:
    """The command."""
    data.prepare()
    vocabulary = tokenizer.load(data.WORK / "tokenizer")
    # By text, so that a function that stands in two places counts once.
    found = {row["prompt"]: row for document in data.held_out() for row in candidates(document)}
    rows = [
        row for text, row in found.items() if MIN_TOKENS <= len(vocabulary.encode(text).ids) <= MAX_TOKENS
    ]
    generator = random.Random(data.SEED)
    generator.shuffle(rows)
    chosen = [
        row
        for kind in ("function", "docstring")
        for row in [r for r in rows if r["kind"] == kind][: COUNT // 2]
    ]
    generator.shuffle(chosen)
    assert len(chosen) == COUNT, f"only {len(chosen)} held-out prompts found"
    with OUT.open("w") as file:
        for number, row in enumerate(chosen):
            file.write(json.dumps({"id": f"p{number:03d}", **row}) + "\n")


if __name__ == "__main__":
    main()
