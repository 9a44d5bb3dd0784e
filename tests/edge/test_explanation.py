"""`--explain`: numbers of the text itself, predictions by the closed forms, one line, no NaN."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from fakes import TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request
from thinwire.common.schemes import make_scheme, parse_scheme
from thinwire.common.session.generation import GenerationFinished, GenerationStarted
from thinwire.common.session.messages import FinishReason, Hints, Written
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.events import Passed, WrittenReceived
from thinwire.edge.explanation import explain
from thinwire.edge.forecast import Times, free_run, rounds
from thinwire.edge.meter import GenerationMeter
from thinwire.edge.report import Display, JsonLines, statistics_rows
from thinwire.edge.telemetry import RoundLog

FREE = GenerationStarted(1, 3, parse_scheme("coupled"), 6, "latency", "coupled for objective latency")
ROUNDS = GenerationStarted(1, 3, parse_scheme("k-sqs"), 6)
TIMES = {"total_s": 3.1, "first_token_s": 0.1, "draft_token_s": 0.003, "open_s": 0.05}
FREE_SEEN = GenerationStatistics(
    **TIMES,
    output_tokens=61,
    rounds=30,
    verify_s=1.5,
    queue_s=0.3,
    drafted_tokens=60,
    accepted_tokens=31,
    hints_judged=50,
    hints_right=40,
    hints_sent=44,
    hint_messages=11,
    copied_tokens=1,
    waits=4,
    wait_s=0.08,
    hint_age_s=0.09,
)
ROUNDS_SEEN = GenerationStatistics(
    **TIMES, output_tokens=61, rounds=20, verify_s=1.2, network_s=1.0,
    drafted_tokens=80, tested_tokens=50, accepted_tokens=41,
)  # fmt: skip
SIZE = 8
VOCABULARY = TableVocabulary(SIZE)
LAW = random_law(SIZE, 1)


def test_a_free_running_text_is_explained_by_its_own_numbers() -> None:
    """Measured, chosen, predicted by the closed form with these, and seen behind the first token."""
    it = explain(FREE, FREE_SEEN)
    form = free_run(Times(0.06, 0.05, 0.003), 0.8, 4, saves_passes=False)

    assert it.measured["match_rate"] == 0.8
    assert it.measured["pass_ms"] == pytest.approx(60)
    assert it.measured["guess_age_ms"] == pytest.approx(90)
    assert it.chosen == {
        "waits": 4,
        "wait_ms": pytest.approx(20),
        "guesses_per_message": 4,
        "rows_per_pass": 2,
    }
    assert it.predicted["tokens_per_s"] == pytest.approx(form.tokens_per_s * 61 / 60)
    assert it.seen == {"tokens_per_pass": pytest.approx(61 / 30), "tokens_per_s": pytest.approx(20)}


def test_rounds_are_explained_by_their_own_numbers() -> None:
    """The round trip is the rounds' less the cloud's time, the block the mean one."""
    it = explain(ROUNDS, ROUNDS_SEEN)
    form = rounds(Times(0.06, 0.05, 0.003), 0.82, 4)

    assert it.measured["acceptance_rate"] == 0.82
    assert it.chosen == {"tokens_per_block": 4, "longest_block": 6}
    assert it.predicted["tokens_per_pass"] == pytest.approx(form.tokens_per_pass)
    assert it.predicted["tokens_per_s"] == pytest.approx(form.tokens_per_s)
    assert it.seen["tokens_per_pass"] == pytest.approx(3.05)


def test_without_a_draft_a_plain_stream_is_predicted() -> None:
    """A pass a token, but for those that the cloud copied."""
    alone = GenerationStatistics(output_tokens=40, rounds=30, verify_s=1.5, copied_tokens=10, open_s=0.05)
    it = explain(FREE, alone)

    assert it.predicted == {
        "tokens_per_pass": pytest.approx(4 / 3),
        "tokens_per_s": pytest.approx(20 * 4 / 3),
    }


@pytest.mark.parametrize("started", [FREE, ROUNDS])
@pytest.mark.parametrize(
    "statistics",
    [
        GenerationStatistics(),
        GenerationStatistics(rounds=1, verify_s=0.1),
        GenerationStatistics(output_tokens=1, rounds=1, verify_s=0.1, total_s=1.0, first_token_s=1.0),
        GenerationStatistics(output_tokens=3, rounds=1, verify_s=0.1, copied_tokens=3, hints_judged=1),
    ],
)
def test_a_text_that_measured_next_to_nothing_is_explained_too(
    started: GenerationStarted, statistics: GenerationStatistics
) -> None:
    """With dashes, and as strict JSON."""
    it = explain(started, statistics)

    assert str(it).startswith(f"explain: scheme {started.scheme}")
    assert "nan" not in str(it)
    json.dumps(it.values(), allow_nan=False)


def test_the_line_stands_behind_the_table_and_in_json_as_a_field() -> None:
    """Only where it was asked for."""
    finished = GenerationFinished(FinishReason.LENGTH, "", FREE_SEEN)
    plain, explained, text = io.StringIO(), io.StringIO(), io.StringIO()
    for file, explains in ((plain, False), (explained, True)):
        console = Console(file=file, highlight=False)
        display = Display(Console(file=text), console, prompt=None, explains=console if explains else None)
        lines = io.StringIO()
        json_lines = JsonLines(lines, explains=explains)
        for event in (FREE, finished):
            display.show(event)
            json_lines.show(event)
        said = json.loads(lines.getvalue())
        assert said["choice"] == FREE.choice
        assert said["scheme"] == "coupled:lock_step=0"
        assert ("explanation" in said) is explains

    assert "explain: " not in plain.getvalue()
    (line,) = [line for line in explained.getvalue().splitlines() if line.startswith("explain: ")]
    assert "(coupled for objective latency); measured match rate 0.8, judged guesses 50, pass 60 ms" in line
    assert explained.getvalue().endswith(line + "\n")


async def test_the_round_log_says_what_was_taken_and_why(tmp_path: Path) -> None:
    """And the command's line and table say it too: here the cloud serves coupled, so that is taken."""
    path = tmp_path / "rounds.jsonl"
    models = WatchedModel(LAW, context_length=512), WatchedModel(LAW, context_length=512)
    log = RoundLog(str(path))
    async with loopback(*models, VOCABULARY, round_log=log) as both:
        done = await generate(both.client, make_request(scheme="auto", max_tokens=40))
    log.close()
    (line,) = [
        line for line in map(json.loads, path.read_text().splitlines()) if line["kind"] == "generation"
    ]

    assert line["scheme"] == str(done.started.scheme) == "coupled:lock_step=0"
    assert line["choice"] == done.started.choice
    assert line["choice"].startswith("coupled for objective latency (")
    assert dict(statistics_rows(done.finished, done.started))["  chosen by auto"] == done.started.choice


