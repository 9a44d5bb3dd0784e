"""
The Open that every stream begins with: awaited, read, held against what this cloud serves, and the session
that comes of it; and the live sessions of one cloud.

A session belongs to the tenant that opened it.
Another tenant's session and one that never was are the same thing to whoever asks.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from thinwire.cloud.account import CloudMetrics, SessionAccount
from thinwire.cloud.admission import Admission
from thinwire.cloud.batcher import Batcher
from thinwire.cloud.conversation import Conversation
from thinwire.cloud.free_running import FreeRunningSession
from thinwire.cloud.live_session import LiveSession
from thinwire.cloud.session import CloudSession
from thinwire.cloud.settings import CloudSettings
from thinwire.cloud.stop_finder import StopFinder
from thinwire.cloud.verifier import Verifier
from thinwire.common import wire
from thinwire.common.causal_model import ServedModel
from thinwire.common.door.tenants import DEFAULT_TENANT
from thinwire.common.errors import (
    ConfigError,
    DeadlineError,
    QuotaExceededError,
    RemoteProtocolError,
    ResourceExhaustedError,
    SessionNotFoundError,
    VocabularyMismatchError,
)
from thinwire.common.observe.tracing import NO_TRACE, Trace
from thinwire.common.schemes import make_scheme
from thinwire.common.session.messages import TOKENIZER_PARTS, Open, VocabularyIdentity
from thinwire.common.session.states import State

SESSION_ID_BYTES = 16
"""Random, so that nobody guesses another's."""


async def first_message(
    requests: AsyncIterator[Any], timeout_s: float, *, context_length: int | None
) -> tuple[Open, int]:
    """
    Read a stream's Open; returns it and its serialised size in bytes.

    Of the target's context length nothing is known (None) while it is still loading.

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


class SessionRegistry:
    """Live sessions by id, `max_sessions` at most, those kept for a resume included."""

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._sessions: dict[bytes, LiveSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._sessions.values()))

    def find(self, session_id: bytes, *, tenant: str = DEFAULT_TENANT) -> LiveSession:
        """The tenant's session to resume; SessionNotFoundError if it has none of this id."""
        live = self._sessions.get(session_id)
        if live is None or live.tenant != tenant:
            raise SessionNotFoundError(
                f"session {session_id.hex()[:8]}... is not here; expected one open or torn recently."
            )
        return live

    def add(self, live: LiveSession, *, tenant_limit: int | None = None) -> None:
        """
        Register a new session; one without a stream may have to end for it.

        Raises:
            QuotaExceededError: the tenant holds as many with a stream as its limit, if there is one, allows.
            ResourceExhaustedError: every slot is held by a session with a stream.
        """
        held = list(self)  # a session that is over is no longer among them: it is released at once
        own = [other for other in held if other.tenant == live.tenant]
        if tenant_limit is not None and len(own) >= tenant_limit:
            if not _evicted(own):
                raise QuotaExceededError(
                    f"{len(own)} sessions of tenant {live.tenant} are open; expected fewer than "
                    f"{tenant_limit}."
                )
        elif len(held) >= self._max_sessions and not (_evicted(own) or _evicted(held)):
            raise ResourceExhaustedError(
                f"{len(held)} sessions are open; expected fewer than {self._max_sessions}."
            )
        self._sessions[live.session.session_id] = live

    def evict_one(self) -> None:
        """End the oldest session without a stream, if there is one, to free its memory."""
        _evicted(list(self))

    def remove(self, session_id: bytes) -> None:
        self._sessions.pop(session_id, None)


def _evicted(sessions: list[LiveSession]) -> bool:
    """Whether there was one without a stream; the oldest of them is ended."""
    abandoned = next((live for live in sessions if live.session.state is State.DETACHED), None)
    if abandoned is not None:
        abandoned.expire()
    return abandoned is not None


