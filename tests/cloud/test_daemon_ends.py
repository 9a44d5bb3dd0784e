"""The cloud daemon over a real ephemeral port: the ends of a session."""

from __future__ import annotations

import json

import pytest

from tests.cloud.gated_cloud import Gate, watched
from thinwire.cloud.batch_queue import PREFILL_CHUNK_TOKENS
from thinwire.cloud.settings import CloudSettings
from thinwire.common.errors import RoundOrderError, SessionNotFoundError
from thinwire.common.observe.log import JsonFormatter
from thinwire.common.session.messages import Opened
from verify_peer import SIZE, EdgeText, running_cloud, whole_text


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
    caplog.set_level("INFO", logger="thinwire.cloud.account")
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
