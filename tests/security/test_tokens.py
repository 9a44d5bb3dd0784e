"""Who may call: tokens on both daemons, tenants that do not see each other, and revoking in mid-text."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fakes import TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request
from security.credentials import Certificates, Tokens
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.door.tenants import Access
from thinwire.common.errors import SessionNotFoundError, ThinwireError, UnauthenticatedError
from thinwire.edge.client import AsyncClient, connect
from verify_peer import TARGET, EdgeText, RunningCloud, VerifyPeer, running_cloud

SIZE = 8
VOCABULARY = TableVocabulary(SIZE)


async def generate_and_revoke(client: AsyncClient, tokens: Tokens, access: Access, seen: list[int]) -> None:
    """A long text; its tokens go to `seen`, and after a few of them every token of the file is revoked."""
    async for event in client.events(make_request(max_tokens=4000)):
        if isinstance(event, tuple):
            seen.extend(token.token_id for token in event)
        if len(seen) >= 8:
            tokens.path.write_text('{"tenants": []}')
            await asyncio.to_thread(access.reload)


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """An empty file to be."""
    return Tokens(tmp_path / "tokens.json")


def models(context_length: int = 64) -> tuple[WatchedModel, WatchedModel]:
    """(target, draft)."""
    return (
        WatchedModel(random_law(SIZE, 1), context_length=context_length),
        WatchedModel(random_law(SIZE, 2), context_length=context_length),
    )


async def server_info(cloud: RunningCloud, *metadata: tuple[str, str]) -> grpc.StatusCode:
    """The status of GetServerInfo with this metadata."""
    call = wire.VerifierStub(cloud.channel).GetServerInfo(
        wire.server_info_request(), timeout=10, metadata=metadata
    )
    return await call.code()


async def reflection_status(cloud: RunningCloud, *metadata: tuple[str, str]) -> grpc.StatusCode:
    """The status of a question to reflection."""
    stub = reflection_pb2_grpc.ServerReflectionStub(cloud.channel)

    async def requests() -> AsyncIterator[Any]:
        await asyncio.sleep(1.0)  # gRPC forgets the status of a refusal that crosses a write
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    call = stub.ServerReflectionInfo(requests(), timeout=10, metadata=metadata)
    with suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    return await call.code()


async def test_without_a_token_only_health_answers(tokens: Tokens) -> None:
    """Verify, GetServerInfo and reflection are UNAUTHENTICATED, whatever stands where the token should."""
    token = tokens.add("acme")
    target = WatchedModel(TARGET)
    async with running_cloud(target, security=ServerSecurity(access=tokens.access())) as cloud:
        for metadata in (
            (),
            (("authorization", token),),
            (("authorization", "Bearer "),),
            (("authorization", "Bearer tw_wrong"),),
            (("authorization", f"Bearer {token}x"),),
            (("authorization", f"bearer {token}"),),
            (("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")),
        ):
            assert await server_info(cloud, *metadata) is grpc.StatusCode.UNAUTHENTICATED, metadata
            assert await reflection_status(cloud, *metadata) is grpc.StatusCode.UNAUTHENTICATED, metadata
        for wrong in (None, "tw_wrong"):
            peer = cloud.stream(wrong)
            await peer.say(EdgeText().open)
            assert type(await peer.refusal()) is UnauthenticatedError
        assert await wire.is_serving(cloud.channel, wire.VERIFIER_SERVICE, timeout_s=5)
        assert cloud.server.sessions == target.open_sequences == 0

        good = ("authorization", f"Bearer {token}")
        assert await server_info(cloud, good) is grpc.StatusCode.OK
        assert await reflection_status(cloud, good) is grpc.StatusCode.OK


async def test_a_daemon_without_a_token_file_asks_nobody(tokens: Tokens) -> None:
    """On loopback; a token that is sent all the same is not looked at."""
    async with running_cloud(WatchedModel(TARGET)) as cloud:
        assert await server_info(cloud) is grpc.StatusCode.OK
        assert await server_info(cloud, ("authorization", "Bearer tw_any")) is grpc.StatusCode.OK
        assert await reflection_status(cloud) is grpc.StatusCode.OK


async def test_reflection_does_not_answer_strangers_off_loopback() -> None:
    """--insecure-plaintext opens the service, not the description of it."""
    guard_free = ServerSecurity(insecure_plaintext=True)
    server = wire.GuardedServer("0.0.0.0:0", guard_free)
    wire.HealthReporter(server, wire.VERIFIER_SERVICE)
    port = server.bind()
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            cloud = RunningCloud(None, channel, "")  # type: ignore[arg-type]

            assert await reflection_status(cloud) is grpc.StatusCode.UNAUTHENTICATED
    finally:
        await server.stop(0)


async def test_both_daemons_ask_for_a_token_of_their_own(tokens: Tokens, tmp_path: Path) -> None:
    """The client's token opens the edge, the edge's the cloud; neither opens the other."""
    for_cloud = tokens.add("edge-1")
    edge_tokens = Tokens(tmp_path / "edge.json")
    for_edge = edge_tokens.add("alice")
    certificates = Certificates.make(tmp_path / "certificates")
    async with loopback(
        *models(),
        VOCABULARY,
        cloud_security=certificates.server("cloud", access=tokens.access()),
        edge_security=certificates.server("edge", access=edge_tokens.access()),
        to_cloud=certificates.client(for_cloud),
        to_edge=certificates.client(for_edge),
    ) as both:
        assert (await generate(both.client, make_request(max_tokens=8))).tokens
        for wrong in (None, for_cloud):
            async with connect(both.edge_address, security=certificates.client(wrong)) as stranger:
                with pytest.raises(UnauthenticatedError):
                    await generate(stranger, make_request())
                with pytest.raises(UnauthenticatedError):
                    await stranger.status(timeout_s=5)


async def test_an_edge_with_a_wrong_token_fails_its_generations_and_says_why(tokens: Tokens) -> None:
    """At once, without a retry; `status` shows the cloud's own reason."""
    tokens.add("acme")
    async with loopback(
        *models(),
        VOCABULARY,
        cloud_security=ServerSecurity(access=tokens.access()),
        to_cloud=ClientSecurity(token="tw_wrong"),
    ) as both:
        with pytest.raises(UnauthenticatedError, match="the token is nobody's"):
            await generate(both.client, make_request())
        status = await both.client.status(timeout_s=5)

    assert status.cloud_info is None
    assert status.cloud_failure.startswith("UNAUTHENTICATED: the token is nobody's")


