"""Real daemons: predictions, copies, an edge without a draft model, and stop strings that the cloud knows."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from daemon_processes import daemon
from fakes import TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request, unchecked
from thinwire import Client
from thinwire.cloud.settings import CloudSettings
from thinwire.common import demo_pair
from thinwire.common.config import MAX_PREDICTION_BYTES
from thinwire.common.errors import ConfigError
from thinwire.edge.cli import main
from thinwire.edge.client import connect
from thinwire.edge.no_draft import NoDraftModel
from thinwire.edge.settings import EdgeSettings

SIZE = 12
VOCABULARY = TableVocabulary(SIZE)
TARGET = random_law(SIZE, 1)


def target() -> WatchedModel:
    """A fresh one."""
    return WatchedModel(TARGET, context_length=4096)


def draft() -> WatchedModel:
    """Of another law."""
    return WatchedModel(random_law(SIZE, 2), context_length=4096)


def coupled(**changes: Any) -> Any:
    """A request of 300 tokens."""
    return make_request("abc", **{"scheme": "coupled", "seed": 5, "max_tokens": 300, **changes})


@pytest.mark.parametrize("drafts", [True, False])
async def test_a_prediction_saves_passes_and_changes_no_token(drafts: bool) -> None:
    """The text itself, and an edit of it; what was right of it and what was not is counted apart."""
    model = target()
    async with loopback(model, draft() if drafts else NoDraftModel(SIZE), VOCABULARY) as both:
        plain = await generate(both.client, coupled())
        edited = plain.text[:100] + "a" + plain.text[101:200] + plain.text[204:]
        passes, texts = [], []
        for prediction in (plain.text, edited, "abcde" * 50):
            before = model.passes
            texts.append(await generate(both.client, coupled(prediction=prediction)))
            passes.append(model.passes - before)

    assert [text.token_ids for text in texts] == [plain.token_ids] * 3
    right, edit, wrong = (text.finished.statistics for text in texts)
    assert passes[0] < 250  # how many are in time hangs on the machine: a table's pass takes no time
    assert (right.accepted_prediction_tokens, right.rejected_prediction_tokens) == (299, 0)
    assert 200 < edit.accepted_prediction_tokens < 300
    assert edit.rejected_prediction_tokens > 0
    assert wrong.accepted_prediction_tokens < 60
    assert wrong.uplink_message_bytes < 300 * 20


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"scheme": "k-sqs"}, "prediction came with k-sqs"),
        ({"scheme": "cloud-ar"}, "prediction came with cloud-ar"),
        ({"scheme": "coupled", "lock_step": True}, "prediction came with coupled in lock step"),
    ],
)
async def test_schemes_in_rounds_refuse_a_prediction(asked: dict[str, Any], named: str) -> None:
    """With the option and what takes it."""
    async with loopback(target(), draft(), VOCABULARY) as both:
        with pytest.raises(ConfigError, match=f"{named}, .*expected scheme coupled"):
            await generate(both.client, make_request("abc", prediction="abc", **asked))


async def test_a_prediction_that_is_too_long_is_refused_at_either_end() -> None:
    """Before it is tokenised."""
    long = "a" * (MAX_PREDICTION_BYTES + 1)
    with pytest.raises(ConfigError, match=r"prediction holds 262145 bytes; expected at most 262144\."):
        coupled(prediction=long)
    async with loopback(target(), draft(), VOCABULARY) as both:
        with pytest.raises(ConfigError, match="prediction holds 262145 bytes"):
            await generate(both.client, unchecked(coupled(), prediction=long))


@pytest.mark.parametrize(("value", "named"), [(b"abc", "bytes"), (5, "int"), (["a"], "list")])
def test_what_is_no_text_is_refused_by_its_type(value: Any, named: str) -> None:
    """A prediction, a stop string and a prompt alike, as a program may give them."""
    with pytest.raises(ConfigError, match=rf"^prediction is of type {named}; expected text \(str\)\.$"):
        coupled(prediction=value)
    with pytest.raises(ConfigError, match=f"^a stop string is of type {named}; expected text"):
        coupled(stop=(value,))
    with pytest.raises(ConfigError, match=f" is of type {named}; expected text"):
        make_request(value)


async def test_an_edge_without_a_draft_model_serves_what_needs_none() -> None:
    """`coupled` and `cloud-ar`, and any scheme at a draft length of 0; the text of `coupled` is the same."""
    async with loopback(target(), draft(), VOCABULARY) as both:
        expected = await generate(both.client, coupled())
    async with loopback(target(), NoDraftModel(SIZE), VOCABULARY) as both:
        text = await generate(both.client, coupled())
        plain = await generate(both.client, make_request("abc", scheme="cloud-ar", max_tokens=20))
        same = await generate(both.client, make_request("abc", draft_length=0, max_tokens=20))
        status = await both.client.status()
        for asked in ({}, {"scheme": "c-sqs"}, {"scheme": "coupled", "lock_step": True}):
            with pytest.raises(ConfigError, match=r"no draft model \(thinwire edge --no-draft\); expected"):
                await generate(both.client, make_request("abc", **asked))

    assert text.token_ids == expected.token_ids
    assert text.finished.statistics.draft_full_from == 0
    assert plain.token_ids == same.token_ids
    assert set(status.schemes) >= {"coupled", "cloud-ar"}
    assert not {"k-sqs", "c-sqs"} & set(status.schemes)


class UnhurriedModel(WatchedModel):
    """A pass takes some milliseconds, so that a hint can be there in time."""

    def extend_batch(self, requests: Any) -> Any:
        """After a while."""
        time.sleep(0.005)
        return super().extend_batch(requests)


@pytest.mark.parametrize(("cloud_copies", "edge_copies"), [(True, True), (False, True), (False, False)])
async def test_the_edge_copies_where_the_cloud_does_not(cloud_copies: bool, edge_copies: bool) -> None:
    """The cloud says in Opened whether it does; either end may have it switched off."""
    cloud = CloudSettings(no_copied_hints=not cloud_copies)
    edge = EdgeSettings(no_copied_hints=not edge_copies)
    cycle = [TARGET((0,)) * 0 for _ in range(SIZE)]
    for token_id, row in enumerate(cycle):
        row[(token_id + 1) % SIZE] = 1.0
    model = UnhurriedModel(lambda prefix: cycle[prefix[-1]], vocabulary_size=SIZE, context_length=4096)
    async with loopback(
        model, NoDraftModel(SIZE), VOCABULARY, cloud_settings=cloud, edge_settings=edge
    ) as both:
        text = await generate(both.client, coupled())
    statistics = text.finished.statistics

    assert text.text.startswith("defghijklabcdefghijkl")
    assert (statistics.accepted_tokens > 20) is (cloud_copies or edge_copies)
    assert (statistics.uplink_payload_bits > 0) is (edge_copies and not cloud_copies)


async def test_no_pass_follows_a_stop_string() -> None:
    """60 seeds: the text of rounds with the same stop string, and not one pass more than tokens."""
    model = target()
    async with loopback(model, NoDraftModel(SIZE), VOCABULARY) as both:
        for seed in range(60):
            whole = await generate(both.client, coupled(seed=seed, max_tokens=60))
            stop = whole.text[20 + seed % 20 : 24 + seed % 20]
            changes = {"seed": seed, "max_tokens": 60, "stop": (stop,), "draft_length": 0}
            in_rounds = await generate(both.client, coupled(lock_step=True, **changes))
            await _until_idle(both.cloud)
            before = model.passes
            running = await generate(both.client, coupled(**changes))
            await _until_idle(both.cloud)

            assert (running.text, running.reason) == (in_rounds.text, in_rounds.reason)
            assert running.token_ids == in_rounds.token_ids
            assert model.passes - before <= len(running.tokens)


async def _until_idle(cloud: Any) -> None:
    async with asyncio.timeout(10):
        while cloud.sessions:
            await asyncio.sleep(0.002)


async def test_the_command_reads_the_prediction_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that cannot be read, or holds no text, or too much, is a usage error that names the option."""
    asked = ["--scheme", "coupled", "--seed", "5", "--max-tokens", "40"]
    async with loopback(target(), draft(), VOCABULARY) as both:
        whole = await generate(both.client, coupled(max_tokens=40))
        (tmp_path / "expected").write_text(whole.text)
        (tmp_path / "bytes").write_bytes(b"ab\xff")
        (tmp_path / "long").write_bytes(b"a" * (MAX_PREDICTION_BYTES + 1))

        async def run(name: str) -> tuple[int, str]:
            argv = ["generate", "abc", "--edge", both.edge_address, *asked]
            code = await asyncio.to_thread(main, [*argv, "--prediction", str(tmp_path / name)])
            out, err = capsys.readouterr()
            return code, out + err

        code, output = await run("expected")
        refused = [await run(name) for name in ("nowhere", "bytes", "long")]

    assert code == 0
    assert whole.text in output
    assert "tokens sent were the text's" in output
    assert [code for code, _ in refused] == [2, 2, 2]
    assert all("--prediction is " in output for _, output in refused)


