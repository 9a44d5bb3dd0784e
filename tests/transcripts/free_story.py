"""
A free-running conversation, told line by line: both sessions in memory, times in place of chance.

`FreeRunningPair` lets chance decide what happens next; here everything has its time, as in `InMemoryPair`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fakes import random_law
from free_running_pair import FreeRunningPair, coupled_request, own_text
from thinwire.cloud import events as cloud_events
from thinwire.common import wire
from thinwire.common.errors import ThinwireError, TransportError
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.edge import events as edge_events
from transcripts.shown import CLOUD, DOWN, EDGE, LINK, UP, fields_of

SIZE = 6
HOP_S, PASS_S, DRAFTED_S, RECONNECT_S = 0.02, 0.1, 0.01, 0.15
TARGET = random_law(SIZE, 1)
_OTHER = random_law(SIZE, 2)


def _half(prefix: Any) -> Any:
    """Right now and then."""
    return 0.5 * TARGET(prefix) + 0.5 * _OTHER(prefix)


@dataclass(frozen=True)
class FreeStory:
    """One transcript."""

    title: str
    max_tokens: int
    draft_length: int
    cut_at_s: float | None = None
    forgets: bool = False
    """Whether the cloud loses the session with the link."""

    def told(self) -> str:
        """The transcript."""
        request = coupled_request(
            max_tokens=self.max_tokens, draft_length=self.draft_length, min_block_acceptance=0.0
        )
        pair = _ToldPair(request, cut_at_s=self.cut_at_s, forgets=self.forgets)
        assert pair.run() == own_text(TARGET, KeyedDraws(request.seed), self.max_tokens)
        return "\n".join([f"# {self.title}", *pair.lines]) + "\n"


class _Line(deque[Any]):
    """Things under way in one direction, each with a time before which it cannot happen."""

    def __init__(self, tell: Callable[[Any], None], due_s: Callable[[], float]) -> None:
        super().__init__()
        self._tell, self._due_s = tell, due_s
        self.times: deque[float] = deque()

    def append(self, item: Any) -> None:
        """One more, told now."""
        self._tell(item)
        self.times.append(self._due_s())
        super().append(item)

    def popleft(self) -> Any:
        """The next."""
        self.times.popleft()
        return super().popleft()

    def clear(self) -> None:
        """What is under way is lost."""
        self.times.clear()
        super().clear()


class _ToldPair(FreeRunningPair):
    """A pair in which everything takes its time, and that writes down what happens."""

    def __init__(self, request: Any, *, cut_at_s: float | None, forgets: bool) -> None:
        super().__init__(request, TARGET, _half, random.Random(0))
        self._cut_at_s, self._forgets = cut_at_s, forgets
        self._drafted_at_s = self._wait_until_s = self._back_at_s = self._free_at_s = 0.0
        self._sessions = 0
        self._writer = wire.EdgeStreamWriter()
        self.lines: list[str] = []
        self.up = _Line(self._tell_up, lambda: self.now + HOP_S)
        self.down = _Line(self._tell_down, lambda: self.now + HOP_S)
        self.cloud_work = _Line(lambda work: None, self._done_at_s)
        step = self.edge.step
        self.edge.step = lambda event, now: self._told(step(event, now))  # type: ignore[method-assign]

    def run(self) -> tuple[int, ...]:
        """Until the text is over; the output ids."""
        self.is_linked = True
        self.step_edge(edge_events.Connected())
        while self.finish is None:
            self.now, _, act = min(self._due(), key=lambda due: due[:2])
            act()
        while self.up:
            self.now = self.up.times[0]
            self.deliver_up()
        return tuple(self.token_ids)

    def _due(self) -> list[tuple[float, int, Callable[[], None]]]:
        """(time, order, what happens) of everything that may come next."""
        due: list[tuple[float, int, Callable[[], None]]] = []
        for order, (line, act) in enumerate(
            ((self.down, self.deliver_down), (self.up, self.deliver_up), (self.cloud_work, self.work))
        ):
            if line:
                due.append((line.times[0], order, act))
        if self.drafting is not None:
            due.append((self._drafted_at_s, 3, self.drafted))
        if self.cloud is not None and self.cloud.is_waiting:
            due.append((self._wait_until_s, 4, self.wait_ended))
        if not self.is_linked:
            due.append((self._back_at_s, 5, self.reconnect))
        if self._cut_at_s is not None:
            due.append((self._cut_at_s, 6, self.cut))
        return due

    def _done_at_s(self) -> float:
        """Pieces of work are done one after the other; only a pass of the target takes time."""
        self._free_at_s = max(self._free_at_s, self.now) + PASS_S
        return self._free_at_s

    # --- what is told -------------------------------------------------------------------------------------

    def tell(self, who: str, what: str) -> None:
        """One line."""
        self.lines.append(f"{self.now:5.2f}  {who:<13}  {what}")

    def _tell_message(self, who: str, message: Any) -> None:
        ((field, inner),) = message.ListFields()
        self.tell(who, f"{field.name}, {message.ByteSize()} bytes: {fields_of(inner)}")

    def _tell_up(self, message: Any) -> None:
        self._tell_message(UP, self._writer.to_proto(message))

    def _tell_down(self, message: Any) -> None:
        if isinstance(message, TransportError):
            return
        if isinstance(message, ThinwireError):
            self.tell(DOWN, f"status {message.status}, {message.reason}: {message.message}")
        else:
            self._tell_message(DOWN, wire.reply_to_proto(message))

    def _told(self, effects: list[Any]) -> list[Any]:
        for effect in effects:
            match effect:
                case edge_events.Draft():
                    self.tell(
                        EDGE, f"drafts up to {effect.max_draft_length} tokens from {effect.first_position}"
                    )
                    self._drafted_at_s = self.now + DRAFTED_S * effect.max_draft_length
                case edge_events.TruncateCache():
                    self.tell(EDGE, f"rolls its cache back to {effect.length} tokens")
                case edge_events.CutDraft():
                    self.tell(EDGE, "cuts its draft short: it builds on a wrong guess")
                    self._drafted_at_s = min(self._drafted_at_s, self.now + DRAFTED_S)
                case edge_events.Emit(tokens):
                    self.tell(EDGE, "commits " + ", ".join(f"{t.token_id} ({t.kind.value})" for t in tokens))
                case edge_events.Reconnect(attempt):
                    self.tell(EDGE, f"reconnects, attempt {attempt}")
                    self._back_at_s = self.now + RECONNECT_S
                case edge_events.Finish(reason):
                    self.tell(EDGE, f"ends: {reason.value}")
        return effects

    def opened(self, message: Any) -> None:
        """A session with an id that is the same every time."""
        before = self.cloud
        self.chance = random.Random(self._sessions)
        super().opened(message)
        if self.cloud is not before:
            self._sessions += 1

    def step_cloud(self, event: Any) -> None:
        """As it is, and the wait for a hint with its end."""
        assert self.cloud is not None
        session = self.cloud
        if "step" not in vars(session):
            step = session.step
            session.step = lambda event, now: self._waited(step(event, now))  # type: ignore[method-assign]
        super().step_cloud(event)

    def _waited(self, effects: list[Any]) -> list[Any]:
        for effect in effects:
            match effect:
                case cloud_events.AwaitHint(at_s):
                    self._wait_until_s = at_s
                    self.tell(CLOUD, f"waits for a hint until {at_s:.3f}")
        return effects

    # --- what goes wrong ----------------------------------------------------------------------------------

    def cut(self) -> None:
        """The link breaks, once; a cloud that forgets has lost the session with it."""
        self._cut_at_s = None
        self.tell(LINK, "cut")
        if self._forgets:
            self.tell(CLOUD, "restarts, without its sessions")
            self.cloud, self.cloud_cache = None, []
            self.cloud_work.clear()
        super().cut()
        self.down.times[-1] = self.now


FREE_STORIES = {
    "free-running": FreeStory(
        "The cloud writes on; hints come up, one is wrong, the link is cut, and the text goes on.",
        12,
        draft_length=4,
        cut_at_s=0.43,
    ),
    "free-running-alone": FreeStory(
        "Without a draft the edge acknowledges every 16 tokens.", 18, draft_length=0
    ),
    "free-running-restart": FreeStory(
        "The cloud restarts and has lost the session; another one opens with all that is received.",
        8,
        draft_length=4,
        cut_at_s=0.25,
        forgets=True,
    ),
}
