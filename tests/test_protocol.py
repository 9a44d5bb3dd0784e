"""The transition table: complete, closed, and the same in code and documentation."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from thinwire.common.errors import LocalProtocolError
from thinwire.common.session.states import TERMINAL, TRANSITIONS, Happening, State, after

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "protocol.md"


def table() -> str:
    """The table in Markdown, as `docs/protocol.md` shows it."""
    states = [state for state in State if state not in TERMINAL]
    lines = ["| " + " | ".join(["", *(state.value for state in states)]) + " |"]
    lines.append("|" + " --- |" * (len(states) + 1))
    for happening in Happening:
        row = [TRANSITIONS.get((state, happening)) for state in states]
        lines.append("| " + " | ".join([happening.value, *(s.value if s else "–" for s in row)]) + " |")
    return "\n".join(lines)


def test_the_documented_table_is_the_one_in_the_code() -> None:
    """docs/protocol.md shows exactly what `table()` prints."""
    assert table() in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize(("state", "happening"), list(product(State, Happening)))
def test_every_state_and_happening_has_a_next_state_or_the_documented_error(
    state: State, happening: Happening
) -> None:
    """No pair is undefined: a row of the table, or LocalProtocolError."""
    if (state, happening) in TRANSITIONS:
        assert after(state, happening) is TRANSITIONS[state, happening]
    else:
        with pytest.raises(LocalProtocolError, match="not in the transition table"):
            after(state, happening)


@pytest.mark.parametrize("state", sorted(TERMINAL, key=str))
def test_nothing_leads_out_of_a_terminal_state(state: State) -> None:
    """Closed and failed are for good."""
    assert not [happening for happening in Happening if (state, happening) in TRANSITIONS]


@pytest.mark.parametrize("state", [state for state in State if state not in TERMINAL])
def test_every_living_state_can_close_and_can_fail(state: State) -> None:
    """No state is a trap."""
    assert after(state, Happening.CLOSE) is State.CLOSED
    assert after(state, Happening.FAULT) is State.FAILED
