"""`thinwire.Client` and `thinwire.AsyncClient` against real daemons over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import thinwire
from running_edge import RunningEdge, running_edge
from thinwire.common.session.messages import FinishReason
from thinwire.common.session.statistics import GenerationStatistics

SIZE = 12
ENDLESS = 4000
"""Tokens that no test waits for."""


@pytest.fixture
def edge() -> Iterator[RunningEdge]:
    """A running pair."""
    with running_edge(SIZE) as edge:
        yield edge


def run(program: str, *arguments: str) -> str:
    """What a Python program prints; it must end well, and without a word on standard error."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_the_pieces_of_a_text_are_the_text_that_the_command_gets(edge: RunningEdge) -> None:
    """Tokens, seed, reason and statistics come with it."""
    with thinwire.Client(edge.address) as client:
        generation = client.generate("abc", seed=7, max_tokens=20)
        assert generation.text == ""
        assert generation.finish_reason is None
        pieces = list(generation)

    assert "".join(pieces) == generation.text == edge.expected("abc", seed=7, max_tokens=20)
    assert len(generation.tokens) == generation.statistics.output_tokens == 20
    assert generation.seed == 7
    assert generation.finish_reason is FinishReason.LENGTH


async def test_the_asynchronous_client_gets_the_same(edge: RunningEdge) -> None:
    """Streamed, and whole."""
    async with thinwire.AsyncClient(edge.address) as client:
        generation = client.generate("abc", seed=7, max_tokens=20)
        pieces = [piece async for piece in generation]
        whole = await client.complete("abc", seed=7, max_tokens=20)

    assert "".join(pieces) == generation.text == whole.text
    assert whole.text == await asyncio.to_thread(edge.expected, "abc", seed=7, max_tokens=20)
    assert whole.tokens == generation.tokens


@pytest.mark.parametrize("scheme", ["k-sqs", "c-sqs", "dense-qs", "cloud-ar"])
def test_every_scheme_is_a_word(edge: RunningEdge, scheme: str) -> None:
    """All defaults of a scheme are filled in."""
    with thinwire.Client(edge.address) as client:
        assert len(client.complete("abc", scheme=scheme, max_tokens=8).tokens) == 8


def test_text_held_back_to_the_end_is_a_piece_too(edge: RunningEdge) -> None:
    """A beginning of a stop string that does not come is the text's after all."""
    whole = edge.expected("abc", max_tokens=20)
    with thinwire.Client(edge.address) as client:
        pieces = list(client.generate("abc", seed=0, max_tokens=20, stop=whole[-1] + "?"))

    assert "".join(pieces) == whole


def test_a_stop_string_may_stand_alone(edge: RunningEdge) -> None:
    """A string is not taken for a list of its characters."""
    whole = edge.expected("abc", max_tokens=20)
    with thinwire.Client(edge.address) as client:
        generation = client.complete("abc", seed=0, max_tokens=20, stop=whole[10:12])

    assert generation.finish_reason is FinishReason.STOP
    assert generation.text == whole[: whole.index(whole[10:12])]


def test_the_statistics_come_with_the_end(edge: RunningEdge) -> None:
    """Before it there are none, rather than zeros."""
    with thinwire.Client(edge.address) as client:
        generation = client.generate("abc", max_tokens=3)
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = generation.statistics
        for _ in generation:
            pass

    assert isinstance(generation.statistics, GenerationStatistics)


@pytest.mark.parametrize("leave", ["break", "with", "close", "error"])
def test_leaving_early_cancels_the_text(edge: RunningEdge, leave: str) -> None:
    """The cloud's session is free long before the text would have ended; what came stays readable."""
    with thinwire.Client(edge.address) as client:
        generation = client.generate("abc", max_tokens=ENDLESS)
        with contextlib.ExitStack() as stack:
            if leave == "with":
                stack.enter_context(generation)
            if leave == "error":
                stack.enter_context(pytest.raises(KeyError))
            pieces = iter(generation) if leave in ("with", "close") else generation
            for _ in pieces:
                if leave == "error":
                    raise KeyError
                break
            if leave == "close":
                generation.close()
        assert edge.target.freed.wait(30)

    assert generation.text
    assert generation.finish_reason is None


@pytest.mark.parametrize("leave", ["break", "with", "close"])
async def test_leaving_early_cancels_an_asynchronous_text(edge: RunningEdge, leave: str) -> None:
    """Likewise."""
    async with thinwire.AsyncClient(edge.address) as client:
        generation = client.generate("abc", max_tokens=ENDLESS)
        async with contextlib.AsyncExitStack() as stack:
            if leave == "with":
                await stack.enter_async_context(generation)
            pieces = aiter(generation) if leave in ("with", "close") else generation
            async for _ in pieces:
                break
            if leave == "close":
                await generation.close()
        assert await edge.target.freed_within(30)


def test_a_generation_is_iterated_once(edge: RunningEdge) -> None:
    """A second text needs a second call, and a seed."""
    with thinwire.Client(edge.address) as client:
        generation = client.generate("abc", max_tokens=3)
        list(generation)
        with pytest.raises(RuntimeError, match="iterated once"):
            list(generation)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": -1.0}, "temperature is -1.0; expected"),
        ({"max_tokens": 0}, "max_tokens is 0; expected"),
        ({"draft_length": 65}, "draft_length is 65; expected"),
        ({"stop": [""]}, "a stop string has 0 characters; expected"),
    ],
)
def test_a_value_out_of_range_is_refused_before_anything_is_sent(options: Any, sentence: str) -> None:
    """Nobody listens at the address."""
    with (
        thinwire.Client("127.0.0.1:1") as client,
        pytest.raises(thinwire.ConfigError, match=sentence) as caught,
    ):
        client.generate("abc", **options)

    assert caught.value.reason == "PARAMETER_OUT_OF_RANGE"


