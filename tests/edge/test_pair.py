"""Whether texts can be made is asked when there is reason to, and told when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from fakes import TableVocabulary
from loopback import loopback
from tests.integration.operations import SIZE, VOCABULARY, models
from thinwire.cloud.daemon import CloudServer
from thinwire.common import wire
from thinwire.common.causal_model import ServedModel
from thinwire.common.errors import (
    EdgeTokenError,
    ThinwireError,
    TransportError,
    UnauthenticatedError,
    WrongDaemonError,
)
from thinwire.common.schemes import scheme_names
from thinwire.common.session.generation import ServerInfo
from thinwire.common.session.messages import VocabularyIdentity
from thinwire.edge.cli import main
from thinwire.edge.daemon import EdgeServer
from thinwire.edge.pair import PairWatch

DRAFT = ServedModel(model=models()[1], vocabulary=VOCABULARY, name="draft")
OTHER = TableVocabulary(SIZE, salt="other")
ABSENT = TransportError("nobody is there.")
NO_VOCABULARY = VocabularyIdentity(0, b"")


def info(vocabulary: TableVocabulary) -> ServerInfo:
    """A cloud's account of itself."""
    return ServerInfo(
        version="1",
        model="target",
        vocabulary=vocabulary.identity,
        model_rows=SIZE,
        context_length=8,
        eos_token_ids=(),
        schemes=("k-sqs",),
        sessions=0,
        max_sessions=1,
        resume_ttl_s=1,
        dtype="float32",
        device="cpu",
        listener_security="",
    )


LOADING = replace(info(VOCABULARY), model="", vocabulary=NO_VOCABULARY, context_length=0)


class Cloud:
    """Answers in turn, the last one for good; keeps what the watch did."""

    def __init__(self, *answers: ServerInfo | ThinwireError) -> None:
        self.answers = list(answers)
        self.pauses: list[float] = []
        self.told: list[bool] = []
        self.asked = 0
        self.watch = PairWatch(
            self.answer,
            cloud="a.example:1",
            vocabulary=VOCABULARY.identity,
            on_change=self.tell,
            sleep=self.sleep,
        )

    async def answer(self) -> ServerInfo | ThinwireError:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def tell(self, is_right: bool) -> None:
        self.told.append(is_right)

    async def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        await asyncio.sleep(0)

    async def told_times(self, count: int) -> None:
        """Until something changed so often."""
        async with asyncio.timeout(10):
            while len(self.told) < count:
                await asyncio.sleep(0)


@asynccontextmanager
async def running(cloud: Cloud) -> AsyncIterator[PairWatch]:
    """After the first look."""
    await cloud.watch.look()
    task = asyncio.create_task(cloud.watch.run())
    try:
        yield cloud.watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_pair_that_is_right_is_asked_once() -> None:
    """The thin link carries one question."""
    cloud = Cloud(info(VOCABULARY))
    async with running(cloud):
        for _ in range(100):
            await asyncio.sleep(0)

    assert (cloud.asked, cloud.told, cloud.pauses) == (1, [True], [])


@pytest.mark.parametrize(
    "wrong",
    [info(OTHER), UnauthenticatedError("the token is nobody's."), WrongDaemonError("an edge answers there.")],
    ids=["vocabulary", "token", "daemon"],
)
async def test_a_wrong_cloud_is_told_of_once_and_asked_until_it_is_right(
    wrong: ServerInfo | ThinwireError, caplog: pytest.LogCaptureFixture
) -> None:
    """With longer and longer pauses; silence in between changes nothing."""
    cloud = Cloud(wrong, wrong, ABSENT, wrong, wrong, wrong, wrong, info(VOCABULARY))
    async with running(cloud):
        await cloud.told_times(2)

    assert cloud.told == [False, True]
    assert cloud.pauses == [1, 2, 4, 8, 16, 30, 30]
    assert [r.getMessage() for r in caplog.records if r.getMessage().startswith("NO TEXT CAN BE MADE")] == [
        caplog.records[0].getMessage()
    ]


async def test_a_cloud_that_is_not_there_says_nothing_of_the_pair(caplog: pytest.LogCaptureFixture) -> None:
    """It is asked again, and logged once."""
    caplog.set_level("INFO")
    cloud = Cloud(ABSENT, ABSENT, ABSENT, info(VOCABULARY))
    async with running(cloud) as watch:
        assert watch.is_right is None
        await cloud.told_times(1)

    assert cloud.told == [True]
    assert sum("does not answer yet" in record.getMessage() for record in caplog.records) == 1