async def test_another_tenants_session_and_no_session_are_the_same_thing(tokens: Tokens) -> None:
    """Status, details and sentence agree to the byte, but for the id that was asked for."""
    owner, stranger = tokens.add("acme"), tokens.add("rival")
    text = EdgeText()
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        peer, opened = await cloud.opened(text, owner)
        resume = text.resuming(opened)
        foreign, foreign_trailers = await refused(cloud.stream(stranger), resume)
        await peer.closed()
        await asyncio.wait_for(freed(cloud), 10)
        unknown, unknown_trailers = await refused(cloud.stream(stranger), resume)

    assert type(foreign) is type(unknown) is SessionNotFoundError
    assert foreign.message == unknown.message
    assert foreign_trailers == unknown_trailers


async def refused(peer: VerifyPeer, open_: object) -> tuple[ThinwireError, bytes]:
    """How a stream that says Open ends."""
    await peer.say(open_)  # type: ignore[arg-type]
    error = await peer.refusal()
    return error, await peer.trailers()


async def freed(cloud: RunningCloud) -> None:
    """Until the cloud holds no session."""
    while cloud.server.sessions:
        await asyncio.sleep(0)


async def test_a_tenants_second_token_resumes_what_the_first_has_opened(tokens: Tokens) -> None:
    """A session belongs to the tenant, so tokens can be replaced under it."""
    first, second = tokens.add("acme"), tokens.add("acme")
    text = EdgeText()
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        peer, opened = await cloud.opened(text, first)
        peer.tear()
        again = cloud.stream(second)
        await again.say(text.resuming(opened))
        resumed = await again.hear()
        await again.closed()

    assert getattr(resumed, "session_id", None) == opened.session_id


