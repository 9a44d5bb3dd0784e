"""
Schedules of the two real shells: who goes on at every await, and what breaks meanwhile, all by seed.

Run as `python -m tests.explorer --schedules 10000 --seed 1`, with tests/ on PYTHONPATH; `--free` for texts
that the cloud writes by itself (`free_texts.py`).
A schedule has one cloud (`cloud.daemon` and all behind it), one or two texts (`edge.generation` and all
behind it) and perhaps peers without manners, over streams in memory.
Each text must be its reference, which needs no shell (the sans-IO sessions give it, or the races alone);
nobody may wait for an answer that never comes, nothing may be left at the end, and nothing may be logged as
an error.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from fakes import Reader, TableModel, TableVocabulary, random_law
from in_memory_pair import InMemoryPair
from tests.explorer import free_texts
from tests.explorer.memory_link import MemoryLink
from tests.explorer.rude_hinter import be_rude_with_hints
from tests.explorer.rude_peer import be_deaf, be_rude
from tests.explorer.scheduled_loop import OneThread, ScheduledLoop, StuckError
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.common.causal_model import Extended, ExtendRequest, ServedModel, extend_one_by_one
from thinwire.common.config import SamplingParameters
from thinwire.common.door.security import ServerSecurity
from thinwire.common.door.tenants import Access
from thinwire.common.errors import ResourceExhaustedError
from thinwire.common.law.distributions import warp
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.cloud_ar import CloudAr
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.generation import GenerationRequest
from thinwire.edge.drafter import Drafter
from thinwire.edge.free_running import FreeRunningSession
from thinwire.edge.generation import GenerationRun
from thinwire.edge.meter import EdgeMetrics, GenerationMeter
from thinwire.edge.session import EdgeSession
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.text_stream import TextStream

SIZE = 6
VOCABULARY = TableVocabulary(SIZE)
TARGET, DRAFT = lru_cache(100_000)(random_law(SIZE, 1)), lru_cache(100_000)(random_law(SIZE, 2))
SCHEMES = (
    KSqs.Parameters(support_size=3, lattice_resolution=20),
    CSqs.Parameters(lattice_resolution=20),
    DenseQs.Parameters(lattice_resolution=12),
    CloudAr.Parameters(),
)
EDGE = EdgeSettings(patience_s=86_400.0, round_timeout_s=1000.0, least_round_timeout_s=1000.0, keepalive_s=0)
CONTEXT_LENGTH = free_texts.CONTEXT_LENGTH
WINDOW = "thinwire.cloud.free_running.WINDOW_TOKENS"
HANGING_S = 200.0
"""No text takes so long unless somebody waits in vain: links are cut, single messages are never lost."""
HANGING_FREE_S, IDLE_S = 150.0, 190.0
"""A target that has stopped for good does so until its silent session expires: by then the text hangs."""
_METRICS = EdgeMetrics(generations=lambda: 1)


@dataclass(frozen=True, slots=True)
class Text:
    """One generation of a schedule."""

    prompt: tuple[int, ...]
    parameters: GenerationRequest


@dataclass
class Report:
    """What one schedule came to."""

    seed: int
    complaints: list[str] = field(default_factory=list)
    texts: int = 0
    """Texts that came to their end and were compared."""
    reconnects: int = 0
    hinted: int = 0
    """Tokens that were taken from a draft."""
    steps_s: float = 0.0


@lru_cache(4096)
def reference(text: Text) -> tuple[int, ...]:
    """The text's output ids, by the two sans-IO sessions alone, or by a free-running target's races."""
    sampling = text.parameters.sampling
    if text.parameters.scheme.scheme == Coupled.name:
        return free_texts.own_ids(text.prompt, text.parameters)

    def warped(law: Any, dtype: Any) -> Callable[[Any], npt.NDArray[Any]]:
        return lambda prefix: warp(np.log(law(tuple(prefix))), sampling, dtype=dtype)

    pair = InMemoryPair(
        text.parameters,
        text.prompt,
        warped(DRAFT, np.float32),
        warped(TARGET, np.float64),
        vocabulary_size=SIZE,
    )
    return tuple(pair.run().token_ids)


def text_of(chance: random.Random) -> Text:
    """A short text; of few kinds, so that references are made once."""
    number = chance.randrange(400)
    source = random.Random(number)
    return Text(
        tuple(source.randrange(SIZE) for _ in range(source.randint(1, 6))),
        GenerationRequest(
            "",
            seed=number,
            scheme=source.choice(SCHEMES),
            sampling=SamplingParameters(temperature=source.choice((0.0, 1.0))),
            max_tokens=source.randint(2, 9),
            draft_length=source.randint(1, 3),
        ),
    )


def _free_text_of(chance: random.Random) -> Text:
    return Text(*free_texts.request_of(chance))


class _SlowReader(Reader):
    """A client that is slow to read, now and then."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._is_slow = chance.random() < 0.5

    async def room(self) -> None:
        """There is room after a while."""
        if self._is_slow:
            await asyncio.sleep(self._chance.choice((0.0, 0.1, 1.0)))


