"""Opening a session: what an Open is held against, and what a refused one leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fakes import ManualClock, TableModel, TableSequence, TableVocabulary
from security.credentials import Tokens
from thinwire.cloud.account import CloudMetrics
from thinwire.cloud.admission import Admission
from thinwire.cloud.batch_queue import BatchQueue
from thinwire.cloud.batcher import Batcher
from thinwire.cloud.opening import SESSION_ID_BYTES, SessionFactory, SessionRegistry
from thinwire.cloud.settings import CloudSettings
from thinwire.common.causal_model import ServedModel
from thinwire.common.door.tenants import Access
from thinwire.common.errors import (
    ConfigError,
    QuotaExceededError,
    ResourceExhaustedError,
    SessionNotFoundError,
    ThinwireError,
    VocabularyMismatchError,
)
from thinwire.common.schemes.dense_f16 import DenseF16
from thinwire.common.session.messages import Open
from thinwire.common.session.states import State
from verify_peer import SIZE, TARGET, VOCABULARY, EdgeText

OPEN = EdgeText().open


class Cramped(TableModel):
    """A table whose memory may be used up."""

    is_full = False

    def open_sequence(self, *, reserve_tokens: int = 0) -> TableSequence:
        """ResourceExhaustedError while it is full."""
        if self.is_full:
            raise ResourceExhaustedError("no page is free.")
        return super().open_sequence(reserve_tokens=reserve_tokens)


@dataclass(frozen=True, slots=True)
class Opener:
    """A factory and what it is made of."""

    factory: SessionFactory
    registry: SessionRegistry
    model: Cramped


@asynccontextmanager
async def opener(access: Access | None = None, **settings: int) -> AsyncIterator[Opener]:
    """A factory over a table model; all its sessions are ended with the context."""
    model, registry, now = Cramped(TARGET, vocabulary_size=SIZE), SessionRegistry(2), ManualClock()
    queue = BatchQueue(max_rounds=4, max_sequences=4, max_tokens=64)
    with ThreadPoolExecutor(1) as executor:
        factory = SessionFactory(
            ServedModel(model=model, vocabulary=VOCABULARY, rows=SIZE - 1, fingerprint=b"f"),
            CloudSettings(**settings),
            batcher=Batcher(model, executor, queue),
            registry=registry,
            admission=Admission((access or Access()).quotas, now=now),
            metrics=CloudMetrics(sessions=lambda: len(registry), passes=lambda: 0),
            now=now,
        )
        yield Opener(factory, registry, model)
        for live in registry:
            live.expire()
    assert model.open_sequences == 0


async def test_a_session_is_opened_with_its_memory() -> None:
    """It is registered under its tenant, and its cache is there before its first stream."""
    async with opener() as cloud:
        live = cloud.factory.open(OPEN, tenant="acme")

        assert list(cloud.registry) == [live]
        assert (live.tenant, live.session.open) == ("acme", OPEN)
        assert cloud.model.open_sequences == 1


async def test_session_ids_cannot_be_guessed() -> None:
    """16 random bytes, which never repeat."""
    async with opener() as cloud:
        ids = set()
        for _ in range(20):
            live = cloud.factory.open(OPEN, tenant="acme")
            ids.add(live.session.session_id)
            live.expire()

        assert len(ids) == 20
        assert {len(session_id) for session_id in ids} == {SESSION_ID_BYTES}


async def test_a_request_that_cannot_be_served_evicts_nobody() -> None:
    """The session is built before room is made for it."""
    async with opener() as cloud:
        kept = [cloud.factory.open(OPEN, tenant="acme") for _ in range(2)]
        for live in kept:
            live.session.state = State.DETACHED
        with pytest.raises(ConfigError):
            cloud.factory.open(replace(OPEN, prompt_token_ids=()), tenant="acme")

        assert list(cloud.registry) == kept


async def test_an_open_with_a_session_id_resumes_that_session() -> None:
    """For its tenant alone."""
    async with opener() as cloud:
        live = cloud.factory.open(OPEN, tenant="acme")
        again = replace(OPEN, session_id=live.session.session_id)

        assert cloud.factory.open(again, tenant="acme") is live
        with pytest.raises(SessionNotFoundError):
            cloud.factory.open(again, tenant="rival")


def with_vocabulary(open_: Open) -> Open:
    """Of another tokenizer."""
    return replace(open_, vocabulary=TableVocabulary(SIZE, salt="other").identity)


def with_prompt(open_: Open) -> Open:
    """With an id that the model has no row for."""
    return replace(open_, prompt_token_ids=(0, SIZE - 1))


def with_scheme(open_: Open) -> Open:
    """By a scheme that is switched off."""
    return replace(open_, scheme=DenseF16.Parameters())


@pytest.mark.parametrize(
    ("change", "error"),
    [(with_vocabulary, VocabularyMismatchError), (with_prompt, ConfigError), (with_scheme, ConfigError)],
)
async def test_what_cannot_be_served_is_refused_and_leaves_nothing(
    change: Callable[[Open], Open], error: type[ThinwireError]
) -> None:
    """Before any slot or memory is taken."""
    async with opener() as cloud:
        with pytest.raises(error):
            cloud.factory.open(change(OPEN), tenant="acme")

        assert len(cloud.registry) == cloud.model.open_sequences == 0


async def test_a_session_without_memory_gives_its_slot_back() -> None:
    """Those with a stream are left alone."""
    async with opener() as cloud:
        first = cloud.factory.open(OPEN, tenant="acme")
        cloud.model.is_full = True
        with pytest.raises(ResourceExhaustedError, match="no page is free"):
            cloud.factory.open(OPEN, tenant="acme")

        assert list(cloud.registry) == [first]


async def test_a_prompt_above_its_tenants_rate_takes_no_slot(tmp_path: Path) -> None:
    """And one that found no memory has cost its tenant nothing."""
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.add("acme", tokens_per_s=1.0)
    async with opener(tokens.access()) as cloud:
        cloud.model.is_full = True
        with pytest.raises(ResourceExhaustedError):
            cloud.factory.open(OPEN, tenant="acme")
        cloud.model.is_full = False
        live = cloud.factory.open(OPEN, tenant="acme")
        with pytest.raises(QuotaExceededError, match="tenant acme is above its 1 tokens/s"):
            cloud.factory.open(OPEN, tenant="acme")

        assert list(cloud.registry) == [live]


async def test_an_ended_session_is_forgotten_at_once() -> None:
    """So that whoever comes next finds its slot."""
    async with opener() as cloud:
        cloud.factory.open(OPEN, tenant="acme").expire()

        assert len(cloud.registry) == 0