async def test_a_revoked_token_ends_its_sessions_at_the_next_round_and_no_others(tokens: Tokens) -> None:
    """UNAUTHENTICATED in answer to the round; the session is freed, and a neighbour's goes on."""
    gone, stays = tokens.add("acme"), tokens.add("rival")
    access = tokens.access()
    one, other = EdgeText(seed=1), EdgeText(seed=2)
    target = WatchedModel(TARGET)
    async with running_cloud(target, security=ServerSecurity(access=access)) as cloud:
        revoked, opened = await cloud.opened(one, gone)
        kept, _ = await cloud.opened(other, stays)
        await revoked.say(one.block())
        one.take(await revoked.hear())
        tokens.path.write_text(tokens.path.read_text().replace(sole_digest(access, gone), "0" * 64))
        await asyncio.to_thread(access.reload)
        await revoked.say(one.block())
        error = await revoked.refusal()
        await kept.say(other.block())
        other.take(await kept.hear())
        again = cloud.stream(gone)
        await again.say(one.resuming(opened))

        assert type(error) is UnauthenticatedError
        assert "the token was revoked" in error.message
        assert type(await again.refusal()) is UnauthenticatedError
        assert cloud.server.sessions == 1
        await kept.closed()
    assert target.open_sequences == 0


def sole_digest(access: Access, token: str) -> str:
    """The stored hash of a token."""
    return access.authenticate(token).token_sha256


async def test_a_token_revoked_in_mid_text_fails_the_generation(tokens: Tokens) -> None:
    """What was committed before has reached the client; then UNAUTHENTICATED, without a retry."""
    token = tokens.add("acme")
    access = tokens.access()
    async with loopback(
        *models(4096),
        VOCABULARY,
        cloud_security=ServerSecurity(access=access),
        to_cloud=ClientSecurity(token=token),
    ) as both:
        seen: list[int] = []
        with pytest.raises(UnauthenticatedError, match="the token was revoked"):
            await generate_and_revoke(both.client, tokens, access, seen)

        assert 8 <= len(seen) < 4000
        assert both.cloud.sessions == 0


async def test_a_clients_token_revoked_in_mid_text_ends_it_at_the_edge(tokens: Tokens) -> None:
    """With the tokens that come next; the cloud's session is closed with it."""
    token = tokens.add("alice")
    access = tokens.access()
    target, draft = models(4096)
    async with loopback(
        target,
        draft,
        VOCABULARY,
        edge_security=ServerSecurity(access=access),
        to_edge=ClientSecurity(token=token),
    ) as both:
        seen: list[int] = []
        with pytest.raises(UnauthenticatedError, match="the token was revoked"):
            await generate_and_revoke(both.client, tokens, access, seen)

        assert 8 <= len(seen) < 4000
        assert await target.freed_within(5)
        assert await draft.freed_within(5)


async def test_a_bad_new_file_leaves_the_old_tokens_in_force(tokens: Tokens) -> None:
    """A slip of the editor locks nobody out."""
    token = tokens.add("acme")
    access = tokens.access()
    for content in ("", "[]", '{"tenants": [{"tenant": "acme"}]}', '{"tenants": [{"tenant": 1}]}'):
        tokens.path.write_text(content)
        with pytest.raises(ThinwireError):
            await asyncio.to_thread(access.reload)

        assert access.authenticate(token).tenant == "acme"


async def test_a_token_is_never_logged(
    tokens: Tokens, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a good one nor a wrong one, at any level, on either side, nor their hashes."""
    caplog.set_level(logging.DEBUG)
    good, wrong = tokens.add("acme"), "tw_" + "w" * 43
    access = tokens.access()
    for token in (good, wrong):
        async with loopback(
            *models(),
            VOCABULARY,
            cloud_security=ServerSecurity(access=access),
            to_cloud=ClientSecurity(token=token),
        ) as both:
            with suppress(UnauthenticatedError):
                await generate(both.client, make_request(max_tokens=8))
    said = "".join(capfd.readouterr()) + "\n".join(record.getMessage() for record in caplog.records)

    assert caplog.records, "nothing was logged at all"
    for secret in (good, wrong, sole_digest(access, good)):
        assert secret not in said
