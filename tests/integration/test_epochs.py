"""Who holds a session when several streams claim it: the last one, and only by name of its epoch."""

from __future__ import annotations

from fakes import TableModel
from thinwire.common.errors import EpochSupersededError
from thinwire.common.session.messages import Opened, Verdict
from verify_peer import TARGET, EdgeText, running_cloud


async def test_of_two_edges_that_claim_one_session_the_later_holds_it() -> None:
    """The former's stream ends with EPOCH_SUPERSEDED; the text goes on as if there had been one edge."""
    alone, text = EdgeText(), EdgeText()
    async with running_cloud(TableModel(TARGET, context_length=64)) as cloud:
        peer, _ = await cloud.opened(alone)
        for _ in range(3):
            await peer.say(alone.block())
            alone.take(await peer.hear())

        first, opened = await cloud.opened(text)
        await first.say(text.block())
        text.take(await first.hear())
        second = cloud.stream()
        second.follow(first)
        await second.say(text.resuming(opened))
        resumed = await second.hear()
        refused = await first.refusal()
        for _ in range(2):
            await second.say(text.block())
            text.take(await second.hear())

    assert isinstance(resumed, Opened)
    assert (resumed.epoch, resumed.next_round) == (opened.epoch + 1, 2)
    assert isinstance(refused, EpochSupersededError)
    assert text.committed == alone.committed


async def test_a_round_repeated_on_a_new_stream_gets_the_verdict_it_had() -> None:
    """A verdict of a former epoch that was lost on its way comes again, byte for byte."""
    text = EdgeText()
    async with running_cloud(TableModel(TARGET, context_length=64)) as cloud:
        first, opened = await cloud.opened(text)
        block = text.block()
        await first.say(block)
        lost = await first.hear()
        second = cloud.stream()
        second.follow(first)
        await second.say(text.resuming(opened))
        resumed = await second.hear()
        await second.say(block)
        again = await second.hear()

    assert isinstance(resumed, Opened)
    assert resumed.next_round == 2
    assert isinstance(lost, Verdict)
    assert again == lost
