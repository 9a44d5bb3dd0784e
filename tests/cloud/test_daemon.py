"""The cloud daemon over a real ephemeral port: sessions, streams, their ends, and the server's own life."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import grpc
import numpy.typing as npt
import pytest
from fakes import Prefix, TableModel
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from loopback import WatchedModel
from verify_peer import SIZE, TARGET, VOCABULARY, EdgeText, running_cloud, whole_text

from cloud.daemon import CloudServer
from cloud.settings import CloudSettings
from cloud.verifier import PREFILL_CHUNK_TOKENS
from common import wire
from common.config import SchemeParameters
from common.daemon_log import JsonFormatter
from common.errors import (
    EpochSupersededError,
    RoundOrderError,
    SessionNotFoundError,
    TransportError,
)
from common.messages import Opened, Verdict
from common.schemes import scheme_names

GATE_S = 10.0
"""A gate that a test forgot opens by then."""


class Gate:
    """A law that waits, in the model's thread, for every prefix that begins with `token`."""

    def __init__(self, token: int = 0) -> None:
        self._token = token
        self._entered = threading.Event()
        self._open = threading.Event()

    def __call__(self, prefix: Prefix) -> npt.NDArray[Any]:
        """The row, once the gate is open."""
        if prefix[0] == self._token:
            self._entered.set()
            assert self._open.wait(GATE_S), "nobody opened the gate"
        return TARGET(prefix)

    async def entered(self) -> None:
        """Wait until the model's thread stands at the gate."""
        assert await asyncio.to_thread(self._entered.wait, GATE_S), "nobody came to the gate"

    def open(self) -> None:
        """Let it go on, now and later."""
        self._open.set()


def watched(law: Any = TARGET, *, context_length: int = 512) -> WatchedModel:
    """A target that tells when its last sequence is closed."""
    return WatchedModel(law, vocabulary_size=SIZE, context_length=context_length)


async def undisturbed(text: EdgeText, rounds: int, **options: Any) -> tuple[int, ...]:
    """The text as a cloud of its own gives it."""
    async with running_cloud(TableModel(TARGET, context_length=2048)) as cloud:
        return await whole_text(cloud, text, rounds, **options)


# --- one session --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", scheme_names())
async def test_a_session_runs_from_open_to_close(scheme: str) -> None:
    """Rounds of many lengths, γ = 0 among them; Closed counts them, and everything is freed."""
    target = watched()
    text = EdgeText(scheme=SchemeParameters(scheme=scheme, lattice_resolution=20, support_size=3))
    async with running_cloud(target) as cloud:
        peer, opened = await cloud.opened(text)
        for length in (0, 1, 4, 0, 8):
            await peer.say(text.block(length))
            text.take(await peer.hear())
        assert cloud.server.sessions == 1
        await peer.closed()

        assert opened == Opened(opened.session_id, 1, 512, (5,), 3, 1)
        assert cloud.server.sessions == 0
        assert await target.freed_within(1)


async def test_a_prompt_of_one_token_and_one_longer_than_a_chunk_are_fed_whole() -> None:
    """The target sees each prefix exactly as long as it is."""
    lengths: list[int] = []

    def law(prefix: Prefix) -> npt.NDArray[Any]:
        lengths.append(len(prefix))
        return TARGET(prefix)

    long = tuple(n % SIZE for n in range(2 * PREFILL_CHUNK_TOKENS + 10))
    async with running_cloud(watched(law, context_length=2048)) as cloud:
        await whole_text(cloud, EdgeText((3,)), 1, length=0)
        await whole_text(cloud, EdgeText(long), 1, length=0)

    chunk = PREFILL_CHUNK_TOKENS
    assert lengths == [1, chunk, 2 * chunk, len(long) - 1, len(long)]