class CrampedModel(TableModel):
    """A target whose cache has no room, now and then."""

    def __init__(self, chance: random.Random, refusals: float) -> None:
        super().__init__(TARGET, vocabulary_size=SIZE, context_length=CONTEXT_LENGTH)
        self._chance = chance
        self._refusals = refusals

    def extend_batch(self, requests: Sequence[ExtendRequest]) -> list[Extended]:
        """As a table does, or no room for one of them."""
        answers: list[Extended] = []
        for request in requests:
            is_round = request.logit_rows > 1 or self._chance.random() < 0.5
            if request.sequence.length and is_round and self._chance.random() < self._refusals:
                answers.append(ResourceExhaustedError("no room.", retry_after_s=0.1))
            else:
                answers += extend_one_by_one([request])
        return answers


class Cloud:
    """The cloud of a schedule; a restart makes another one."""

    def __init__(
        self, loop: ScheduledLoop, chance: random.Random, *, access: Access | None, copies: bool
    ) -> None:
        self._loop = loop
        self._security = ServerSecurity(access=access or Access())
        self._longest_pass_s = chance.choice((0.03, 0.3)) if access else 0.03
        """Behind slow passes of a target that writes by itself, hints come in time."""
        self._settings = CloudSettings(
            # Two peers who stay away hold a place each for the idle time, which is as long as a hang there.
            max_sessions=chance.choice((2, 3, 8) if access is None else (3, 4, 8)),
            max_queued_rounds=chance.choice((1, 2, 64)),
            max_batch_sequences=chance.choice((1, 64)),
            resume_ttl_s=5.0,
            idle_ttl_s=60.0 if access is None else IDLE_S,
            open_timeout_s=10.0,
            write_timeout_s=20.0,
            no_copied_hints=not copies,
        )
        self._chance = chance
        self._refusals = chance.choice((0.0, 0.1, 0.4))
        self.servers: list[CloudServer] = []
        self.models: list[TableModel] = []
        self.restart()

    def restart(self) -> None:
        """From now on another daemon answers."""
        self.models.append(CrampedModel(self._chance, self._refusals))
        self.servers.append(
            CloudServer(
                ServedModel(model=self.models[-1], vocabulary=VOCABULARY),
                settings=self._settings,
                security=self._security,
                executor=OneThread(self._loop, self._chance, longest_s=self._longest_pass_s),  # type: ignore[arg-type]
            )
        )

    @property
    def verify(self) -> Any:
        """The servicer's method of the daemon that answers now."""
        return self.servers[-1].Verify


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.sentences.append(record.getMessage())


def explore(seed: int, *, runs_free: bool = False) -> Report:
    """One schedule, of rounds or of texts that the cloud writes by itself."""
    random.seed(seed)  # the shells' own jitter
    chance = random.Random(seed)
    report, errors = Report(seed), _Errors()
    loop = ScheduledLoop(chance)
    logger = logging.getLogger("thinwire.cloud")
    logger.addHandler(errors)
    former, logger.propagate = logger.propagate, False
    begun_s = loop.time()
    try:
        with patch(WINDOW, chance.choice(free_texts.WINDOWS) if runs_free else 128):
            loop.run_until_complete(_schedule(loop, chance, report, runs_free=runs_free))
    except StuckError as error:
        report.complaints.append(str(error))
    finally:
        logger.removeHandler(errors)
        logger.propagate = former
        _close(loop)
    report.steps_s = loop.time() - begun_s
    report.complaints += [f"logged: {sentence}" for sentence in errors.sentences]
    report.complaints += [f"nobody asked for: {failure}" for failure in loop.failures]
    return report


def _close(loop: ScheduledLoop) -> None:
    """Let go of what a schedule that failed has left."""
    for task in asyncio.all_tasks(loop):
        task.cancel()
    with suppress(StuckError):
        while asyncio.all_tasks(loop):
            loop.call_soon(loop.stop)
            loop.run_forever()
    loop.close()


