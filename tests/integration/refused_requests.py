"""Every kind of refusal of the cloud, each as what a peer does to get it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from tests.integration.bad_input import open_proto
from thinwire.common.session.messages import Opened
from verify_peer import CLOSE, EdgeText, RunningCloud, VerifyPeer

WRONG_TOKEN = "tw_" + "x" * 43
Refused = Callable[[RunningCloud, str, int], Awaitable[str]]
"""(cloud, token, prompt tokens) → the refusal's reason."""


def _opening(**fields: object) -> Refused:
    """A first message with fields set past the edge's checks; the prompt as long as asked for."""

    async def refused(cloud: RunningCloud, token: str, prompt_tokens: int) -> str:
        peer = cloud.stream(token)
        await peer.say_proto(open_proto(**{"prompt_token_ids": [1] * prompt_tokens, **fields}))
        return (await peer.refusal()).reason

    return refused


async def _id_out_of_range(cloud: RunningCloud, token: str, prompt_tokens: int) -> str:
    return await _opening(prompt_token_ids=[1] * (prompt_tokens - 1) + [99])(cloud, token, prompt_tokens)


async def _too_long(cloud: RunningCloud, token: str, prompt_tokens: int) -> str:
    length = 1 + max(prompt_tokens, cloud.server.served.model.context_length)  # type: ignore[union-attr]
    return await _opening(prompt_token_ids=[1] * length)(cloud, token, prompt_tokens)


async def _wrong_token(cloud: RunningCloud, token: str, prompt_tokens: int) -> str:
    return await _opening()(cloud, WRONG_TOKEN, prompt_tokens)


async def _not_open(cloud: RunningCloud, token: str, prompt_tokens: int) -> str:
    peer = cloud.stream(token)
    await peer.say(EdgeText().block())
    return (await peer.refusal()).reason


async def _close_first(cloud: RunningCloud, token: str, prompt_tokens: int) -> str:
    peer = cloud.stream(token)
    await peer.say(CLOSE)
    return (await peer.refusal()).reason


async def _open_twice(cloud: RunningCloud, token: str, prompt_tokens: int) -> str:
    peer, _ = await cloud.opened(EdgeText(), token)
    await peer.say_proto(open_proto(prompt_token_ids=[1] * prompt_tokens))
    return (await peer.refusal()).reason


def _block(*, is_sealed: bool = True, spare: bytes = b"", **changes: int) -> Refused:
    """A first round with fields changed, under its right checksum if `is_sealed`."""

    async def refused(cloud: RunningCloud, token: str, prompt_tokens: int) -> str:
        text = EdgeText()
        peer, _ = await cloud.opened(text, token)
        block = text.block()
        changed = replace(block, payload=block.payload + spare, **changes)  # type: ignore[arg-type]
        await peer.say(text.sealed(changed) if is_sealed else changed)
        return (await peer.refusal()).reason

    return refused


async def _superseded(cloud: RunningCloud, token: str, prompt_tokens: int) -> str:
    text = EdgeText()
    first, opened = await cloud.opened(text, token)
    second = cloud.stream(token)
    await second.say(text.resuming(opened))
    assert isinstance(await second.hear(), Opened)
    refusal = await first.refusal()
    await second.closed()
    return refusal.reason


async def _no_slot(cloud: RunningCloud, token: str, prompt_tokens: int) -> str:
    held: list[VerifyPeer] = []
    try:
        while True:
            peer = cloud.stream(token)
            await peer.say_proto(open_proto(prompt_token_ids=[1] * (prompt_tokens if held else 2)))
            try:
                assert isinstance(await peer.hear(), Opened)
            except Exception:
                return (await peer.refusal()).reason
            held.append(peer)
    finally:
        for peer in held:
            await peer.closed()


OF_OPENS: dict[str, tuple[str, Refused]] = {
    "another version": ("PROTOCOL_VERSION", _opening(protocol_version=99)),
    "another vocabulary": ("VOCABULARY_MISMATCH", _opening(vocabulary__size=9)),
    "unknown scheme": ("PARAMETER_OUT_OF_RANGE", _opening(scheme__custom__name="nonesuch")),
    "a parameter out of range": ("PARAMETER_OUT_OF_RANGE", _opening(sampling__temperature=11.0)),
    "no such session": ("SESSION_NOT_FOUND", _opening(session_id=b"x" * 16)),
    "id out of range": ("PARAMETER_OUT_OF_RANGE", _id_out_of_range),
    "prompt too long": ("PARAMETER_OUT_OF_RANGE", _too_long),
    "wrong token": ("UNAUTHENTICATED", _wrong_token),
    "no slot": ("RESOURCE_EXHAUSTED", _no_slot),
    "Open twice": ("REMOTE_PROTOCOL", _open_twice),
}
"""By name: (reason, what a peer does); all with a prompt as long as asked for."""
OF_ROUNDS: dict[str, tuple[str, Refused]] = {
    "a block first": ("REMOTE_PROTOCOL", _not_open),
    "Close first": ("REMOTE_PROTOCOL", _close_first),
    "spare bytes": ("PAYLOAD_INVALID", _block(spare=b"\0")),
    "another checksum": ("PAYLOAD_CORRUPTED", _block(is_sealed=False, checksum=1)),
    "another base": ("PREFIX_MISMATCH", _block(base_length=9)),
    "another prefix": ("PREFIX_MISMATCH", _block(prefix_hash=9)),
    "another round": ("ROUND_ORDER", _block(round=3)),
    "too many tokens": ("PARAMETER_OUT_OF_RANGE", _block(draft_length=65)),
    "superseded": ("EPOCH_SUPERSEDED", _superseded),
}
