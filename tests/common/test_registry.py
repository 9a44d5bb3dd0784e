"""
A scheme is known by its own file; here is what else must not forget it.

`python -m tests.common.test_registry` writes the table of parameters into docs/schemes.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from exactness import test_baseline_schemes as baselines
from exactness import test_coupled as coupled
from exactness import test_enumeration as enumerated
from fuzz.targets import SCHEMES as FUZZED
from thinwire.common.errors import ConfigError
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.support_code import point_offsets, point_rank
from thinwire.common.pb import verifier_pb2
from thinwire.common.schemes import (
    SCHEMES,
    Scheme,
    find_scheme,
    make_scheme,
    parameter_rows,
    parse_scheme,
    read_scheme,
    schemes_help,
)
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.k_sqs import KSqs

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "schemes.md"
KINDS = list(SCHEMES.values())
ENUMERATED = {
    case.scheme.scheme
    for cases in (enumerated.CASES, coupled.CASES, baselines.LOW_CASES)
    for case in cases.values()
} | {baselines.CLOUD_AR.scheme}
"""Schemes whose law is enumerated."""
TABLE = re.compile(r"(<!-- parameters:.*?-->\n).*?(<!-- end of parameters -->)", re.DOTALL)


def text_of(path: str) -> str:
    """A file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def parameter_table() -> str:
    """Every parameter as a row of Markdown."""
    rows = ["| Scheme | Parameter | Field | Default | Range | D | Meaning |", "|---|---|---|---|---|---|---|"]
    for kind in KINDS:
        for field, default, spec in parameter_rows(kind.Parameters):
            shown = "by the temperature" if default == "BY-TEMPERATURE" else default
            cells = (f"`{kind.name}`", f"`{spec.short}`", f"`{field}`", shown, spec.expected)
            rows.append(f"| {' | '.join(cells)} | {'D' if spec.decodes else ''} | {spec.means} |")
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("kind", KINDS, ids=SCHEMES)
def test_the_proto_has_the_schemes_message_with_its_fields(kind: type[Scheme]) -> None:
    """Every parameter, optional, and marked D exactly where the cloud needs it."""
    field = verifier_pb2.Scheme.DESCRIPTOR.oneofs_by_name["parameters"].fields
    message = {each.name: each.message_type for each in field}[kind.name.replace("-", "_")]
    source = text_of("proto/verifier.proto").partition(f"message {message.name} {{")[2].partition("}")[0]
    marked = set(re.findall(r"// D: .*\n\s*optional \w+ (\w+) =", source))
    specs = kind.Parameters.specs()

    assert set(message.fields_by_name) == set(specs)
    assert all(each.has_presence for each in message.fields)
    assert marked == {name for name, spec in specs.items() if spec.decodes}


@pytest.mark.parametrize("name", SCHEMES)
def test_no_page_and_no_fuzzer_forgets_a_scheme(name: str) -> None:
    """The payload's layout, the schemes' table, README, the fuzzed and the enumerated schemes, the help."""
    layout = text_of("proto/README.md").partition("## The payload")[2]

    assert f"`{name}`" in layout
    assert re.search(rf"^\| `{name}` \|.*common/schemes/", text_of("docs/schemes.md"), re.MULTILINE)
    assert re.search(rf"(?<![\w-]){name}(?![\w-])", text_of("README.md"))
    assert name in {parameters.scheme for parameters in FUZZED}
    assert name in ENUMERATED
    assert f"\n  {name} " in schemes_help()


def test_the_table_of_parameters_is_that_of_the_code() -> None:
    """docs/schemes.md shows every parameter with its default and range."""
    found = TABLE.search(DOCS.read_text(encoding="utf-8"))

    assert found is not None
    assert found[0] == found[1] + parameter_table() + found[2]


@pytest.mark.parametrize("kind", KINDS, ids=SCHEMES)
@pytest.mark.parametrize("temperature", [0.0, 0.3, 0.5, 1.0, 1.5])
def test_a_schemes_text_stands_for_the_same_parameters(kind: type[Scheme], temperature: float) -> None:
    """At any temperature, for every parameter is in it; the name alone takes the temperature's defaults."""
    parameters = kind.Parameters.defaults(temperature)

    assert parse_scheme(str(parameters), 1.0) == parameters
    assert parse_scheme(kind.name, temperature) == parameters


