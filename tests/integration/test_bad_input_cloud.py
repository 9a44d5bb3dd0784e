"""Bad input to the cloud in mid-session: the status, values received and expected, the cloud serving on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc
import numpy.typing as npt
import pytest

from fakes import TableModel, scheme_with
from tests.integration.bad_input import CONTEXT, model, open_proto, serves_on
from thinwire.common import wire
from thinwire.common.errors import (
    ConfigError,
    NonFiniteLogitsError,
    PayloadCorruptedError,
    PayloadInvalidError,
    PrefixMismatchError,
    RemoteProtocolError,
    ResourceExhaustedError,
    RoundOrderError,
    SessionNotFoundError,
    ThinwireError,
)
from thinwire.common.session.messages import DraftBlock
from verify_peer import CLOSE, SIZE, TARGET, EdgeText, VerifyPeer, running_cloud, whole_text


def flipped(payload: bytes) -> bytes:
    """One bit of the payload turned over."""
    return bytes([payload[0] ^ 1, *payload[1:]])


def bad_blocks() -> list[tuple[str, DraftBlock, type[ThinwireError], str]]:
    """(case, first round sent, error, part of its sentence)."""
    text = EdgeText()
    good = text.block()
    size = len(good.payload)
    longest = text.block(64)
    return [
        ("truncated", replace(good, payload=good.payload[:-1]), PayloadCorruptedError, "checksum"),
        ("emptied", replace(good, payload=b""), PayloadCorruptedError, "checksum"),
        ("lengthened", replace(good, payload=good.payload + b"\1"), PayloadCorruptedError, "checksum"),
        ("one spare byte", text.sealed(good, payload=good.payload + b"\0"), PayloadInvalidError, "bytes"),
        (
            "far too long",
            text.sealed(good, payload=bytes(1000)),
            PayloadInvalidError,
            "the payload has 1000 bytes; expected at most",
        ),
        ("rank out of range", text.sealed(good, payload=b"\xff" * size), PayloadInvalidError, "expected"),
        (
            "a bit turned over",
            replace(good, payload=flipped(good.payload)),
            PayloadCorruptedError,
            "checksum",
        ),
        (
            "wrong checksum",
            replace(good, checksum=good.checksum ^ 1),
            PayloadCorruptedError,
            f"the checksum is {good.checksum ^ 1:08x}; expected {good.checksum:08x}",
        ),
        (
            "of another draft length",
            replace(good, draft_length=1),
            PayloadCorruptedError,
            "checksum",
        ),
        (
            "65 tokens",
            text.sealed(good, draft_length=65),
            ConfigError,
            "draft_length is 65; expected an integer from 0 to 64",
        ),
        ("no room", longest, ConfigError, "draft_length is 64; expected at most 60"),
        (
            "base length",
            text.sealed(good, base_length=4),
            PrefixMismatchError,
            "base length is 4; expected 3 committed tokens",
        ),
        (
            "prefix hash",
            text.sealed(good, prefix_hash=5),
            PrefixMismatchError,
            f"prefix hash is 00000005; expected {good.prefix_hash:08x}",
        ),
        ("round 0", text.sealed(good, round=0), RoundOrderError, "round 0 came; expected 1"),
        ("round 2", text.sealed(good, round=2), RoundOrderError, "round 2 came; expected 1"),
        ("round 2^32-1", text.sealed(good, round=2**32 - 1), RoundOrderError, "4294967295"),
    ]


@pytest.mark.parametrize(
    ("block", "kind", "sentence"), [pytest.param(*case[1:], id=case[0]) for case in bad_blocks()]
)
async def test_a_bad_round_ends_its_session_and_no_other(
    block: DraftBlock, kind: type[ThinwireError], sentence: str
) -> None:
    """The stream ends with the reason, the session is freed, a session beside it goes on."""
    target, beside = model(), EdgeText(seed=8)
    async with running_cloud(target) as cloud:
        other, _ = await cloud.opened(beside)
        peer, opened = await cloud.opened(EdgeText())
        await peer.say(block)
        error = await peer.refusal()
        again = cloud.stream()
        await again.say(EdgeText().resuming(opened))

        assert type(error) is kind
        assert sentence in error.message
        assert type(await again.refusal()) is SessionNotFoundError
        assert cloud.server.sessions == 1
        await other.say(beside.block())
        beside.take(await other.hear())
        await other.closed()
        await serves_on(cloud)
    assert target.open_sequences == 0


@pytest.mark.parametrize("scheme", ["k-sqs", "c-sqs", "dense-qs"])
async def test_every_scheme_refuses_spare_bytes_and_padding(scheme: str) -> None:
    """A zero byte more, other bits on top, or no rank of a point at all, each with a right checksum."""
    parameters = scheme_with(scheme, lattice_resolution=20, support_size=3)
    async with running_cloud(model()) as cloud:
        for change in (lambda p: p + b"\0", lambda p: p + b"\x80", lambda p: b"\xff" * (len(p) + 1)):
            text = EdgeText(scheme=parameters)
            peer, _ = await cloud.opened(text)
            good = text.block(4)
            await peer.say(text.sealed(good, payload=change(good.payload)))

            assert type(await peer.refusal()) is PayloadInvalidError
        await whole_text(cloud, EdgeText(scheme=parameters), 2)


async def test_a_repeated_round_with_other_bytes_is_refused() -> None:
    """A verdict already given may not be rolled again: FAILED_PRECONDITION, ROUND_ORDER."""
    text = EdgeText()
    async with running_cloud(model()) as cloud:
        peer, _ = await cloud.opened(text)
        await peer.say(text.block())
        await peer.hear()
        await peer.say(text.sealed(text.block(1)))
        error = await peer.refusal()

        assert type(error) is RoundOrderError
        assert error.message == "round 1 came again with other bytes; expected the same."
        await serves_on(cloud)


async def test_a_round_that_is_long_past_is_refused() -> None:
    """Only the last round may come again."""
    text = EdgeText()
    first = text.block()
    async with running_cloud(model()) as cloud:
        peer, _ = await cloud.opened(text)
        for _ in range(2):
            await peer.say(text.block())
            text.take(await peer.hear())
        await peer.say(first)

        error = await peer.refusal()
        assert type(error) is RoundOrderError
        assert "round 1 came; expected 3" in error.message
        await serves_on(cloud)


async def test_a_bad_message_in_mid_session_frees_it() -> None:
    """A second Open, a Close without a reason, an empty message."""
    unsaid_close = wire.EdgeStreamWriter().to_proto(CLOSE)
    unsaid_close.close.reason = 0
    empty = wire.EdgeStreamWriter().to_proto(CLOSE)
    empty.Clear()
    target = model()
    async with running_cloud(target) as cloud:
        for request, sentence in (
            (open_proto(), "Open came twice"),
            (unsaid_close, "close reason is 0; expected one of 1, 2, 3"),
            (empty, "carries no message"),
        ):
            peer, _ = await cloud.opened(EdgeText())
            await peer.say_proto(request)
            error = await peer.refusal()

            assert type(error) is RemoteProtocolError
            assert sentence in error.message
        await serves_on(cloud)
    assert target.open_sequences == 0


async def test_a_message_beyond_the_size_limit_is_refused_by_the_transport() -> None:
    """RESOURCE_EXHAUSTED before a byte of it is read as a message."""
    async with running_cloud(model()) as cloud, grpc.aio.insecure_channel(cloud.address) as unlimited:
        peer = VerifyPeer(wire.VerifierStub(unlimited).Verify(timeout=20))
        await peer.say_proto(open_proto(session_id=b"x" * 2**22))
        error = await peer.refusal()

        assert type(error) is ResourceExhaustedError
        await serves_on(cloud)


async def test_a_megabyte_of_scheme_name_is_refused_with_a_short_sentence() -> None:
    """What a peer sent does not come back whole: a status that large would break its connection."""
    text = EdgeText()
    async with running_cloud(model()) as cloud:
        beside, _ = await cloud.opened(text)
        peer = cloud.stream()
        await peer.say_proto(open_proto(scheme__custom__name="x" * 2**20))
        error = await peer.refusal()

        assert type(error) is ConfigError
        assert len(error.message) < 1000
        await beside.say(text.block())
        text.take(await beside.hear())
        await beside.closed()
        await serves_on(cloud)


@pytest.mark.parametrize("when", ["prompt", "round"])
async def test_logits_that_are_not_numbers_end_only_their_session(when: str) -> None:
    """INTERNAL with reason NON_FINITE_LOGITS, in the prompt's pass as in a round's."""
    length = {"prompt": 2, "round": 3}[when]

    def broken(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        if prefix[0] == 4 and len(prefix) == length:
            raise NonFiniteLogitsError("the logits hold nan; expected finite numbers.")
        return TARGET(prefix)

    target = TableModel(broken, vocabulary_size=SIZE, context_length=CONTEXT)
    async with running_cloud(target) as cloud:
        text = EdgeText((4, 1, 2))
        peer, _ = await cloud.opened(text)
        if when == "round":  # a write that crosses a refusal makes gRPC forget the refusal's status
            await peer.say(text.block())
        error = await peer.refusal()

        assert type(error) is NonFiniteLogitsError
        assert error.reason == "NON_FINITE_LOGITS"
        assert error.status == "INTERNAL"
        await serves_on(cloud)
    assert target.open_sequences == 0


async def test_a_bug_in_the_model_is_an_internal_error_without_its_text() -> None:
    """What the peer may not see stays in the log."""

    def broken(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        if prefix[0] == 4:
            raise KeyError("secret")
        return TARGET(prefix)

    target = TableModel(broken, vocabulary_size=SIZE, context_length=CONTEXT)
    async with running_cloud(target) as cloud:
        text = EdgeText((4,))
        peer, _ = await cloud.opened(text)
        await peer.say(text.block())
        error = await peer.refusal()

        assert error.message == "the cloud failed with KeyError."
        await serves_on(cloud)
