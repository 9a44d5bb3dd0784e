"""A scheme of a package outside, found by its entry point, over a real connection and over the wire alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import TableModel, TableVocabulary, random_table
from loopback import generate, loopback, make_request
from thinwire.common import schemes
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import SCHEMES, find_scheme, parse_scheme, scheme_names, schemes_help
from thinwire.common.wire.schemes import scheme_from_proto, scheme_to_proto

SOURCE = '''
from dataclasses import dataclass

from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.schemes.parameters import choice, integer, real, switch


class Mine(KSqs):
    """K-SQS by another name."""

    name = "mine"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Parameters(KSqs.Parameters):
        spread: float = real(0.1, short="s", means="a number", expected="0 or more", accepts=lambda s: s >= 0)
        word: str = choice("a", short="word", means="a word", values={"a": "a", "b": "b"})
        loud: bool = switch(short="loud", means="a switch")


class Nameless(KSqs):
    """Its parameters are those of another scheme."""

    name = "nameless"
'''
ENTRY_POINTS = """
[thinwire.schemes]
mine = a_scheme_of_mine:Mine
nameless = a_scheme_of_mine:Nameless
missing = a_scheme_of_mine:Missing
k-sqs = a_scheme_of_mine:Mine
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package, as an installer leaves it."""
    (tmp_path / "a_scheme_of_mine.py").write_text(SOURCE)
    information = tmp_path / "a_scheme_of_mine-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: a-scheme-of-mine\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    schemes._plugins.cache_clear()
    yield
    monkeypatch.undo()
    schemes._plugins.cache_clear()
    schemes.load_schemes()


def test_it_is_a_scheme_like_any_other_and_takes_no_name_of_ours() -> None:
    """Listed last, with its parameters; `k-sqs` stays what it is."""
    assert scheme_names()[len(SCHEMES) :] == ("mine", "nameless", "missing")
    assert find_scheme("k-sqs").__module__ == "thinwire.common.schemes.k_sqs"
    assert str(parse_scheme("mine:K=2,s=0.3,word=b,loud=1")) == "mine:ell=100,K=2,s=0.3,word=b,loud=1"


@pytest.mark.parametrize("name", ["nameless", "missing"])
def test_a_broken_one_is_refused_by_name(name: str) -> None:
    """Not found in its module, or without parameters of its own."""
    with pytest.raises(ConfigError, match=f"scheme '{name}'"):
        parse_scheme(name)
    assert f"\n  {name} " in schemes_help()


def test_its_parameters_cross_the_wire_whole_and_the_thin_link_as_far_as_they_decode() -> None:
    """Numbers come back exactly; a parameter that it does not have is refused."""
    parameters = parse_scheme("mine:K=2,s=0.1,word=b,loud=1")
    message = scheme_to_proto(parameters, decoding=True)

    assert scheme_from_proto(scheme_to_proto(parameters, decoding=False), decoding=False) == parameters
    assert dict(message.custom.parameters) == {"lattice_resolution": "100", "support_size": "2"}
    assert scheme_from_proto(message, decoding=True).canonical() == parameters.canonical()
    message.custom.parameters["none_such"] = "1"
    with pytest.raises(ConfigError, match="mine has no parameter 'none_such'"):
        scheme_from_proto(message, decoding=True)


async def test_a_text_drafted_with_it_is_that_of_the_scheme_it_is_made_of() -> None:
    """Client, edge and cloud, each of which looks it up by its name."""
    target, draft = (TableModel(random_table(seed, 6)) for seed in (1, 2))
    async with loopback(target, draft, TableVocabulary(6)) as both:
        texts = [
            await generate(both.client, make_request(scheme=name, support_size=3, max_tokens=24))
            for name in ("mine", "k-sqs")
        ]

    assert texts[0].tokens == texts[1].tokens
    assert texts[0].started.scheme.scheme == "mine"