def test_a_parameter_goes_by_either_name_in_any_case() -> None:
    """K_max, k-max, max_support_size; what is not given is not said."""
    for word in ("K_max", "k-max", "max_support_size", "max-support-size"):
        assert read_scheme(f"c-sqs:{word}=9,frozen=1") == (
            "c-sqs",
            {"max_support_size": 9, "frozen_threshold": True},
        )
    assert parse_scheme("k-sqs:K=4,ell=50") == KSqs.Parameters(support_size=4, lattice_resolution=50)
    assert parse_scheme("c-sqs:beta=0.02") == CSqs.Parameters(initial_threshold=0.02)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("k-sq", "scheme is 'k-sq'; expected one of k-sqs, c-sqs, .*. Did you mean k-sqs?"),
        ("k-sqs:", "k-sqs has no parameter ''; expected one of ell, K."),
        ("k-sqs:bet=1", "k-sqs has no parameter 'bet'; expected one of ell, K."),
        ("c-sqs:bet=1", "c-sqs has no parameter 'bet'; .* Did you mean beta?"),
        ("cloud-ar:K=1", "cloud-ar has no parameter 'K'; expected none."),
        ("k-sqs:K", "K of k-sqs is ''; expected 1 to 256."),
        ("k-sqs:K=1.5", "K of k-sqs is '1.5'; expected 1 to 256."),
        ("k-sqs:K=1,k=2", "k of k-sqs is given twice; expected it once."),
        ("c-sqs:frozen=2", "frozen of c-sqs is '2'; expected 0 or 1."),
        ("c-sqs:rollback=never", "rollback of c-sqs is 'never'; expected committed or drafted."),
        ("c-sqs:eta=nan", "eta of c-sqs is nan; expected a number in"),
        ("dense-qs:ell=1025", "ell of dense-qs is 1025; expected an integer from 1 to 1024."),
    ],
)
def test_a_wrong_text_is_refused_with_what_was_received_and_expected(text: str, sentence: str) -> None:
    """And with the nearest name where one is near."""
    with pytest.raises(ConfigError) as caught:
        parse_scheme(text)

    assert re.match(sentence.replace("?", r"\?").replace("[", r"\["), caught.value.message)


@pytest.mark.parametrize("changes", [{"rollback": "never"}, {"frozen_threshold": 1}])
def test_a_choice_takes_its_own_values_only(changes: dict[str, object]) -> None:
    """A switch is no number."""
    with pytest.raises(ConfigError, match="expected"):
        CSqs.Parameters(**changes)  # type: ignore[arg-type]


def test_what_only_the_edge_needs_is_not_in_the_checksum() -> None:
    """The cloud never learns it, and must come to the same checksum."""
    assert CSqs.Parameters(threshold_step=0.5).canonical() == CSqs.Parameters().canonical()
    assert KSqs.Parameters().canonical() == b"k-sqs:lattice_resolution=100,support_size=8"
    assert find_scheme("cloud-ar").Parameters().canonical() == b"cloud-ar:"


def test_the_block_worked_by_hand_is_the_codes() -> None:
    """`proto/README.md`, "A block by hand": every number of the table, and the byte."""
    scheme = make_scheme(parse_scheme("k-sqs:K=2,ell=4"), vocabulary_size=5)
    token = DraftToken(QuantizedDistribution(np.array([1, 3]), np.array([3, 1]), 4), 1)
    section = text_of("proto/README.md").partition("### A block by hand")[2].partition("###")[0]
    written = [row.split("|")[-2].strip().rpartition(" ")[2] for row in section.splitlines() if "| " in row]
    rank = point_rank([1, 3], [3, 1], 4)
    ones, both = point_offsets(5, 2, 4)[1:]
    after_point = token.token_index * both + ones + rank
    numbers = [2, ones, both, *divmod(rank, 3), rank, ones + rank, 1, 1, after_point, 2 * after_point]

    assert written == ["Value", *map(str, numbers), f"`{scheme.encode([token], coding=0).hex()}`"]
    assert scheme.decode(bytes([numbers[-1]]), draft_length=1, coding=0)[0].token_id == 3


if __name__ == "__main__":
    page = DOCS.read_text(encoding="utf-8")
    DOCS.write_text(TABLE.sub(lambda found: found[1] + parameter_table() + found[2], page), encoding="utf-8")
