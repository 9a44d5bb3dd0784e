"""docs/operations.md against the code: every option, setting, metric, reason and size."""

from __future__ import annotations

import argparse
import inspect
import io
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from metrics_in_use import cloud_metrics, edge_metrics, used
from thinwire.cloud.cli import make_parser as cloud_parser
from thinwire.cloud.settings import CloudSettings
from thinwire.common import demo_pair
from thinwire.common.errors import ThinwireError, errors_by_reason
from thinwire.common.schemes import scheme_parameters
from thinwire.common.session.generation import GenerationFinished, GenerationStarted, Token
from thinwire.common.session.messages import FinishReason, TokenKind
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.cli import make_parser as edge_parser
from thinwire.edge.report import JsonLines
from thinwire.edge.settings import EdgeSettings

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "operations.md").read_text(encoding="utf-8")
BYTES = {"float32": 4, "bfloat16": 2}

Rows = list[dict[str, str]]


def tables_below(text: str, heading: str) -> list[Rows]:
    """The tables between a heading of the second level and the next one, a dict a row."""
    _, _, rest = text.partition(f"\n## {heading}\n")
    assert rest, f"no section {heading!r}"
    tables: list[Rows] = []
    names: list[str] | None = None
    for line in rest.partition("\n## ")[0].splitlines():
        if not line.startswith("|"):
            names = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if names is None:
            names = cells
            tables.append([])
        elif set(line) - set("| -:"):
            tables[-1].append(dict(zip(names, cells, strict=True)))
    return tables


def of(row: dict[str, str]) -> tuple[str, ...]:
    """Which daemons a row speaks of."""
    return ("cloud", "edge") if row["of"] == "both" else (row["of"],)


def by_daemon(rows: Rows, name: str, value: str) -> dict[tuple[str, str], str]:
    """(daemon, name without quotes) → value, each there once."""
    pairs = [((daemon, row[name].strip("`")), row[value]) for row in rows for daemon in of(row)]
    assert len(dict(pairs)) == len(pairs), "a row is there twice"
    return dict(pairs)


def options() -> dict[tuple[str, str], argparse.Action]:
    """Every option of either daemon's command."""
    found = {}
    for daemon, parser, command in (("cloud", cloud_parser(), "serve"), ("edge", edge_parser({}), "edge")):
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        for action in commands.choices[command].filled()._actions:
            if "--help" not in action.option_strings:
                found[daemon, action.option_strings[-1]] = action
    return found


def shown(default: object) -> str:
    """A default as the page shows it."""
    if default is None:
        return "none"
    if default is False:
        return "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def row_of(action: argparse.Action) -> tuple[str, str, str]:
    """(unit, default, what) of an option as its settings dataclass and the help have them."""
    unit = "" if action.nargs == 0 else str(action.metavar or "name").replace("_", " ").lower()
    unit = re.sub("host:port|pem|json", lambda found: found[0].upper(), unit)
    default = "the bundled one" if action.dest == "model" else shown(action.default)
    what = re.sub(r" \(default [^()]*\)$", "", str(action.help)).replace("%%", "%")
    return unit, default, what


def with_options(page: str) -> str:
    """The page with a row for each option of the daemons; one that both have alike stands once."""
    rows = {key: row_of(action) for key, action in options().items()}
    lines = page.splitlines()
    first = lines.index("| option | of | unit | default | what |") + 2
    after = lines.index("", first)
    lines[first:after] = []
    for (daemon, name), row in rows.items():
        other = rows.get(("edge" if daemon == "cloud" else "cloud", name))
        if row != other or daemon == "cloud":
            of = "both" if row == other else daemon
            unit, default, what = row
            lines.insert(first, f"| `{name}` | {of} | {unit} | {default} | {what} |".replace("|  |", "| |"))
            first += 1
    return "\n".join(lines) + "\n"


def with_statistics(page: str) -> str:
    """The page with a row for each of the statistics, in the words of `GenerationStatistics`."""
    source = inspect.getsource(GenerationStatistics)
    rows = re.findall(r'^    (\w+): .*\n    """(.+)"""$', source, re.MULTILINE)
    rows += re.findall(r'^    def (\w+)\(.*\n        """(.+)"""$', source, re.MULTILINE)
    lines = page.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("| `seed` | statistics |")) + 1
    behind = lines.index("", first)
    lines[first:behind] = [f"| `{name}` | statistics | {text} |" for name, text in rows]
    return "\n".join(lines) + "\n"


def test_every_option_is_there_in_the_words_of_its_settings() -> None:
    """The table and both command lines name the same options, with the same units, defaults and words."""
    assert len(options()) > 2 * len(fields(EdgeSettings))
    assert with_options(PAGE) == PAGE, "`python tests/test_operations_page.py` writes the rows anew"


