"""What a person sees: the table's words, colours only where there are any, JSON that any parser reads."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console

from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.generation import (
    GenerationEvent,
    GenerationFinished,
    GenerationStarted,
    Token,
)
from thinwire.common.session.messages import FinishReason, TokenKind
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.report import Display, JsonLines, guarantee_text, statistics_rows

STARTED = GenerationStarted(seed=2**64 - 1, prompt_tokens=3, scheme=KSqs.Parameters(), draft_length=4)
STATISTICS = GenerationStatistics(
    output_tokens=10,
    rounds=4,
    drafted_tokens=16,
    tested_tokens=8,
    accepted_tokens=6,
    resampled_tokens=2,
    uplink_payload_bits=160,
    uplink_message_bytes=100,
    downlink_message_bytes=80,
    mean_dropped_mass=0.02,
    kept_positions=8,
    total_s=2.0,
)
EVENTS: list[GenerationEvent] = [
    STARTED,
    (Token(1, TokenKind.ACCEPTED, "one [red]"), Token(2, TokenKind.RESAMPLED, " two")),
    (Token(3, TokenKind.BONUS, " \x1b[2Jthree\n\tfour"),),
    GenerationFinished(FinishReason.EOS, " held", STATISTICS),
]


def shown(console: Console, prompt: str | None = None) -> str:
    """Everything a display writes."""
    display = Display(console, console, prompt=prompt)
    for event in EVENTS:
        display.show(event)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize(
    ("bound", "cap_binding_rate", "expected"),
    [
        (None, 0.0, "–"),
        (None, 0.5, "–"),
        (0.0612, 0.0, "0.0612"),
        (0.0612, 0.009, "0.0612"),
        (0.0612, 0.01, "void (cap bound on 1 %)"),
        (1.7, 0.0, "vacuous (> 1)"),
        (1.7, 0.5, "void (cap bound on 50 %)"),
    ],
)
def test_the_guarantee_says_when_it_says_nothing(
    bound: float | None, cap_binding_rate: float, expected: str
) -> None:
    """'–' without a guarantee, void where the cap binds on 1 % or more, vacuous above 1."""
    statistics = GenerationStatistics(dropped_mass_guarantee=bound, cap_binding_rate=cap_binding_rate)

    assert guarantee_text(statistics) == expected


def test_the_table_shows_rates_of_the_right_totals() -> None:
    """Acceptance is of tested, resampling of output tokens; payload per drafted and per output token."""
    rows = dict(statistics_rows(GenerationFinished(FinishReason.EOS, "", STATISTICS), STARTED))

    assert rows["tokens/s"] == "5.0"
    assert rows["block efficiency"].startswith("2.50")
    assert rows["acceptance rate"].startswith("0.750")
    assert rows["resampling rate"].startswith("0.200")
    assert rows["uplink payload"] == "10.0 bits a drafted token, 16.0 bits an output token"
    assert rows["seed"] == str(2**64 - 1)


def test_the_table_says_from_where_on_the_draft_was_full() -> None:
    """And nothing where it never was: rates are of the drafted part alone."""
    for first, expected in ((0, None), (9, "full from output token 9 on; the cloud wrote alone")):
        finished = GenerationFinished(FinishReason.CONTEXT, "", GenerationStatistics(draft_full_from=first))

        assert dict(statistics_rows(finished, STARTED)).get("draft context") == expected


def test_a_generation_without_drafts_shows_dashes() -> None:
    """γ = 0 tests nothing: no rate, no mass, no division by zero."""
    finished = GenerationFinished(FinishReason.LENGTH, "", GenerationStatistics(output_tokens=1, rounds=1))
    rows = dict(statistics_rows(finished, STARTED))

    assert rows["acceptance rate"].startswith("–")
    assert rows["mean dropped mass"] == "–"


def test_a_pipe_gets_the_text_as_it_is() -> None:
    """No escape sequences of ours, no markup read, nothing of the text changed."""
    text = shown(Console(file=io.StringIO(), highlight=False))

    assert text.startswith("one [red] two \x1b[2Jthree\n\tfour held\n")


def test_text_and_table_go_different_ways() -> None:
    """A file gets the text and a line end; without a second stream there is no table."""
    text, table = io.StringIO(), io.StringIO()
    for statistics in (Console(file=table, highlight=False), None):
        display = Display(Console(file=text, highlight=False), statistics, prompt=None)
        for event in EVENTS:
            display.show(event)

    assert text.getvalue() == 2 * "one [red] two \x1b[2Jthree\n\tfour held\n"
    assert table.getvalue().count("tokens/s") == 1


def test_a_terminal_tells_the_kinds_of_tokens_apart() -> None:
    """Three colours and a legend; control characters of the text do not reach the terminal."""
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="standard", highlight=False, width=80
    )
    text = shown(console, prompt="Prompt:")

    assert "\x1b[32mone [red]" in text
    assert "\x1b[1;31m two" in text
    assert "accepted draft" in text
    assert "Prompt:" in text
    assert "\x1b[2J" not in text


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR the terminal gets no colour and no legend."""
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", highlight=False)
    text = shown(console)

    assert "\x1b[32m" not in text
    assert "31m" not in text
    assert "accepted draft" not in text


def test_json_is_one_object_a_line_with_the_statistics_last() -> None:
    """Token events, then the statistics; NaN is null."""
    file = io.StringIO()
    lines = JsonLines(file)
    for event in EVENTS[:-1]:
        lines.show(event)
    lines.show(GenerationFinished(FinishReason.EOS, " held", GenerationStatistics()))
    objects = [json.loads(line) for line in file.getvalue().splitlines()]

    assert [o["event"] for o in objects] == ["token"] * 3 + ["statistics"]
    assert objects[1] == {"event": "token", "token_id": 2, "kind": "resampled", "text": " two"}
    assert objects[-1]["text"] == "one [red] two \x1b[2Jthree\n\tfour held"
    assert objects[-1]["seed"] == 2**64 - 1
    assert objects[-1]["reason"] == "eos"
    assert objects[-1]["mean_dropped_mass"] is None
    assert math.isnan(GenerationStatistics().mean_dropped_mass)
