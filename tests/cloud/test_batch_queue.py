"""The choice of the next pass: bounds, order within a tenant, fairness between tenants."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.cloud.batch_queue import BatchQueue, PassWork
from thinwire.common.errors import LocalProtocolError, ResourceExhaustedError


def never(*_: Any) -> Any:
    """The queue itself does no work."""
    raise AssertionError("the queue did the work")


def item(number: int, *, tenant: str = "a", tokens: int = 5, is_round: bool = True) -> PassWork:
    """Work of session `number`."""
    return PassWork(tenant, number.to_bytes(4, "big"), tokens, is_round, never, never)


def queue(*, max_rounds: int = 1000, max_sequences: int = 8, max_tokens: int = 100) -> BatchQueue:
    """An empty one."""
    return BatchQueue(max_rounds=max_rounds, max_sequences=max_sequences, max_tokens=max_tokens)


def tenants(batch: list[PassWork]) -> str:
    """One letter each."""
    return "".join(one.tenant for one in batch)


WORK = st.tuples(st.sampled_from("abc"), st.integers(1, 60))


@given(
    steps=st.lists(st.one_of(WORK, st.none()), max_size=60),
    max_sequences=st.integers(1, 6),
    max_tokens=st.integers(1, 80),
)
def test_a_pass_keeps_its_bounds_and_each_tenants_order(
    steps: list[tuple[str, int] | None], max_sequences: int, max_tokens: int
) -> None:
    """Nothing is lost or doubled; a pass above the tokens is one piece of work; who waits is served."""
    line = queue(max_sequences=max_sequences, max_tokens=max_tokens)
    put: list[PassWork] = []
    taken: list[PassWork] = []
    for number, step in enumerate([*steps, *[None] * len(steps)]):
        if step is not None:
            put.append(item(number, tenant=step[0], tokens=step[1]))
            line.put(put[-1])
            continue
        waiting = len(line)
        batch = line.take()
        tokens = sum(one.tokens for one in batch)

        assert len(batch) <= max_sequences
        assert tokens <= max_tokens or len(batch) == 1
        assert bool(batch) == bool(waiting)
        assert len(line) == waiting - len(batch)
        taken += batch

    for tenant in "abc":
        assert [one for one in taken if one.tenant == tenant] == [one for one in put if one.tenant == tenant]


@given(
    lines=st.lists(st.integers(0, 12), min_size=2, max_size=4),
    max_sequences=st.integers(1, 5),
)
def test_tenants_that_wait_are_served_alike(lines: list[int], max_sequences: int) -> None:
    """However long one tenant's line is: while both wait, no tenant is ever two rounds ahead of another."""
    line = queue(max_sequences=max_sequences)
    for index, count in enumerate(lines):
        for number in range(count):
            line.put(item(100 * index + number, tenant="abcd"[index]))
    served = [0] * len(lines)
    while len(line):
        for one in line.take():
            served["abcd".index(one.tenant)] += 1
            still = [n for n, count in enumerate(lines) if served[n] < count]

            assert all(abs(served[m] - served[n]) <= 1 for m in still for n in still)
    assert served == lines


@given(small=st.lists(st.sampled_from("bc"), max_size=40), tokens=st.integers(1, 100))
def test_a_large_piece_of_work_is_not_overtaken_for_ever(small: list[str], tokens: int) -> None:
    """It is in the second pass at the latest, whoever else comes."""
    line = queue()
    for number, tenant in enumerate(small):
        line.put(item(number, tenant=tenant))
    line.put(item(1000, tenant="a", tokens=tokens, is_round=False))
    first = line.take()
    for number, tenant in enumerate(small):
        line.put(item(2000 + number, tenant=tenant))
    second = line.take()

    assert item(1000).session in {one.session for one in first + second}


def test_tenants_take_turns_within_and_between_passes() -> None:
    """One round each in turn, and the next pass goes on where the last one stopped."""
    line = queue(max_sequences=4)
    for number in range(6):
        line.put(item(number, tenant="a"))
    for number in range(6, 9):
        line.put(item(number, tenant="b"))
    line.put(item(9, tenant="c"))

    assert [tenants(line.take()) for _ in range(3)] == ["abca", "baba", "aa"]


def test_a_lone_round_is_taken_at_once() -> None:
    """There is no barrier: a pass of one is a pass."""
    line = queue()
    line.put(item(1))

    assert len(line.take()) == 1
    assert line.take() == []


def test_rounds_in_line_are_bounded_and_pieces_of_prompts_are_not_refused() -> None:
    """The refusal says how many wait; a pass makes room again."""
    line = queue(max_rounds=2, max_sequences=1)
    line.put(item(1))
    line.put(item(2))
    with pytest.raises(
        ResourceExhaustedError, match="2 rounds wait for the target model; expected fewer than 2"
    ):
        line.put(item(3))
    line.put(item(4, is_round=False))
    line.take()
    line.put(item(3))

    assert len(line) == 3


def test_a_session_stands_in_line_once() -> None:
    """Two rounds of one session at once are a bug of ours."""
    line = queue()
    line.put(item(1))

    with pytest.raises(LocalProtocolError, match="in line twice"):
        line.put(item(1))
