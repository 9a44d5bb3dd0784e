"""What a person reads who dialled the other daemon, or the right one by the wrong protection or token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from loopback import generate, loopback, make_request
from security.credentials import Certificates, Tokens
from tests.integration.operations import VOCABULARY, models, until
from thinwire.common.causal_model import ServedModel
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.errors import EdgeTokenError, ResourceExhaustedError, TransportError, WrongDaemonError
from thinwire.edge.cli import main
from thinwire.edge.client import AsyncClient
from thinwire.edge.daemon import EdgeServer
from thinwire.edge.settings import EdgeSettings

SERVED = ServedModel(model=models()[1], vocabulary=VOCABULARY)
Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `thinwire ...` beside the daemons of this process; (exit code, what it said)."""

    async def run_(*argv: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, argv)
        said = capsys.readouterr()
        return code, (said.out + said.err).strip()

    return run_


@pytest.mark.parametrize("command", [("generate", "a"), ("status",)])
async def test_a_cloud_where_an_edge_is_expected_says_so(command: tuple[str, ...], run: Run) -> None:
    """With tokens too, which a client of the edge need not have."""
    async with loopback(*models(), VOCABULARY) as both:
        said = await run(*command, "--edge", both.cloud_address)

    assert said == (1, "thinwire: a cloud answers there; expected the address of an edge. [UNIMPLEMENTED]")


async def test_a_cloud_with_tokens_says_so_to_a_client_without(tmp_path: Path) -> None:
    """Which daemon it is, health tells anybody: no token is asked for first."""
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.add("acme")
    security = ServerSecurity(access=tokens.access())
    async with (
        loopback(*models(), VOCABULARY, cloud_security=security) as both,
        grpc.aio.insecure_channel(both.cloud_address) as channel,
    ):
        with pytest.raises(WrongDaemonError, match="a cloud answers there"):
            await AsyncClient(channel=channel, event_timeout_s=5).status(timeout_s=5)


async def test_an_edge_where_a_cloud_is_expected_says_so() -> None:
    """To the client of the edge that has it for its cloud, and in its status."""
    async with loopback(*models(), VOCABULARY) as both:
        mistaken = EdgeServer(SERVED, cloud_address=both.edge_address)
        port = await mistaken.start("127.0.0.1:0")
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                client = AsyncClient(channel=channel, event_timeout_s=20)
                with pytest.raises(WrongDaemonError) as caught:
                    await generate(client, make_request())
                status = await client.status(timeout_s=5)
        finally:
            await mistaken.stop(0)

    sentence = "an edge answers there; expected the address of a cloud."
    assert caught.value.message == f"at {both.edge_address}, the edge's --cloud: {sentence}"
    assert status.cloud_failure == f"UNIMPLEMENTED: {sentence}"


async def test_a_service_of_somebody_else_is_neither(run: Run) -> None:
    """gRPC's own word for it is no sentence."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        code, said = await run("status", "--edge", f"127.0.0.1:{port}")
    finally:
        await server.stop(0)

    assert code == 1
    assert said.startswith("thinwire: another service answers there (")
    assert said.endswith("); expected an edge or a cloud. [UNIMPLEMENTED]")


async def test_tls_on_one_side_alone_is_named(tmp_path: Path, run: Run) -> None:
    """A forgotten --ca, and one too many, are told apart from nobody."""
    certificates = Certificates.make(tmp_path / "certificates")
    authority = ("--ca", str(certificates.folder / "ca.pem"))
    protected = EdgeServer(SERVED, cloud_address="127.0.0.1:1", security=certificates.server("edge"))
    at = f"localhost:{await protected.start('127.0.0.1:0')}"
    plain = EdgeServer(SERVED, cloud_address="127.0.0.1:1")
    plain_at = f"localhost:{await plain.start('127.0.0.1:0')}"
    try:
        forgotten = await run("generate", "a", "--edge", at)
        health_forgotten = await run("health", "--edge", at)
        needless = await run("status", "--edge", plain_at, *authority)
        right = await run("health", "--edge", at, *authority)
    finally:
        await protected.stop(0)
        await plain.stop(0)

    mistaken = "TLS is spoken there and it was dialled without; expected --ca with its authority"
    assert forgotten == (5, f"thinwire: no edge answers at {at}: {mistaken}. [UNAVAILABLE]")
    assert health_forgotten == (5, f"{at} does not answer: {mistaken}")
    assert needless == (
        5,
        f"thinwire: no edge answers at {plain_at}: no TLS is spoken there and it was dialled by TLS; "
        "expected no --ca, or a daemon with TLS. [UNAVAILABLE]",
    )
    assert right[0] == 0


async def test_an_edge_that_forgot_its_clouds_authority_says_so(tmp_path: Path) -> None:
    """In the answer to a generation."""
    certificates = Certificates.make(tmp_path / "certificates")
    settings = EdgeSettings(connect_timeout_s=1.0)
    async with loopback(
        *models(), VOCABULARY, cloud_security=certificates.server("cloud"), edge_settings=settings
    ) as both:
        with pytest.raises(TransportError, match=r"TLS is spoken there .* expected --cloud-ca with its auth"):
            await generate(both.client, make_request())


async def test_the_edges_own_token_is_not_taken_for_the_callers(tmp_path: Path) -> None:
    """The caller's is good; what the cloud refuses is the edge's."""
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.add("acme")
    callers = Tokens(tmp_path / "callers.json")
    callers_token = callers.add("alice")
    async with loopback(
        *models(),
        VOCABULARY,
        cloud_security=ServerSecurity(access=tokens.access()),
        to_cloud=ClientSecurity(token="tw_wrong"),
        edge_security=ServerSecurity(access=callers.access()),
        to_edge=ClientSecurity(token=callers_token),
    ) as both:
        with pytest.raises(EdgeTokenError) as caught:
            await generate(both.client, make_request())

    refuses = f"the cloud at {both.cloud_address} refuses the edge's own token, not yours: "
    assert caught.value.message.startswith(f"{refuses}the token is nobody's")


async def test_a_full_edge_names_the_option_that_allows_more() -> None:
    """Eight texts at once unless it is told."""
    async with loopback(*models(), VOCABULARY, edge_settings=EdgeSettings(max_generations=1)) as both:
        running = asyncio.create_task(generate(both.client, make_request(max_tokens=200)))
        await until(lambda: len(both.edge.running) == 1)
        with pytest.raises(ResourceExhaustedError, match="thinwire edge --max-generations N allows more"):
            await generate(both.client, make_request())
        await running