async def test_a_verdict_carries_the_clouds_own_times() -> None:
    """Time in line and at work are told apart, and together are within the round trip."""
    gate, first, second = Gate(token=1), EdgeText((1, 2)), EdgeText((2, 2))
    async with running_cloud(watched(gate)) as cloud:
        holding, _ = await cloud.opened(first)
        await gate.entered()
        waiting, _ = await cloud.opened(second)
        begun = time.perf_counter()
        await waiting.say(second.block())
        await server_info(cloud.channel)  # the round is there by now
        gate.open()
        verdict = await waiting.hear()
        round_trip_us = (time.perf_counter() - begun) * 1e6
        await holding.closed()

    assert isinstance(verdict, Verdict)
    assert verdict.verify_us > 0
    assert verdict.queue_us > 0
    assert verdict.queue_us + verdict.verify_us <= round_trip_us


async def test_the_event_loop_answers_while_the_model_works() -> None:
    """GetServerInfo, health and a second Open are served while a pass holds the model's thread."""
    gate = Gate()
    async with running_cloud(watched(gate)) as cloud:
        peer, _ = await cloud.opened(EdgeText())
        await gate.entered()
        info = await server_info(cloud.channel)
        other, _ = await cloud.opened(EdgeText((1, 2)))
        serving = await wire.is_serving(cloud.channel, wire.VERIFIER_SERVICE, timeout_s=5)
        gate.open()
        await peer.closed()
        await other.closed()

    assert info.sessions == 1
    assert serving


async def test_many_sessions_at_once_do_not_disturb_each_other() -> None:
    """Eight interleaved texts are those of eight lone ones."""
    texts = [EdgeText((n % SIZE, 1), seed=n) for n in range(8)]
    async with running_cloud(watched()) as cloud:
        together = await asyncio.gather(*(whole_text(cloud, text, 6, length=3) for text in texts))

    alone = [await undisturbed(EdgeText((n % SIZE, 1), seed=n), 6, length=3) for n in range(8)]
    assert together == alone


# --- repeated rounds and resumes ----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", scheme_names())
async def test_a_repeated_round_gets_the_same_bytes(scheme: str) -> None:
    """No new pass, no new draws, not even new times; and the session goes on."""
    text = EdgeText(scheme=SchemeParameters(scheme=scheme, lattice_resolution=20, support_size=3))
    target = watched()
    async with running_cloud(target) as cloud:
        peer, _ = await cloud.opened(text)
        for _ in range(4):
            block = text.block(4)
            await peer.say(block)
            first = await peer.hear_proto()
            passes = target.passes
            for _ in range(3):
                await peer.say(block)
                again = await peer.hear_proto()

                assert again.SerializeToString(deterministic=True) == first.SerializeToString(
                    deterministic=True
                )
            assert target.passes == passes
            text.take(wire.message_from_cloud(first))
        await peer.closed()


@pytest.mark.parametrize("scheme", scheme_names())
async def test_a_torn_session_is_resumed_and_the_text_is_the_same(scheme: str) -> None:
    """Torn after every round; each resume counts one epoch more and says where the session stands."""
    parameters = SchemeParameters(scheme=scheme, lattice_resolution=20, support_size=3)
    text = EdgeText(scheme=parameters)
    async with running_cloud(watched()) as cloud:
        peer, opened = await cloud.opened(text)
        for epoch in range(2, 7):
            await peer.say(text.block(3))
            text.take(await peer.hear())
            peer.tear()
            peer, torn = cloud.stream(), peer
            peer.follow(torn)
            await peer.say(text.resuming(opened))
            resumed = await peer.hear()

            assert resumed == Opened(opened.session_id, epoch, 512, (5,), len(text.committed), text.round)
        await peer.closed()
        assert cloud.server.sessions == 0

    assert text.committed == await undisturbed(EdgeText(scheme=parameters), 5, length=3)


async def test_a_newer_stream_takes_the_session_over() -> None:
    """The former stream ends with ABORTED, EPOCH_SUPERSEDED; the newer one goes on."""
    text = EdgeText()
    async with running_cloud(watched()) as cloud:
        former, opened = await cloud.opened(text)
        await former.say(text.block())
        text.take(await former.hear())
        newer = cloud.stream()
        await newer.say(text.resuming(opened))
        assert isinstance(await newer.hear(), Opened)
        error = await former.refusal()
        await newer.say(text.block())
        text.take(await newer.hear())
        await newer.closed()

        assert type(error) is EpochSupersededError
        assert error.status == "ABORTED"
        assert "epoch 1; the session is held by epoch 2" in error.message

    assert text.committed == await undisturbed(EdgeText(), 2)


