"""
`python -m bench.grid.publish DIR`: a run's tables and figures into the documents, from its lines alone.

    python -m bench.grid.publish bench/results/hour
    python -m bench.grid.publish bench/results/hour --paced bench/results/hour-paced
    python -m bench.grid.publish bench/results/short --name short
    python -m bench.grid.publish bench/results/free

Writes DOCS/results/NAME.md, DOCS/figures/NAME-*.svg, and the lines themselves to DOCS/results/lines/NAME/, so
that all of it can be drawn again from a clone: `python -m bench.grid.publish docs/results/lines/NAME`.
With --paced the second run is published too (as NAME-paced), and the figure `worth.svg` shows both side by
side. Of a run at several pass times (`make bench-free`) each becomes NAME-PASS.md; NAME.md says what they say
together, with figures/NAME-speed.svg, and DOCS/results.md when to use what, between its two marks.
A simulation (in DIR/simulation, or where --simulation says) becomes DOCS/results/simulation.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import command
from bench.grid import figures, free_page, report
from bench.grid.store import read_generations, read_lines, read_settings

LINES = ("generations", "links")
"""Files that tables and figures are made of; a simulation is fitted to the rounds too."""
COMMAND = "python -m bench.grid.publish"
HEAD = f"Written by `{COMMAND}` from the lines in [lines/{{0}}](lines/{{0}}), never by hand."
MARKS = "<!-- when to use what: written by bench.grid.publish -->", "<!-- end of what is written -->"
"""Around what is written into DOCS/results.md."""


def publish(
    folder: Path, docs: Path, name: str, paced: Path | None = None, *, lines: str | None = None
) -> list[Path]:
    """
    One run's page, figures and lines.

    Args:
        folder: of the run, or of lines that were published before.
        docs: its figures/ and results/ are written to.
        name: of the page.
        paced: a further run for the figure of both, whose own page is not written here.
        lines: where the lines go, in results/lines; the page's name when None.

    Returns:
        the files.

    Raises:
        StoreError: no lines there.
    """
    read_generations(folder)  # before anything is made
    drawn, pages = docs / "figures", docs / "results"
    for needed in (drawn, pages):
        needed.mkdir(parents=True, exist_ok=True)
    paths = figures.write(folder, drawn, prefix=f"{name}-")
    shown = [(path.stem.removeprefix(f"{name}-"), path) for path in paths]
    path = drawn / (f"{name}-worth.svg" if paced is None else "worth.svg")
    if figures.write_worth([folder] if paced is None else [folder, paced], path):
        paths.append(path)
        shown.insert(0, ("tokens/s over each baseline's", path))
    images = "\n\n".join(f"![{words}](../figures/{path.name})" for words, path in shown)
    page = pages / f"{name}.md"
    where = lines or name
    page.write_text(report.render(folder, head=HEAD.format(where), images=images), encoding="utf-8")
    return [page, *paths, *keep_lines(folder, pages / "lines" / where)]


def publish_several(folder: Path, docs: Path, name: str) -> list[Path]:
    """
    A run at several pass times: a page each, and the page of all; arguments and errors of `publish`.

    Returns:
        the files.
    """
    paths, pages = [], docs / "results"
    for one in free_page.folders_of(folder):
        paths += publish(one, docs, f"{name}-{one.name}", lines=f"{name}/{one.name}")
    if (capacity := folder / free_page.CAPACITY_FILE).exists():
        paths.append(pages / "lines" / name / capacity.name)
        paths[-1].write_bytes(capacity.read_bytes())
    paths += [docs / "figures" / f"{name}-speed.svg", pages / f"{name}.md"]
    free_page.write_figure(folder, paths[-2])
    linked = [path.stem for path in paths if path.suffix == ".md" and path.stem != name]
    images = f"![speed over plain streaming](../figures/{paths[-2].name})\n\nEach pass time: " + ", ".join(
        f"[{stem}]({stem}.md)" for stem in linked
    )
    text = free_page.render(folder, head=HEAD.format(name), images=images + ".")
    paths[-1].write_text(text, encoding="utf-8")
    results = docs / "results.md"
    before, mark, rest = (
        results.read_text(encoding="utf-8").partition(MARKS[0]) if results.exists() else [""] * 3
    )
    if mark and MARKS[1] in rest:
        told = free_page.when_to_use_what(folder)
        _, _, behind = rest.partition(MARKS[1])
        results.write_text(f"{before}{mark}\n{told}\n{MARKS[1]}{behind}", encoding="utf-8")
        paths.append(results)
    return paths


def keep_lines(folder: Path, to: Path, names: Sequence[str] = LINES) -> list[Path]:
    """
    Settings and lines of a run, packed, without what is of this machine alone.

    Args:
        folder: of the run.
        to: made if missing.
        names: of the files of lines, without their ending.

    Returns:
        the files.
    """
    to.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(read_settings(folder), indent=2, ensure_ascii=False) + "\n"
    paths = [to / "settings.json"]
    # Absolute paths are cut to their last part.
    paths[0].write_text(re.sub(r'(?<=[ "=])/(?:[^/" ]+/)+', "", settings), encoding="utf-8")
    for name in names:
        lines = (json.dumps(line, ensure_ascii=False) for line in read_lines(folder / f"{name}.jsonl"))
        paths.append(to / f"{name}.jsonl.gz")
        # No time stamp: the same lines give the same file.
        paths[-1].write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
    return paths


def _publish_simulation(folder: Path, docs: Path) -> list[Path]:
    """What `bench.simulation` wrote, if it did, and the lines behind it where it lies beside them."""
    page = folder / "simulation.md"
    if not page.exists():
        return []
    paths = [docs / "results" / "simulation.md"]
    text = re.sub(r"\]\(([\w-]+\.svg)\)", r"](../figures/simulation-\1)", page.read_text(encoding="utf-8"))
    paths[0].write_text(text, encoding="utf-8")
    for figure in sorted(folder.glob("*.svg")):
        paths.append(docs / "figures" / f"simulation-{figure.name}")
        paths[-1].write_bytes(figure.read_bytes())
    if (folder.parent / "rounds.jsonl").exists():
        paths += keep_lines(folder.parent, docs / "results" / "lines" / "simulation", (*LINES, "rounds"))
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """Publish; returns the exit code."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog=COMMAND,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="of a run, or of published lines")
    add("--paced", type=Path, metavar="DIR", help="the same cells, paced")
    add("--simulation", type=Path, metavar="DIR", help="of bench.simulation (default: DIR/simulation)")
    add("--name", help="of the page (default: the plan's, with -paced where it was)")
    add("--docs", type=Path, default=Path("docs"), metavar="DIR")
    given = parser.parse_args(argv)

    def work() -> int:
        folder: Path = given.folder
        if free_page.folders_of(folder):
            paths = publish_several(folder, given.docs, given.name or folder.name)
            print("\n".join(map(str, paths)))
            return 0
        plan = read_settings(folder).get("plan", {}).get("name", folder.name)
        is_paced = any(record.is_paced for record in read_generations(folder))
        name = given.name or (f"{plan}-paced" if is_paced else plan)
        paths = publish(folder, given.docs, name, given.paced)
        if given.paced is not None:
            paths += publish(given.paced, given.docs, f"{name}-paced")
        paths += _publish_simulation(given.simulation or folder / "simulation", given.docs)
        print("\n".join(str(path) for path in paths))
        return 0

    return command.run("bench.grid.publish", work)


if __name__ == "__main__":
    sys.exit(main())