def test_the_edges_refusal_is_an_exception_with_its_reason(edge: RunningEdge) -> None:
    """A prompt that its tokenizer cannot encode, for one; the client lives on."""
    with thinwire.Client(edge.address) as client:
        with pytest.raises(thinwire.ThinwireError) as caught:
            client.complete("abc", stop_token_ids=[SIZE])
        assert (caught.value.status, caught.value.reason) == ("INVALID_ARGUMENT", "PARAMETER_OUT_OF_RANGE")
        assert client.complete("abc", max_tokens=2).tokens


def test_an_edge_that_is_not_there_is_an_error_in_time() -> None:
    """With the address, for a text and for a status; another try may follow."""
    with thinwire.Client("127.0.0.1:1", connect_timeout_s=5.0) as client:
        for ask in (lambda: client.complete("abc"), client.status):
            with pytest.raises(thinwire.TransportError, match=r"127\.0\.0\.1:1; expected") as caught:
                ask()
            assert (caught.value.status, caught.value.reason) == ("UNAVAILABLE", "LINK")


def test_an_edge_that_stops_ends_the_text_with_an_error(edge: RunningEdge) -> None:
    """The tokens that came stay."""
    with thinwire.Client(edge.address) as client:
        generation = client.generate("abc", max_tokens=ENDLESS)
        with pytest.raises(thinwire.ThinwireError):  # noqa: PT012 - the first piece comes, a later one does not
            for _ in generation:
                edge.stop()

    assert generation.tokens


def test_many_threads_share_a_client(edge: RunningEdge) -> None:
    """Each gets its own text whole; 24 texts in six threads."""
    with thinwire.Client(edge.address) as client, ThreadPoolExecutor(6) as pool:
        texts = list(pool.map(lambda seed: client.complete("abc", seed=seed, max_tokens=12).text, range(24)))

    assert texts == [edge.expected("abc", seed=seed, max_tokens=12) for seed in range(24)]


def test_the_status_is_that_of_the_edge(edge: RunningEdge) -> None:
    """With its cloud's."""
    with thinwire.Client(edge.address) as client:
        status = client.status()

    assert status.is_pair is True
    assert "c-sqs" in status.common_schemes


def test_the_client_works_beside_a_running_loop(edge: RunningEdge) -> None:
    """As in a notebook: the caller's loop is not asked; in a process of its own, since it blocks its loop."""
    program = (
        "import asyncio, sys, thinwire\n"
        "async def cell():\n"
        "    with thinwire.Client(sys.argv[1]) as client:\n"
        "        print(client.complete('abc', seed=7, max_tokens=20).text)\n"
        "asyncio.run(cell())\n"
    )

    assert run(program, edge.address) == edge.expected("abc", seed=7, max_tokens=20)


def test_a_closed_client_says_so(edge: RunningEdge) -> None:
    """Closed twice is closed; a thread that waits for a text gets an error."""
    client = thinwire.Client(edge.address)
    endless = client.generate("abc", max_tokens=ENDLESS)
    pieces = iter(endless)
    next(pieces)
    client.close()
    client.close()

    with pytest.raises(RuntimeError, match="the client is closed"):
        client.status()
    with pytest.raises(RuntimeError, match="the client is closed"):
        next(pieces)
    assert edge.target.freed.wait(30)


def test_closing_ends_a_text_that_another_thread_waits_for(edge: RunningEdge) -> None:
    """With an error of the tree, not with a text that looks whole."""
    client = thinwire.Client(edge.address)
    under_way = threading.Event()

    def read() -> None:
        for _ in client.generate("abc", max_tokens=ENDLESS):
            under_way.set()

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert under_way.wait(30)
        client.close()
        with pytest.raises((thinwire.TransportError, RuntimeError), match="closed"):
            reading.result(30)


async def test_a_closed_asynchronous_client_says_so(edge: RunningEdge) -> None:
    """Likewise."""
    async with thinwire.AsyncClient(edge.address) as client:
        await client.status()

    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.complete("abc")


def test_a_client_leaves_no_thread_behind(edge: RunningEdge) -> None:
    """Neither one that was closed nor one that was forgotten."""
    before = threading.active_count()
    with thinwire.Client(edge.address) as client:
        client.status()
        assert threading.active_count() > before
    forgotten = thinwire.Client(edge.address)
    forgotten.status()
    del forgotten

    assert not [thread for thread in threading.enumerate() if thread.name == "thinwire-client"]


def test_a_program_that_forgets_its_client_ends(edge: RunningEdge) -> None:
    """With its last line, and without a word on standard error."""
    program = (
        "import sys, thinwire\n"
        "client = thinwire.Client(sys.argv[1])\n"
        f"pieces = iter(client.generate('abc', max_tokens={ENDLESS}))\n"
        "print(next(pieces))\n"
    )

    assert run(program, edge.address)


def test_a_client_cannot_be_pickled() -> None:
    """It holds a thread and a connection; each process makes its own."""
    with thinwire.Client("127.0.0.1:1") as client, pytest.raises((TypeError, AttributeError), match="pickle"):
        pickle.dumps(client)


def test_the_public_names_are_there() -> None:
    """And `import thinwire` alone loads none of what they need."""
    assert all(getattr(thinwire, name) for name in thinwire.__all__)
    program = "import sys, thinwire; print(sorted({'grpc', 'numpy', 'torch'} & set(sys.modules)))"

    assert run(program) == "[]"