async def test_a_round_torn_in_mid_verification_is_decided_once() -> None:
    """The pass goes on without the stream; the resumed one gets its verdict for the same bytes."""
    gate, text = Gate(), EdgeText((0,))
    target = watched(gate)
    async with running_cloud(target) as cloud:
        peer, opened = await cloud.opened(text)
        block = text.block()
        await peer.say(block)
        await gate.entered()
        peer.tear()
        newer = cloud.stream()
        await newer.say(text.resuming(opened))
        resumed = await newer.hear()
        await newer.say(block)
        gate.open()
        verdict = await newer.hear()
        text.take(verdict)
        passes = target.passes
        # The repeat may reach the cloud after the verdict, and is then answered with it once more.
        repeats = await newer.until_closed()

    assert isinstance(resumed, Opened)
    assert resumed.next_round == 1
    assert passes == 1
    assert set(repeats) <= {verdict}
    assert text.committed == await undisturbed(EdgeText((0,)), 1)


async def test_a_round_that_comes_before_the_prompt_is_fed_waits_for_it() -> None:
    """Torn and resumed while the prompt goes in piece by piece: the round sees the whole of it."""
    chunk, lengths = PREFILL_CHUNK_TOKENS, []
    prompt = tuple(n % SIZE for n in range(4 * chunk + 1))
    gate, text = Gate(), EdgeText(prompt)

    def law(prefix: Prefix) -> npt.NDArray[Any]:
        lengths.append(len(prefix))
        return gate(prefix)

    async with running_cloud(watched(law, context_length=2048)) as cloud:
        peer, opened = await cloud.opened(text)
        await gate.entered()
        peer.tear()
        newer = cloud.stream()
        await newer.say(text.resuming(opened))
        assert isinstance(await newer.hear(), Opened)
        await newer.say(text.block(4))
        await server_info(cloud.channel)  # the round is there by now
        gate.open()
        text.take(await newer.hear())
        await newer.closed()

    assert lengths == [chunk, 2 * chunk, 3 * chunk, 4 * chunk, *range(4 * chunk + 1, 4 * chunk + 6)]
    assert text.committed == await undisturbed(EdgeText(prompt), 1, length=4)


# --- the end of a session -----------------------------------------------------------------------------------


async def test_a_torn_session_is_kept_for_a_while_and_then_freed() -> None:
    """After resume_ttl_s the cache is closed and the id unknown."""
    target, text = watched(), EdgeText()
    async with running_cloud(target, CloudSettings(resume_ttl_s=0.2)) as cloud:
        peer, opened = await cloud.opened(text)
        await peer.say(text.block())
        await peer.hear()
        peer.tear()
        kept = cloud.stream()
        await kept.say(text.resuming(opened))
        assert isinstance(await kept.hear(), Opened)
        kept.tear()
        assert await target.freed_within(5)
        late = cloud.stream()
        await late.say(text.resuming(opened))
        error = await late.refusal()

        assert type(error) is SessionNotFoundError
        assert error.status == "NOT_FOUND"
        assert cloud.server.sessions == 0


async def test_a_half_closed_stream_counts_as_torn() -> None:
    """No Close was said, so the session is kept."""
    target, text = watched(), EdgeText()
    async with running_cloud(target) as cloud:
        peer, opened = await cloud.opened(text)
        await peer.half_close()
        await peer.ended()
        newer = cloud.stream()
        await newer.say(text.resuming(opened))

        assert isinstance(await newer.hear(), Opened)
        await newer.closed()


async def test_a_silent_session_is_ended() -> None:
    """idle_ttl_s bounds how long a stream may hold a slot without a word."""
    target = watched()
    async with running_cloud(target, CloudSettings(idle_ttl_s=0.1)) as cloud:
        peer, _ = await cloud.opened(EdgeText())
        error = await peer.refusal()

        assert type(error) is SessionNotFoundError
        assert await target.freed_within(1)
        assert cloud.server.sessions == 0