@dataclass(slots=True)
class SessionFactory:
    """Opens the sessions of one target."""

    served: ServedModel
    settings: CloudSettings
    batcher: Batcher
    registry: SessionRegistry
    admission: Admission
    metrics: CloudMetrics
    now: Callable[[], float]
    """Monotonic seconds."""

    def open(self, open_: Open, *, tenant: str, trace: Trace = NO_TRACE) -> LiveSession:
        """
        The session an Open asks for: a new one, or one of the same tenant to resume.

        Raises:
            SessionNotFoundError: the tenant has no such session to resume.
            VocabularyMismatchError: the edge has another tokenizer.
            ConfigError: a prompt or a scheme that is not served here.
            QuotaExceededError: the tenant has used up its sessions or its tokens.
            ResourceExhaustedError: no slot or no memory is left; nothing is kept of the session.
        """
        if open_.session_id:
            live = self.registry.find(open_.session_id, tenant=tenant)
            self.metrics.count("sessions_resumed", live.session.scheme.name)
            return live
        served, prompt_tokens = self.served, len(open_.prompt_token_ids)
        check_vocabulary(open_.vocabulary, served.vocabulary.identity)
        check_rows(open_.prompt_token_ids, served.rows)
        self.settings.check_scheme(open_.scheme.scheme)
        scheme = make_scheme(open_.scheme, vocabulary_size=served.vocabulary.identity.size)

        self.admission.check(tenant, tokens=prompt_tokens)
        kind: Callable[..., Conversation] = CloudSession
        if open_.free_run is not None:
            if not scheme.may_run_free:
                raise ConfigError(f"free_run came with scheme {scheme.name}; expected coupled.")
            stops = StopFinder(
                served.vocabulary.decode,
                open_.free_run.stop,
                special_tokens=served.vocabulary.special_tokens,
                prompt_token_ids=open_.prompt_token_ids,
            )
            kind = partial(
                FreeRunningSession,
                copies=not self.settings.no_copied_hints,
                takes_trees=served.model.takes_trees,
                stops=stops,
                row_price=self.batcher.row_price,
            )
        session = kind(
            secrets.token_bytes(SESSION_ID_BYTES),
            open_,
            scheme=scheme,
            context_length=served.model.context_length,
            eos_token_ids=served.eos_token_ids,
            resume_ttl_s=self.settings.resume_ttl_s,
            idle_ttl_s=self.settings.idle_ttl_s,
            target_fingerprint=served.fingerprint,
        )
        verifier = Verifier(
            served.model, scheme, open_.sampling, session.draws, tenant=tenant, session_id=session.session_id
        )
        live = LiveSession(
            session,
            verifier,
            batcher=self.batcher,
            account=SessionAccount(self.metrics, session, tenant=tenant, opened_s=self.now(), trace=trace),
            tenant=tenant,
            on_release=self._released,
            on_exhausted=self.registry.evict_one,
            admission=self.admission,
        )
        self.registry.add(live, tenant_limit=self.admission.quotas_of(tenant).max_sessions)
        try:
            verifier.sequence.reserve(prompt_tokens)
        except ResourceExhaustedError:
            self.registry.remove(session.session_id)
            self.registry.evict_one()  # so that the next try finds room
            raise
        self.admission.take(tenant, tokens=prompt_tokens)
        self.metrics.count("sessions_opened", scheme.name)
        self.metrics.count("prompt_tokens", scheme.name, prompt_tokens)
        return live

    def _released(self, live: LiveSession, reason: str) -> None:
        self.registry.remove(live.session.session_id)
        live.account.ended(reason, self.now())


def check_vocabulary(received: VocabularyIdentity, expected: VocabularyIdentity) -> None:
    """VocabularyMismatchError on another tokenizer, with the parts that differ where both ends told them."""
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
    """ConfigError on a prompt with an id that is not below `rows`, where these are known (not 0)."""
    for token_id in prompt_token_ids if rows else ():
        if token_id >= rows:
            raise ConfigError(
                f"the prompt holds token id {token_id}, which the tokenizer defines and the target model has "
                f"no row for; expected ids below {rows}."
            )


def _digests(identity: VocabularyIdentity, parts: tuple[str, ...]) -> str:
    return ", ".join(f"{identity.part_digests[TOKENIZER_PARTS.index(part)]:08x}" for part in parts)
