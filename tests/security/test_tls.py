"""Real gRPC over real TLS: who is let in by certificates, and what one is told who is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request
from security.credentials import HOSTS, Certificates, pair_of
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.errors import TransportError
from thinwire.edge.client import connect
from thinwire.edge.report import status_rows
from thinwire.edge.settings import EdgeSettings
from verify_peer import TARGET, running_cloud

SIZE = 8
VOCABULARY = TableVocabulary(SIZE)
QUICK = EdgeSettings(connect_timeout_s=1.0, patience_s=0.0)


def models() -> tuple[WatchedModel, WatchedModel]:
    """(target, draft)."""
    return WatchedModel(random_law(SIZE, 1)), WatchedModel(random_law(SIZE, 2))


async def undisturbed() -> tuple[int, ...]:
    """The text of plaintext daemons without tokens."""
    async with loopback(*models(), VOCABULARY) as both:
        return (await generate(both.client, make_request(seed=3, max_tokens=40))).token_ids


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mutual"])
async def test_tls_on_both_links_changes_nothing_of_a_text(tmp_path: Path, mutual: bool) -> None:
    """Client, edge and cloud with one authority; `status` says what protects either connection."""
    certificates = Certificates.make(tmp_path)
    authority = certificates.authority if mutual else None
    own = certificates.pair("edge") if mutual else None
    dial = ClientSecurity(authority=certificates.authority, key_pair=own)
    async with loopback(
        *models(),
        VOCABULARY,
        cloud_security=certificates.server("cloud", client_authority=authority),
        edge_security=certificates.server("edge", client_authority=authority),
        to_cloud=dial,
        to_edge=dial,
    ) as both:
        done = await generate(both.client, make_request(seed=3, max_tokens=40))
        status = await both.client.status(timeout_s=5)

    assert done.token_ids == await undisturbed()
    assert status.cloud_info is not None
    shown = "mutual TLS" if mutual else "TLS"
    rows = status_rows(status, edge_security=dial.of(both.edge_address))
    assert [value for name, value in rows if name == "  connection"] == [shown, shown]
    assert [value for name, value in rows if name == "  listener"] == [f"{shown}, without tokens"] * 2


def wrong_authority() -> tuple[ServerSecurity, ClientSecurity, str]:
    """The edge trusts somebody else."""
    _, pair = pair_of()
    return ServerSecurity(key_pair=pair), ClientSecurity(authority=pair_of()[0]), "CERTIFICATE_VERIFY_FAILED"


def expired() -> tuple[ServerSecurity, ClientSecurity, str]:
    """The cloud's certificate was good until a day ago."""
    authority, pair = pair_of(days=-1)
    return ServerSecurity(key_pair=pair), ClientSecurity(authority=authority), "certificate has expired"


def other_name() -> tuple[ServerSecurity, ClientSecurity, str]:
    """The certificate is for another host."""
    authority, pair = pair_of(("cloud.example",))
    return (
        ServerSecurity(key_pair=pair),
        ClientSecurity(authority=authority),
        "Hostname Verification Check failed",
    )


def plaintext_caller() -> tuple[ServerSecurity, ClientSecurity, str]:
    """The edge knows nothing of TLS."""
    _, pair = pair_of()
    return ServerSecurity(key_pair=pair), ClientSecurity(), "the cloud at"


def tls_to_plaintext() -> tuple[ServerSecurity, ClientSecurity, str]:
    """The edge asks for TLS and never falls back."""
    authority, _ = pair_of()
    return ServerSecurity(), ClientSecurity(authority=authority), "the cloud at"


def no_client_certificate() -> tuple[ServerSecurity, ClientSecurity, str]:
    """Mutual TLS, and the edge has nothing to show."""
    authority, pair = pair_of()
    server = ServerSecurity(key_pair=pair, client_authority=authority)
    return server, ClientSecurity(authority=authority), "the cloud at"


def strange_client_certificate() -> tuple[ServerSecurity, ClientSecurity, str]:
    """Mutual TLS, and the edge shows a certificate of another authority."""
    authority, pair = pair_of()
    server = ServerSecurity(key_pair=pair, client_authority=authority)
    return server, ClientSecurity(authority=authority, key_pair=pair_of()[1]), "the cloud at"


@pytest.mark.parametrize(
    "case",
    [
        wrong_authority,
        expired,
        other_name,
        plaintext_caller,
        tls_to_plaintext,
        no_client_certificate,
        strange_client_certificate,
    ],
)
async def test_a_link_without_the_right_certificates_carries_nothing(case: object) -> None:
    """UNAVAILABLE with gRPC's own reason; the cloud has no session, and `status` says why it is not there."""
    server, client, reason = case()  # type: ignore[operator]
    target, draft = models()
    async with loopback(
        target, draft, VOCABULARY, cloud_security=server, to_cloud=client, edge_settings=QUICK
    ) as both:
        with pytest.raises(TransportError) as caught:
            await generate(both.client, make_request())
        status = await both.client.status(timeout_s=5)

        assert reason in caught.value.message
        assert both.cloud.sessions == 0
    assert status.cloud_info is None
    assert status.cloud_failure.startswith("UNAVAILABLE: ")
    assert target.passes == 0


async def test_a_client_that_does_not_trust_the_edge_is_told_so(tmp_path: Path) -> None:
    """One sentence with gRPC's reason and the option that is missing."""
    certificates = Certificates.make(tmp_path)
    stranger = ClientSecurity(authority=pair_of()[0])
    async with loopback(
        *models(), VOCABULARY, edge_security=certificates.server("edge"), to_edge=certificates.client()
    ) as both:
        with pytest.raises(TransportError, match=r"CERTIFICATE_VERIFY_FAILED.*--ca vouches"):
            async with connect(both.edge_address, security=stranger):
                pass
        assert (await generate(both.client, make_request(max_tokens=4))).tokens


async def test_health_answers_over_tls_without_a_token(tmp_path: Path) -> None:
    """A probe needs the authority and nothing else."""
    certificates = Certificates.make(tmp_path)
    security = certificates.server("cloud")
    async with (
        running_cloud(WatchedModel(TARGET), security=security) as cloud,
        wire.open_channel(cloud.address, certificates.client()) as channel,
    ):
        assert await wire.is_serving(channel, wire.VERIFIER_SERVICE, timeout_s=5)
        assert not await wire.is_serving(cloud.channel, wire.VERIFIER_SERVICE, timeout_s=0.5)


async def test_a_certificate_holds_for_a_name_as_for_an_address() -> None:
    """`localhost` and 127.0.0.1 are both in it."""
    authority, pair = pair_of(HOSTS)
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(key_pair=pair)) as cloud:
        port = cloud.address.rpartition(":")[2]
        for address in (f"localhost:{port}", f"127.0.0.1:{port}"):
            async with wire.open_channel(address, ClientSecurity(authority=authority)) as channel:
                assert await wire.is_serving(channel, wire.VERIFIER_SERVICE, timeout_s=5)


async def test_a_key_and_a_token_are_not_in_any_representation(tmp_path: Path) -> None:
    """What is logged by mistake shows neither."""
    certificates = Certificates.make(tmp_path)
    server = certificates.server("cloud")
    client = ClientSecurity(key_pair=certificates.pair("edge"), token="tw_secret")
    key = certificates.pair("cloud").private_key.decode().splitlines()[1]

    assert key not in repr(server)
    assert "tw_secret" not in repr(client)
    assert "PRIVATE KEY" not in repr(server) + repr(client)