@pytest.mark.parametrize("scheme", ["coupled", "auto"])
async def test_what_it_is_made_of_comes_from_the_daemons(scheme: str) -> None:
    """Through real gRPC: every number is there, hints and copies add up, and auto's text is coupled's."""
    models = WatchedModel(LAW, context_length=512), WatchedModel(LAW, context_length=512)
    async with loopback(*models, VOCABULARY) as both:
        plain = await generate(both.client, make_request(scheme="coupled", max_tokens=200))
        done = await generate(both.client, make_request(scheme=scheme, max_tokens=200))
    s = done.finished.statistics

    assert done.token_ids == plain.token_ids
    assert done.started.scheme.scheme == "coupled"
    assert bool(done.started.choice) is (scheme == "auto")
    assert s.hints_right == s.hints_judged > 10  # the draft is the target
    assert s.hints_sent >= s.accepted_tokens - s.copied_tokens > 0
    assert 1 <= s.hint_messages <= s.hints_sent
    assert s.open_s > 0
    assert s.draft_token_s > 0
    assert s.hint_age_s > 0
    assert all(value is not None for value in explain(done.started, s).predicted.values())


def test_the_meter_adds_up_waits_and_the_age_of_guesses_that_were_used() -> None:
    """Ids 4 to 6 went up at 1.0 s and 7 at 1.5; a pass at 2.0 used 4 and 5, one at 3.0 a copied one."""
    statistics = GenerationStatistics()
    scheme = make_scheme(parse_scheme("coupled"), vocabulary_size=SIZE)
    meter = GenerationMeter(scheme, statistics, started_s=0.0)
    meter.sent(Hints(held_length=3, ahead=1, draft_length=3, payload=b"abc"), 9, 1.0)
    meter.sent(Hints(held_length=3, ahead=4, draft_length=1, payload=b"d"), 9, 1.5)
    meter.sent(Hints(held_length=4, ahead=0, draft_length=0, payload=b""), 9, 1.6)
    for written, at_s in (
        (Written(4, (1, 2, 3), 2, 3, wait_us=20_000), 2.0),
        (Written(7, (1, 2), 1, 1, copied=1), 3.0),
    ):
        meter.received(WrittenReceived(written), 10, at_s)
        meter.counted(Passed(written))
    made = meter.statistics()

    assert (made.hints_sent, made.hint_messages) == (4, 2)
    assert (made.waits, made.wait_s, made.copied_tokens) == (1, 0.02, 1)
    assert made.hint_age_s == pytest.approx(1.0)


async def test_rounds_measure_drafting_and_no_hints() -> None:
    """What only a free-running text has is 0, or not there."""
    models = WatchedModel(LAW, context_length=512), WatchedModel(LAW, context_length=512)
    async with loopback(*models, VOCABULARY) as both:
        done = await generate(both.client, make_request(max_tokens=60))
    s = done.finished.statistics

    assert (s.hints_sent, s.hints_judged, s.waits, s.wait_s, s.copied_tokens) == (0, 0, 0, 0.0, 0)
    assert s.draft_token_s > 0
    assert s.open_s > 0
    assert explain(done.started, s).predicted["tokens_per_s"] is not None