async def test_a_kept_session_makes_room_for_a_new_one() -> None:
    """Under pressure the abandoned session goes first."""
    target = watched()
    async with running_cloud(target, CloudSettings(max_sessions=1)) as cloud:
        text = EdgeText()
        peer, opened = await cloud.opened(text)
        await peer.half_close()
        await peer.ended()
        other, _ = await cloud.opened(EdgeText((1, 2)))
        late = cloud.stream()
        await late.say(text.resuming(opened))

        assert type(await late.refusal()) is SessionNotFoundError
        await other.closed()
        assert await target.freed_within(1)


@pytest.mark.parametrize("prompt", [(0,), (0, 1, 2)], ids=["a round", "the prompt"])
async def test_close_is_answered_while_the_model_works(prompt: tuple[int, ...]) -> None:
    """Closed does not wait for the pass, and the cache is freed within a second of its end."""
    gate, text = Gate(), EdgeText(prompt)
    target = watched(gate)
    async with running_cloud(target) as cloud:
        peer, _ = await cloud.opened(text)
        await peer.say(text.block())
        await gate.entered()
        await peer.closed()
        assert cloud.server.sessions == 0
        gate.open()

        assert await target.freed_within(1)
    assert target.open_sequences == 0


async def test_a_prompt_is_not_fed_on_when_its_session_has_ended() -> None:
    """The pieces still in line are given up, and no new cache is opened for them."""
    prompt = tuple(n % SIZE for n in range(4 * PREFILL_CHUNK_TOKENS))
    gate = Gate()
    target = watched(gate, context_length=2048)
    async with running_cloud(target) as cloud:
        peer, _ = await cloud.opened(EdgeText(prompt))
        await gate.entered()
        await peer.closed()
        gate.open()
        await whole_text(cloud, EdgeText((1, 2)), 1)

        assert target.passes == 3  # the prompt's first piece; the other session's prompt and round
    assert target.open_sequences == 0


async def test_a_session_that_ended_is_refused_on_its_old_stream_too() -> None:
    """A round behind the one that broke the session gets nothing."""
    text = EdgeText()
    async with running_cloud(watched()) as cloud:
        peer, _ = await cloud.opened(text)
        await peer.say(text.sealed(text.block(), round=9))
        await peer.say(text.block())

        assert type(await peer.refusal()) is RoundOrderError
        assert cloud.server.sessions == 0


async def test_the_end_of_a_session_is_one_line_without_text(caplog: pytest.LogCaptureFixture) -> None:
    """Id prefix, reason, rounds, tokens, bytes and seconds; never what was said."""
    caplog.set_level("INFO", logger="cloud.account")
    async with running_cloud(watched()) as cloud:
        text = EdgeText()
        peer, opened = await cloud.opened(text)
        await peer.say(text.block())
        text.take(await peer.hear())
        await peer.closed()
        bad, broken = await cloud.opened(EdgeText())
        await bad.say(text.sealed(text.block(), round=9))
        await bad.refusal()
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]

    assert [line["event"] for line in lines] == ["session ended"] * 2
    assert [line["session"] for line in lines] == [
        opened.session_id.hex()[:8],
        broken.session_id.hex()[:8],
    ]
    shown = ("reason", "rounds", "prompt_tokens", "tokens")
    assert [[line[name] for name in shown] for line in lines] == [
        ["CLOSED", 1, 3, len(text.committed) - 3],
        ["ROUND_ORDER", 0, 3, 0],
    ]
    assert all(line["bytes_up"] > 0 < line["bytes_down"] for line in lines)
    assert set(lines[0]) == {
        *("time", "level", "event", "session", "tenant", "scheme", *shown, "drafted_tokens"),
        *("accepted_tokens", "bytes_up", "bytes_down", "total_s", "queue_s", "verify_s"),
    }


# --- the server's own life ----------------------------------------------------------------------------------


async def server_info(channel: grpc.aio.Channel) -> Any:
    """GetServerInfo, read."""
    answer = await wire.VerifierStub(channel).GetServerInfo(wire.server_info_request(), timeout=5)
    return wire.server_info_from_proto(answer)


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    """The status `grpc.health.v1` reports."""
    stub = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status)