async def test_the_clients_take_a_prediction() -> None:
    """As a text."""
    async with loopback(target(), draft(), VOCABULARY) as both:
        whole = await generate(both.client, coupled())

        def complete() -> Any:
            with Client(both.edge_address) as client:
                options = {"scheme": "coupled", "seed": 5, "max_tokens": 300}
                return client.complete("abc", prediction=whole.text, **options)

        again = await asyncio.to_thread(complete)

    assert again.text == whole.text
    assert again.statistics.accepted_prediction_tokens == 299


async def test_an_edge_without_a_draft_model_loads_no_weights(tmp_path: Path) -> None:
    """The command, with the bundled pair: its log names no weights, and it answers with the target's text."""
    async with daemon(
        tmp_path, "thinwire.cloud", "serve", "--model", str(demo_pair.model("target"))
    ) as cloud:
        dial = ("--cloud", await cloud.address(), "--no-draft")
        async with daemon(tmp_path, "thinwire.edge", "edge", *dial) as edge:
            address = await edge.address()
            await cloud.says("serving")
            await edge.says("the tokenizer of draft, without a model")
            async with connect(address, event_timeout_s=60) as client:
                text = await generate(client, make_request("def f(x):", scheme="coupled", max_tokens=24))
                status = await client.status()
            log = edge.log

    assert len(text.tokens) == 24
    assert status.is_pair
    assert (status.model, status.dtype, status.device) == ("", "", "")
    assert "weights" not in log
