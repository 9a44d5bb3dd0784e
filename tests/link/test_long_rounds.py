"""
A round longer than 64 KiB takes one round trip, as any other: HTTP/2's window does not hold up its end.

How long a round was beyond the cloud's own work is the edge's word; a second round trip cannot hide in it.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from link.description import LinkDescription
from link.link import NamespaceLink
from loopback import make_request
from tests.link.on_link import ask, start, stop

RTT_S = 0.2
LINE = LinkDescription(rate_up_bps=100_000_000, rate_down_bps=100_000_000, rtt_s=RTT_S, queue_bytes=4_000_000)
"""So fast that four long rounds together take 50 ms of it."""
VOCABULARY_SIZE = 16_384
DRAFT_LENGTH = 4
ROUND_BYTES = DRAFT_LENGTH * (2 * VOCABULARY_SIZE + 2)
"""131 080, of dense-f16: two of HTTP/2's own windows."""
TOKENS = 40
WARM_UP_ROUNDS = 4
"""Until TCP's congestion window holds the rounds of all texts."""

Texts = Callable[[int], dict[str, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Texts]:
    """Makes so many texts together; gives the edge's lines of their rounds, by session."""
    log = tmp_path_factory.mktemp("long-rounds") / "rounds"
    size, daemons = str(VOCABULARY_SIZE), "tests.link.table_daemons"
    with ExitStack() as pipes, NamespaceLink(LINE, kind="wire", congestion_control="cubic", seed=0) as link:
        cloud, port = start(pipes, link.cloud, daemons, size, "cloud", f"{link.cloud.address}:0")
        edge, _ = start(pipes, link.edge, daemons, size, "edge", f"{link.cloud.address}:{port}", str(log))

        def make(count: int) -> dict[str, list[dict[str, Any]]]:
            known = len(lines_of(log))
            one = make_request(
                "a",
                scheme="dense-f16",
                draft_length=DRAFT_LENGTH,
                min_block_acceptance=0.0,
                max_tokens=TOKENS,
            )
            assert ask(edge, *[one] * count) == count * TOKENS
            rounds = defaultdict(list)
            for line in lines_of(log)[known:]:
                rounds[line["session"]].append(line)
            return rounds

        yield make
        for process in (edge, cloud):
            stop(process)


def lines_of(log: Path) -> list[dict[str, Any]]:
    """The rounds in an edge's log."""
    return [line for text in log.read_text().splitlines() if (line := json.loads(text))["kind"] == "round"]


@pytest.mark.parametrize("count", [1, 4])
def test_a_long_round_takes_one_round_trip(texts: Texts, count: int) -> None:
    """Alone, and beside three others that share the connection's window and the line."""
    sessions = texts(count)

    assert len(sessions) == count
    for rounds in sessions.values():
        whole = [line for line in rounds if line["draft_length"] == DRAFT_LENGTH][WARM_UP_ROUNDS:]
        on_the_way_s = [line["round_trip_s"] - line["queue_s"] - line["verify_s"] for line in whole]
        assert {line["uplink_payload_bits"] for line in whole} == {8 * ROUND_BYTES}
        assert len(whole) >= 5
        assert RTT_S < statistics.median(on_the_way_s) < 1.5 * RTT_S