async def _schedule(loop: ScheduledLoop, chance: random.Random, report: Report, *, runs_free: bool) -> None:
    law = chance.choice(list(free_texts.DRAFTS.values())) if runs_free else DRAFT
    # Of a draft that is the target itself every guess is right, wherever it is held against the text.
    is_perfect = law is free_texts.TARGET
    cloud = Cloud(
        loop, chance, access=free_texts.access_of(chance) if runs_free else None, copies=not is_perfect
    )
    link = MemoryLink(lambda: cloud.verify, chance)
    draft = TableModel(law, vocabulary_size=SIZE, context_length=CONTEXT_LENGTH)
    make_text = _free_text_of if runs_free else text_of
    texts = [make_text(chance) for _ in range(chance.choice((1, 1, 2)))]
    running = [
        loop.create_task(_generate(text, draft, link, loop, chance, report, is_perfect=is_perfect))
        for text in texts
    ]
    others = [loop.create_task(_break_links(link, cloud, chance))]
    if chance.random() < 0.6:
        rude = be_rude_with_hints if runs_free else be_rude
        others.append(loop.create_task(rude(link, chance, report.complaints)))
    if chance.random() < 0.2:
        others.append(loop.create_task(be_deaf(link, chance)))
    if chance.random() < 0.2:
        loop.call_later(chance.uniform(0.0, 0.3), chance.choice(running).cancel)
    _, late = await asyncio.wait(running, timeout=HANGING_FREE_S if runs_free else HANGING_S)
    for task in late:
        report.complaints.append("a text hangs")
        task.cancel()
    _, late = await asyncio.wait(others, timeout=HANGING_S)
    for task in late:
        report.complaints.append("a peer hangs")
        task.cancel()
    await asyncio.wait([*running, *others])
    for task in (*running, *others):
        if not task.cancelled() and task.exception() is not None:
            report.complaints.append(f"failed: {task.exception()!r}")
    await asyncio.sleep(HANGING_S)  # whatever is kept for a while is kept no longer
    if left := sum(server.sessions for server in cloud.servers):
        report.complaints.append(f"{left} sessions are left")
    if left := sum(model.open_sequences for model in (*cloud.models, draft)):
        report.complaints.append(f"{left} caches are left")
    if left := sum(not call.handler.done() for call in link.calls):
        report.complaints.append(f"{left} streams are left")
    for call in link.calls:
        call.cancel()
    await asyncio.sleep(1.0)
    report.complaints += [f"misused: {call.misuse}" for call in link.calls if call.misuse is not None]


async def _generate(
    text: Text,
    draft: TableModel,
    link: MemoryLink,
    loop: ScheduledLoop,
    chance: random.Random,
    report: Report,
    *,
    is_perfect: bool,
) -> None:
    """One text, held against its reference."""
    await asyncio.sleep(chance.choice((0.0, chance.uniform(0.0, 0.1))))
    parameters = text.parameters
    scheme = make_scheme(parameters.scheme, vocabulary_size=SIZE)
    session = (FreeRunningSession if scheme.runs_free else EdgeSession)(
        parameters,
        text.prompt,
        vocabulary=VOCABULARY.identity,
        scheme=scheme,
        text=TextStream(VOCABULARY.decode, prompt_token_ids=text.prompt),
        context_length=draft.context_length,
        round_timeout_s=EDGE.round_timeout_s,
        least_round_timeout_s=EDGE.least_round_timeout_s,
        patience_s=EDGE.patience_s,
    )
    reader = _SlowReader(chance) if scheme.runs_free else Reader()
    finished = await GenerationRun(
        session,
        Drafter(draft, scheme, parameters.sampling, KeyedDraws(parameters.seed)),
        link,  # type: ignore[arg-type]
        executor=OneThread(loop, chance),
        settings=EDGE,
        client=reader,
        meter=GenerationMeter(scheme, session.statistics, started_s=loop.time(), metrics=_METRICS),
    ).run()
    report.texts += 1
    statistics = finished.statistics
    report.reconnects += statistics.reconnects
    report.hinted += statistics.accepted_tokens if scheme.runs_free else 0
    if is_perfect and statistics.accepted_tokens < statistics.tested_tokens:
        report.complaints.append(f"a right guess was taken for a wrong one: {statistics}")
    expected = reference(text)
    if reader.token_ids != expected:
        report.complaints.append(f"wrong text of {text}: {reader.token_ids}, expected {expected}")


async def _break_links(link: MemoryLink, cloud: Cloud, chance: random.Random) -> None:
    """Cut streams, and restart the cloud."""
    for _ in range(chance.choice((0, 1, 3))):
        await asyncio.sleep(chance.uniform(0.0, 0.2))
        if chance.random() < 0.2:
            cloud.restart()
            for call in link.calls:
                call.cut(cloud_notices_s=0.0)
        elif link.calls:
            chance.choice(link.calls[-3:]).cut(cloud_notices_s=chance.choice((0.0, 0.05, 3.0)))
