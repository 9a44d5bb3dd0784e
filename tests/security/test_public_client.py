"""`thinwire.AsyncClient` and an edge that asks for mutual TLS and a token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import thinwire
from fakes import TableVocabulary, random_law
from loopback import WatchedModel, loopback
from security.credentials import Certificates, Tokens
from thinwire.common.door.security import ClientSecurity

SIZE = 8


@asynccontextmanager
async def edge(folder: Path) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The address of such an edge, and the arguments that it takes."""
    certificates = Certificates.make(folder / "certificates")
    tokens = Tokens(folder / "tokens.json")
    options = {
        "ca": certificates.folder / "ca.pem",
        "certificate": certificates.folder / "edge.pem",
        "key": certificates.folder / "edge.key",
        "token": tokens.add("client"),
    }
    security = certificates.server("edge", client_authority=certificates.authority, access=tokens.access())
    own = ClientSecurity(
        authority=certificates.authority, key_pair=certificates.pair("edge"), token=options["token"]
    )
    target, draft = (WatchedModel(random_law(SIZE, seed)) for seed in (1, 2))
    async with loopback(target, draft, TableVocabulary(SIZE), edge_security=security, to_edge=own) as both:
        yield both.edge_address, options


async def client_of(address: str, **options: Any) -> thinwire.AsyncClient:
    """A client; made beside the loop, since it reads files."""
    return await asyncio.to_thread(lambda: thinwire.AsyncClient(address, **options))


async def test_certificates_and_token_let_the_client_in(tmp_path: Path) -> None:
    """Paths of the files that `thinwire-cloud certs` makes, and the token itself."""
    async with edge(tmp_path) as (address, options), await client_of(address, **options) as client:
        text = await client.complete("a", max_tokens=5)

    assert len(text.tokens) == 5


@pytest.mark.parametrize(
    ("without", "kind", "reason"),
    [
        ({"token"}, thinwire.UnauthenticatedError, "UNAUTHENTICATED"),
        ({"certificate", "key"}, thinwire.TransportError, "LINK"),
        ({"ca", "certificate", "key"}, thinwire.TransportError, "LINK"),
    ],
    ids=["token", "certificate", "TLS"],
)
async def test_without_one_of_them_it_stays_outside(
    tmp_path: Path, without: set[str], kind: type[thinwire.ThinwireError], reason: str
) -> None:
    """The exception says which kind of refusal it is."""
    async with edge(tmp_path) as (address, options):
        some = {name: value for name, value in options.items() if name not in without}
        async with await client_of(address, **some) as client:
            with pytest.raises(kind) as caught:
                await client.complete("a", max_tokens=5)

    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ca": "missing.pem"}, r"'missing\.pem' cannot be read"),
        ({"certificate": "a.pem"}, "only one of certificate and key is given; expected both"),
        ({"token": "two words"}, "the token has 9 characters"),
        ({"event_timeout_s": 0.0}, r"event_timeout_s is 0\.0; expected"),
    ],
)
def test_a_bad_argument_is_refused_at_once(options: Any, sentence: str) -> None:
    """By either client, before anybody is dialled."""
    for kind in (thinwire.Client, thinwire.AsyncClient):
        with pytest.raises(thinwire.ConfigError, match=sentence):
            kind("127.0.0.1:1", **options)