async def test_a_cloud_is_not_serving_until_its_model_is_loaded() -> None:
    """The port is bound, health answers NOT_SERVING and Verify UNAVAILABLE; then both change."""
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    async with running_cloud(None) as cloud:
        before = [await health_of(cloud.channel, name) for name in ("", wire.VERIFIER_SERVICE)]
        early = cloud.stream()
        await early.say(EdgeText().open)
        error = await early.refusal()
        info = await server_info(cloud.channel)
        await cloud.server.model_loaded(
            watched(), vocabulary=VOCABULARY.identity, eos_token_ids=(5,), model_name="table"
        )
        after = [await health_of(cloud.channel, name) for name in ("", wire.VERIFIER_SERVICE)]
        await whole_text(cloud, EdgeText(), 1)

    assert before == [not_serving] * 2
    assert after == [serving] * 2
    assert type(error) is TransportError
    assert "still loading its model" in error.message
    assert info.context_length == 0


async def test_server_info_says_what_is_served() -> None:
    """Model, vocabulary, schemes and limits."""
    settings = CloudSettings(max_sessions=7, resume_ttl_s=12.0, allow_dense_f16=True)
    async with running_cloud(watched(), settings) as cloud:
        await cloud.opened(EdgeText())
        info = await server_info(cloud.channel)

    assert info.vocabulary == VOCABULARY.identity
    assert info.schemes == scheme_names()
    assert (info.context_length, info.eos_token_ids) == (512, (5,))
    assert (info.sessions, info.max_sessions, info.resume_ttl_s) == (1, 7, 12)


async def test_reflection_lists_the_service() -> None:
    """A generic client finds `thinwire.v1.Verifier` and the health service."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with running_cloud(watched()) as cloud:
        stub = reflection_pb2_grpc.ServerReflectionStub(cloud.channel)
        call = stub.ServerReflectionInfo(timeout=5)
        await call.write(request)
        answer = await call.read()
        await call.done_writing()

    names = {service.name for service in answer.list_services_response.service}
    assert names >= {wire.VERIFIER_SERVICE, "grpc.health.v1.Health"}


async def test_a_port_in_use_is_a_transport_error() -> None:
    """The second daemon on one port says which; the first serves on."""
    async with running_cloud(watched()) as cloud:
        second = CloudServer(watched(), vocabulary=VOCABULARY.identity)
        with pytest.raises(TransportError, match=f"cannot listen on {cloud.address}; expected a free port"):
            await second.start(cloud.address)
        await whole_text(cloud, EdgeText(), 1)


async def test_a_draining_cloud_finishes_its_rounds_and_takes_no_new_session() -> None:
    """NOT_SERVING at once, UNAVAILABLE for an Open, the round in flight is answered."""
    gate, text = Gate(), EdgeText((0,))
    target = watched(gate)
    async with running_cloud(target) as cloud:
        peer, _ = await cloud.opened(text)
        await peer.say(text.block())
        await gate.entered()
        early = cloud.stream()
        await server_info(cloud.channel)  # the stream is there by now
        watch = health_pb2_grpc.HealthStub(cloud.channel).Watch(health_pb2.HealthCheckRequest())
        statuses = [(await watch.read()).status]
        stopping = asyncio.ensure_future(cloud.server.stop(GATE_S))
        statuses.append((await watch.read()).status)
        watch.cancel()
        errors = []
        for late in (early, cloud.stream()):
            await late.say(EdgeText().open)
            errors.append(type(await late.refusal()))
        gate.open()
        text.take(await peer.hear())
        await peer.closed()
        await stopping

    assert statuses == [
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    ]
    assert errors == [TransportError, TransportError]
    assert target.open_sequences == 0


async def test_a_cloud_that_stops_frees_every_session() -> None:
    """Idle, detached and at work alike, once the grace is over."""
    target = watched()
    async with running_cloud(target) as cloud:
        await cloud.opened(EdgeText())
        torn, _ = await cloud.opened(EdgeText((1, 2)))
        await torn.half_close()
        await torn.ended()
        text = EdgeText((2, 2))
        busy, _ = await cloud.opened(text)
        await busy.say(text.block())
        await cloud.server.stop(0)

        assert cloud.server.sessions == 0
    assert target.open_sequences == 0
