"""Prompts of any size at an edge: bounded in bytes before any work, and no other text waits for one."""

from __future__ import annotations

import asyncio
import io
import threading

import grpc
import pytest

from fakes import TableModel, TableVocabulary, random_table
from loopback import generate, loopback, make_request, request_message
from thinwire.common import wire
from thinwire.common.config import MAX_PROMPT_BYTES
from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.errors import ConfigError, ResourceExhaustedError
from thinwire.edge.cli import main as edge_main
from thinwire.edge.prompt_encoder import SHORT_BYTES
from thinwire.edge.settings import EdgeSettings

SIZE = 6
CONTEXT = 64
LAW = random_table(3, SIZE, zeros=False)
PATIENCE_S = 20.0
LARGEST = "a" * CONTEXT
"""One token too many for the context, which is known behind its tokenisation only."""


class HeldVocabulary(TableVocabulary):
    """Tokenises the largest prompt for as long as a test wants; other prompts at once."""

    def __init__(self) -> None:
        super().__init__(SIZE)
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.encoded: list[int] = []
        """Lengths of the prompts that were tokenised."""

    def encode(self, text: str) -> list[int]:
        """As it is told."""
        self.encoded.append(len(text))
        if text == LARGEST or len(text) > SHORT_BYTES:
            self.begun.release()
            assert self.go_on.wait(PATIENCE_S)
        return super().encode(text)

    async def holds(self) -> None:
        """Wait until a largest prompt is being tokenised."""
        assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE_S)


def model() -> TableModel:
    """A small table."""
    return TableModel(LAW, context_length=CONTEXT)


async def test_another_text_goes_on_while_the_largest_prompt_is_tokenised() -> None:
    """It is in the middle when the prompt comes, and whole before that one's ids are there."""
    vocabulary = HeldVocabulary()
    async with loopback(model(), model(), vocabulary) as both:
        events = both.client.events(make_request(max_tokens=40, draft_length=2))
        await anext(events)
        await anext(events)
        large = asyncio.create_task(generate(both.client, make_request(LARGEST)))
        await vocabulary.holds()
        async with asyncio.timeout(PATIENCE_S):
            async for _ in events:
                pass

        assert not large.done()
        vocabulary.go_on.set()
        with pytest.raises(ConfigError, match=r"the prompt holds 64 tokens; expected at most 63"):
            await large


async def test_a_new_text_begins_while_a_long_prompt_is_tokenised() -> None:
    """Short prompts wait for short ones alone."""
    vocabulary = HeldVocabulary()
    async with loopback(model(), model(), vocabulary) as both:
        large = asyncio.create_task(generate(both.client, make_request("ab" * SHORT_BYTES)))
        await vocabulary.holds()
        async with asyncio.timeout(PATIENCE_S):
            await generate(both.client, make_request("b", max_tokens=2))

        assert not large.done()
        vocabulary.go_on.set()
        with pytest.raises(ConfigError, match="expected at most 63"):
            await large


async def test_callers_that_went_away_leave_no_work_behind() -> None:
    """Three wait behind a prompt in hand and are cancelled; a fourth is next."""
    vocabulary = HeldVocabulary()
    async with loopback(model(), model(), vocabulary) as both:
        first = asyncio.create_task(generate(both.client, make_request(LARGEST)))
        await vocabulary.holds()
        waiting = [asyncio.create_task(generate(both.client, make_request("b" * 9))) for _ in range(3)]
        async with asyncio.timeout(PATIENCE_S):
            while len(both.edge.running) < 4:
                await asyncio.sleep(0.01)
            for task in waiting:
                task.cancel()
            while len(both.edge.running) > 1:
                await asyncio.sleep(0.01)
        fourth = asyncio.create_task(generate(both.client, make_request("c" * 5, max_tokens=2)))
        vocabulary.go_on.set()
        await fourth
        await asyncio.wait([first])
        assert isinstance(first.exception(), ConfigError)

    assert vocabulary.encoded == [CONTEXT, 5]


async def test_prompts_in_line_are_bounded_by_the_generations() -> None:
    """One more is refused before it is looked at."""
    vocabulary = HeldVocabulary()
    settings = EdgeSettings(max_generations=2)
    async with loopback(model(), model(), vocabulary, edge_settings=settings) as both:
        held = [asyncio.create_task(generate(both.client, make_request(LARGEST))) for _ in range(2)]
        await vocabulary.holds()
        async with asyncio.timeout(PATIENCE_S):
            while len(both.edge.running) < 2:
                await asyncio.sleep(0.01)
        with pytest.raises(ResourceExhaustedError, match=r"2 generations are running; expected fewer than 2"):
            await generate(both.client, make_request("b"))
        vocabulary.go_on.set()
        await asyncio.wait(held)

    assert vocabulary.encoded == [CONTEXT] * 2


@pytest.mark.parametrize(
    ("max_prompt_bytes", "size", "expected"),
    [(10, 11, 10), (MAX_PROMPT_BYTES, 5 * 1024 * 1024, MAX_PROMPT_BYTES)],
    ids=["above the setting", "5 MB"],
)
async def test_a_prompt_above_its_bytes_is_refused_before_it_is_tokenised(
    max_prompt_bytes: int, size: int, expected: int
) -> None:
    """In our words, with both sizes; whoever the client is, it may not check for itself."""
    vocabulary = HeldVocabulary()
    settings = EdgeSettings(max_prompt_bytes=max_prompt_bytes)
    async with loopback(model(), model(), vocabulary, edge_settings=settings) as both:
        # The message itself, past the client's own checks.
        message = request_message(make_request(max_tokens=4), prompt="a" * size)
        unbounded = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(both.edge_address, options=unbounded) as channel:
            call = wire.GeneratorStub(channel).Generate(message, timeout=PATIENCE_S)

            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert await call.details() == f"the prompt holds {size} bytes; expected at most {expected}."
        assert vocabulary.encoded == []


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a" * (MAX_PROMPT_BYTES + 1), "the prompt holds 1048577 bytes; expected at most 1048576."),
        ("é" * MAX_PROMPT_BYTES, "the prompt holds 2097152 bytes; expected at most 1048576."),
    ],
    ids=["bytes", "characters of two bytes"],
)
def test_a_client_says_so_before_it_sends(prompt: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no edge at all."""
    assert edge_main(["generate", prompt, "--edge", "127.0.0.1:1"]) == ExitCode.USAGE
    assert capsys.readouterr().err == f"thinwire: {said}\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            b"a" * (5 * MAX_PROMPT_BYTES),
            "standard input holds more than 1048576 bytes; expected a prompt of at most",
        ),
        (b"ab\xff", "standard input has byte 0xff at offset 2; expected UTF-8."),
    ],
    ids=["5 MB", "no text"],
)
def test_no_more_of_standard_input_is_read_than_a_prompt_may_have(
    given: bytes, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt by `-`."""
    raw = io.BytesIO(given)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw, encoding="utf-8"))

    assert edge_main(["generate", "-", "--edge", "127.0.0.1:1"]) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert raw.tell() < 2 * MAX_PROMPT_BYTES


def test_a_stop_string_that_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Like a prompt."""
    assert edge_main(["generate", "a", "--stop", "\udcff", "--edge", "127.0.0.1:1"]) == ExitCode.USAGE
    assert "--stop has byte 0xff; expected UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", str(MAX_PROMPT_BYTES + 1)])
def test_a_bound_out_of_range_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    assert edge_main(["edge", "--max-prompt-bytes", value]) == ExitCode.USAGE
    assert f"--max-prompt-bytes is {value}; expected an integer from 1 to 1048576" in capsys.readouterr().err
