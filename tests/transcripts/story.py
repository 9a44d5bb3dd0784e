"""
What crosses the link, told line by line: both sessions in memory, two tables for models, a fixed seed.

A line is a time in seconds, who speaks to whom, and the message with its serialised bytes and its fields, as
the wire has them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes import random_law, random_table
from in_memory_cloud import Stream
from in_memory_pair import InMemoryPair
from thinwire.common import wire
from thinwire.common.errors import ThinwireError
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import Close, DraftBlock, Open, Opened, Verdict
from thinwire.edge import events
from transcripts.free_story import FREE_STORIES, FreeStory
from transcripts.shown import CLOUD, DOWN, EDGE, LINK, UP, fields_of
from weather import Fault

SIZE = 6
PROMPT = (0, 1, 0, 2)
FATES = {Fault.DROP: "lost", Fault.DUPLICATE: "arrives twice", Fault.CUT_BEFORE: "lost"}


@dataclass(frozen=True)
class Story:
    """One transcript."""

    title: str
    max_tokens: int
    faults: Sequence[Fault] = ()
    """What happens to the first messages, in the order they are sent."""
    target_context_length: int | None = None

    def told(self) -> str:
        """The transcript."""
        request = GenerationRequest(
            "",
            seed=5,
            scheme=KSqs.Parameters(support_size=3, lattice_resolution=20),
            max_tokens=self.max_tokens,
            draft_length=3,
            min_block_acceptance=0.0,
        )
        pair = _ToldPair(
            request,
            PROMPT,
            random_law(SIZE, 1),
            random_table(2, SIZE),
            faults=self.faults,
            target_context_length=self.target_context_length,
        )
        pair.run()
        return "\n".join([f"# {self.title}", *pair.lines]) + "\n"


STORIES: dict[str, Story | FreeStory] = {
    "open": Story("A session opens; its first round has no room for a draft, and the cloud alone speaks.", 1),
    "rounds": Story(
        "Rounds: a block is accepted as far as the target allows, and one token more comes down.", 9
    ),
    "cut": Story(
        "The link is cut before a block arrives; the same bytes go up on a new stream.",
        5,
        [Fault.NONE, Fault.NONE, Fault.CUT_BEFORE],
    ),
    "resume": Story(
        "A verdict is lost; the edge's deadline passes, it resumes, and the cloud repeats its verdict.",
        5,
        [Fault.NONE, Fault.NONE, Fault.NONE, Fault.DROP],
    ),
    "restart": Story(
        "The cloud restarts and has lost the session; another one opens with all that is committed.",
        7,
        [Fault.NONE] * 4 + [Fault.RESTART],
    ),
    "refusal": Story("A prompt that fills the target's context is refused.", 5, target_context_length=4),
    **FREE_STORIES,
}

SHOWN_ON_PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
_LONGEST_LINE = 110


def page_part() -> str:
    """What the page shows of the free-running conversation: its lines, the longest cut short."""
    lines = STORIES["free-running"].told().splitlines()[1:]
    short = [
        line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1].rstrip("…") + "…" for line in lines
    ]
    return "\n".join(["```text", *short, "```"])


class _ToldPair(InMemoryPair):
    """A pair that writes down what happens."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._faults, fates = itertools.tee(self._faults)
        self._fates = (FATES.get(fault, "") for fault in fates)
        self._started_s = self._agenda.clock()
        self._writer = wire.EdgeStreamWriter()
        self.lines: list[str] = []

    def _tell(self, who: str, what: str) -> None:
        self.lines.append(f"{self._agenda.clock() - self._started_s:5.2f}  {who:<13}  {what}")

    def _tell_message(self, who: str, message: Any) -> None:
        ((field, inner),) = message.ListFields()
        fate = next(self._fates)
        head = f"{field.name}, {message.ByteSize()} bytes{fate and ', ' + fate}"
        self._tell(who, f"{head}: {fields_of(inner)}")

    def _send_up(self, message: Open | DraftBlock | Close) -> None:
        self._tell_message(UP, self._writer.to_proto(message))
        super()._send_up(message)

    def _send_down(self, stream: Stream, message: Opened | Verdict) -> None:
        self._tell_message(DOWN, wire.reply_to_proto(message))
        super()._send_down(stream, message)

    def _cut(self, stream: Stream, *, cloud_notices_s: float) -> None:
        self._tell(LINK, "cut")
        super()._cut(stream, cloud_notices_s=cloud_notices_s)

    def _restart(self, stream: Stream) -> None:
        self._tell(CLOUD, "restarts, without its sessions")
        super()._restart(stream)

    def _refuse(self, stream: Stream, error: ThinwireError) -> None:
        self._tell(DOWN, f"status {error.status}, {error.reason}: {error.message}")
        super()._refuse(stream, error)

    def _perform_edge(self, effect: events.EdgeEffect) -> None:
        match effect:
            case events.Draft():
                self._tell(
                    EDGE, f"drafts up to {effect.max_draft_length} tokens from {effect.first_position}"
                )
            case events.Emit(tokens):
                self._tell(EDGE, "commits " + ", ".join(f"{t.token_id} ({t.kind.value})" for t in tokens))
            case events.Reconnect(attempt):
                self._tell(EDGE, f"reconnects, attempt {attempt}")
            case events.Finish(reason, _, error):
                self._tell(EDGE, f"ends: {reason.value}" + (f", {error.reason}" if error else ""))
        super()._perform_edge(effect)
