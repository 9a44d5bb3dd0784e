"""The Open that every stream begins with: awaited, read, and held against the cloud's own vocabulary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from thinwire.common import wire
from thinwire.common.errors import ConfigError, DeadlineError, RemoteProtocolError, VocabularyMismatchError
from thinwire.common.session.messages import TOKENIZER_PARTS, Open, VocabularyIdentity


async def first_message(
    requests: AsyncIterator[Any], timeout_s: float, *, context_length: int | None
) -> tuple[Open, int]:
    """
    Read a stream's Open.

    Args:
        requests: the stream's, none of them read yet.
        timeout_s: seconds it may take to come.
        context_length: of the target; None while it is still loading.

    Returns:
        the message, and its serialised size in bytes.

    Raises:
        DeadlineError: it did not come.
        RemoteProtocolError: the stream ended, or began with something else.
        ConfigError: a parameter out of its range, or a prompt that fills the context.
    """
    try:
        async with asyncio.timeout(timeout_s):
            request = await anext(requests)
    except TimeoutError:
        raise DeadlineError(f"no message came within {timeout_s:g} s; expected Open.") from None
    except StopAsyncIteration:
        raise RemoteProtocolError("the stream ended before its first message; expected Open.") from None
    message = wire.CloudStreamReader(context_length).from_proto(request)
    if not isinstance(message, Open):
        raise RemoteProtocolError(f"the first message is {type(message).__name__}; expected Open.")
    return message, request.ByteSize()


async def forget_message(requests: AsyncIterator[Any]) -> None:
    """
    Let go of the message read last from a stream that is refused.

    gRPC's iterator keeps it, and gRPC keeps the iterator for a while after the call.
    """
    with suppress(AttributeError, RuntimeError):  # another kind of iterator; one that is being read
        await aiter(requests).aclose()  # type: ignore[attr-defined]


def check_vocabulary(received: VocabularyIdentity, expected: VocabularyIdentity) -> None:
    """
    Fail closed on an edge with another tokenizer.

    Raises:
        VocabularyMismatchError: the parts that differ are named where both ends told them.
    """
    if received == expected:
        return
    parts = received.differing_parts(expected)
    if not parts or TOKENIZER_PARTS[0] in parts:
        raise VocabularyMismatchError(
            f"the edge's vocabulary has {received.size} ids (SHA-256 {received.sha256.hex()[:16]}...); "
            f"expected {expected.size} ids (SHA-256 {expected.sha256.hex()[:16]}...): draft and target model "
            "must share one tokenizer."
        )
    names = ", ".join(parts)
    raise VocabularyMismatchError(
        f"the edge's tokenizer differs from the target's in its {names}: received the digest "
        f"{_digests(received, parts)}; expected {_digests(expected, parts)}, for a text must mean the same "
        "tokens at both ends: give the edge the target's tokenizer (thinwire edge --tokenizer)."
    )


def check_rows(prompt_token_ids: Sequence[int], rows: int) -> None:
    """
    Refuse a prompt that the target cannot be fed.

    Args:
        rows: ids below it have one in the target model, 0 where that is not known.

    Raises:
        ConfigError: the first id without a row is named.
    """
    for token_id in prompt_token_ids if rows else ():
        if token_id >= rows:
            raise ConfigError(
                f"the prompt holds token id {token_id}, which the tokenizer defines and the target model has "
                f"no row for; expected ids below {rows}."
            )


def _digests(identity: VocabularyIdentity, parts: tuple[str, ...]) -> str:
    return ", ".join(f"{identity.part_digests[TOKENIZER_PARTS.index(part)]:08x}" for part in parts)