async def test_a_cloud_that_loads_says_nothing_of_the_pair(caplog: pytest.LogCaptureFixture) -> None:
    """Both daemons may be started at once: an edge that is there first neither alarms nor leaves health."""
    caplog.set_level("INFO")
    cloud = Cloud(LOADING, LOADING, info(VOCABULARY))
    async with running(cloud) as watch:
        assert watch.is_right is None
        await cloud.told_times(1)

    assert cloud.told == [True]
    assert [r.getMessage() for r in caplog.records] == [
        "the cloud at a.example:1 loads its model",
        "the cloud at a.example:1 serves target with the draft model's vocabulary",
    ]


async def test_a_text_that_failed_as_with_a_wrong_cloud_has_it_asked_again() -> None:
    """And no other failure has."""
    cloud = Cloud(info(VOCABULARY), info(OTHER), info(VOCABULARY))
    async with running(cloud) as watch:
        for error in (ABSENT, UnauthenticatedError("the caller's own."), EdgeTokenError("the edge's own.")):
            asked = cloud.asked
            watch.doubt(error)
            for _ in range(20):
                await asyncio.sleep(0)
            assert (cloud.asked > asked) is isinstance(error, EdgeTokenError)
        await cloud.told_times(3)

    assert cloud.told == [True, False, True]


async def test_a_pair_that_somebody_else_found_wrong_is_asked_about_until_it_is_right() -> None:
    """GetStatus asks too; the watch, which had no reason to, does not rest on its answer."""
    cloud = Cloud(info(VOCABULARY))
    async with running(cloud) as watch:
        await asyncio.sleep(0)  # it rests
        await watch.heard(info(OTHER))
        await cloud.told_times(3)

    assert cloud.told == [True, False, True]


@pytest.mark.parametrize(("target_vocabulary", "code"), [(VOCABULARY, 0), (OTHER, 1)])
async def test_status_and_health_of_a_pair(
    target_vocabulary: TableVocabulary, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the vocabularies differ the edge is NOT_SERVING, and status says so with exit code 1."""
    async with loopback(*models(), VOCABULARY, target_vocabulary=target_vocabulary) as both:
        edge = EdgeServer(None, cloud_address=both.cloud_address)
        address = f"127.0.0.1:{await edge.start('127.0.0.1:0')}"
        try:
            loading = await asyncio.to_thread(main, ["status", "--edge", address])
            not_yet = capsys.readouterr().out
            await edge.model_loaded(DRAFT)
            codes = [
                await asyncio.to_thread(main, [command, "--edge", address])
                for command in ("health", "status")
            ]
        finally:
            await edge.stop(0)
    said = capsys.readouterr().out

    assert loading == 0
    assert "not compared, the edge has no model yet" in not_yet
    assert codes == [code, code]
    assert (f"{wire.GENERATOR_SERVICE} at {address}: NOT_SERVING" in said) is bool(code)
    assert ("ANOTHER (" in said) is bool(code)
    served = ", ".join(name for name in scheme_names() if name != "dense-f16")
    assert f"  {served} (not served by the cloud: dense-f16)\n" in said


async def test_status_of_a_cloud_that_loads(capsys: pytest.CaptureFixture[str]) -> None:
    """No model is no other model: nothing is compared, and nothing that is not known yet is shown."""
    cloud = CloudServer(None)
    cloud_address = f"127.0.0.1:{await cloud.start('127.0.0.1:0')}"
    edge = EdgeServer(None, cloud_address=cloud_address)
    address = f"127.0.0.1:{await edge.start('127.0.0.1:0')}"
    try:
        await edge.model_loaded(DRAFT)
        codes = [
            await asyncio.to_thread(main, [command, "--edge", address]) for command in ("health", "status")
        ]
    finally:
        await edge.stop(0)
        await cloud.stop(0)
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:15].strip(): line[15:] for line in lines if line[:13].strip()}

    assert codes == [0, 0]
    assert rows["cloud"].endswith(", no model yet")
    assert (rows["fingerprint"], rows["context"]) == ("–", "–")
    assert rows["vocabulary"] == "not compared, the cloud has no model yet"


async def test_an_edge_without_a_cloud_is_serving(capsys: pytest.CaptureFixture[str]) -> None:
    """The cloud may come while a text waits for it; status lists the edge's schemes as the edge's."""
    edge = EdgeServer(None, cloud_address="127.0.0.1:1")
    address = f"127.0.0.1:{await edge.start('127.0.0.1:0')}"
    try:
        await edge.model_loaded(DRAFT)
        codes = [
            await asyncio.to_thread(main, [command, "--edge", address]) for command in ("health", "status")
        ]
    finally:
        await edge.stop(0)

    assert codes == [0, 5]
    assert "dense-f16 (of the edge; the cloud's are not known)" in capsys.readouterr().out