@pytest.mark.parametrize(("daemon", "settings"), [("cloud", CloudSettings), ("edge", EdgeSettings)])
def test_every_setting_of_a_daemon_is_an_option(daemon: str, settings: type) -> None:
    """Nothing that bounds a daemon is out of its operator's reach."""
    reached = {action.dest for (of, _), action in options().items() if of == daemon}

    assert {field.name for field in fields(settings)} <= reached


def test_every_metric_is_there_with_its_type_and_labels() -> None:
    """The table and both registries name the same metrics."""
    table = tables_below(PAGE, "Metrics")[0]
    types, labels = {}, {}
    for daemon, metrics in (("cloud", used(cloud_metrics())), ("edge", used(edge_metrics()))):
        for family in metrics.registry.collect():
            key = daemon, family.name + ("_total" if family.type == "counter" else "")
            types[key] = family.type
            labels[key] = ", ".join({name: "" for s in family.samples for name in s.labels if name != "le"})

    assert by_daemon(table, "metric", "type") == types
    assert by_daemon(table, "metric", "labels") == labels


def test_every_field_of_json_output_is_there() -> None:
    """The table names the fields of a token event and of the statistics event, and no others."""
    (table,) = tables_below(PAGE, "Output")
    documented = {
        (event, name.strip("`"))
        for row in table
        for event in row["of"].split(", ")
        for name in row["field"].split(", ")
    }
    file = io.StringIO()
    lines = JsonLines(file, explains=True)
    lines.show((Token(1, TokenKind.BONUS, "a"),))
    lines.show(GenerationStarted(1, 1, scheme_parameters(), 6))
    lines.show(GenerationFinished(FinishReason.EOS, "", GenerationStatistics()))
    written = [json.loads(line) for line in file.getvalue().splitlines()]

    assert documented == {(line["event"], name) for line in written for name in line}
    assert with_statistics(PAGE) == PAGE, "`python tests/test_operations_page.py` writes the rows anew"


def test_every_reason_is_there_with_its_status_cause_and_remedy() -> None:
    """All reasons of the error tree, and all that docs/protocol.md names."""
    (table,) = tables_below(PAGE, "Errors")
    statuses = {row["reason"]: row["status"] for row in table}
    kinds: list[type[ThinwireError]] = [ThinwireError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    protocol = tables_below((DOCS / "protocol.md").read_text(encoding="utf-8"), "Order of checks")[0]

    assert len(statuses) == len(table)
    assert set(statuses) == errors_by_reason().keys()
    assert all(kind.status == statuses[kind.reason] for kind in kinds)
    assert all(row["cause"] and row["remedy"] for row in table)
    assert {row["Reason"] for row in protocol} <= set(statuses)
    assert all(row["Status"].partition(",")[0] == statuses[row["Reason"]] for row in protocol)


def test_the_sizes_follow_from_the_formula() -> None:
    """2 × layers × KV heads × head size × bytes; the bundled models' shapes are those of their files."""
    (table,) = tables_below(PAGE, "Sizing")
    paths = {"bundled target": demo_pair.target_path(), "bundled draft": demo_pair.draft_path()}
    for row in table:
        layers, heads, size = (int(row[name]) for name in ("layers", "KV heads", "head size"))
        token = 2 * layers * heads * size * BYTES[row["dtype"]]
        assert int(row["bytes a token"]) == token
        assert row["2048 tokens"] == f"{2048 * token / 2**20:g} MiB"
        if row["model"] in paths:
            config = json.loads((paths[row["model"]] / "config.json").read_text())
            shape = ("num_hidden_layers", "num_key_value_heads", "head_dim")
            assert [layers, heads, size] == [config[name] for name in shape]

    assert {*paths, "Qwen2.5-7B"} == {row["model"] for row in table}
    assert f"{16 * 2048 * 24576 / 2**20:g} MiB (16 × 2048 × 24576 bytes)" in PAGE
    assert f"`--kv-bytes` {16 * 4096 * 57344} (3.5 GiB)" in PAGE


@pytest.mark.parametrize(
    "link", ["settings", "health", "metrics", "log", "output", "tracing", "errors", "sizing"]
)
def test_the_links_at_the_top_lead_somewhere(link: str) -> None:
    """A section each."""
    assert f"(#{link})" in PAGE
    assert f"\n## {link.capitalize()}\n" in PAGE


if __name__ == "__main__":
    (DOCS / "operations.md").write_text(with_options(with_statistics(PAGE)), encoding="utf-8")
