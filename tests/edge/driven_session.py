"""An `EdgeSession` with a table for a model, stepped by hand."""

from __future__ import annotations

from typing import Any

from fakes import TableVocabulary, random_law
from thinwire.common.errors import TransportError
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import DraftBlock, Opened, Verdict
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.events import (
    Connected,
    Decided,
    Draft,
    Drafted,
    DraftedBlock,
    EdgeEffect,
    EdgeEvent,
    Finish,
    OpenedReceived,
    Send,
    VerdictReceived,
)
from thinwire.edge.meter import Tally, measure
from thinwire.edge.session import EdgeSession
from thinwire.edge.text_stream import TextStream

SIZE = 6
PROMPT = (0, 1)
VOCABULARY = TableVocabulary(SIZE)
SCHEME = KSqs.Parameters(support_size=3, lattice_resolution=20)
LAW = random_law(SIZE, 1)
LINK_ERROR = TransportError("torn.")


class Driven:
    """A session with what a shell would keep: the cache and the last effects."""

    def __init__(
        self,
        *,
        prompt: tuple[int, ...] = PROMPT,
        context_length: int = 64,
        patience_s: float = 60.0,
        round_timeout_s: float = 5.0,
        least_round_timeout_s: float | None = None,
        special_tokens: dict[str, int] | None = None,
        **changes: Any,
    ):
        self.parameters = GenerationRequest(
            "", seed=7, scheme=SCHEME, **{"draft_length": 3, "min_block_acceptance": 0.0, **changes}
        )
        self.scheme = make_scheme(SCHEME, vocabulary_size=SIZE)
        self.session = EdgeSession(
            self.parameters,
            prompt,
            vocabulary=VOCABULARY.identity,
            scheme=self.scheme,
            text=TextStream(
                TableVocabulary(SIZE, special_tokens=special_tokens).decode,
                stop=self.parameters.stop,
                special_tokens=special_tokens,
            ),
            context_length=context_length,
            round_timeout_s=round_timeout_s,
            least_round_timeout_s=least_round_timeout_s,
            patience_s=patience_s,
        )
        self._tally = Tally(self.session.statistics)
        self.now = 100.0
        self.draft: Draft | None = None
        self.block: DraftedBlock | None = None
        self.sent: DraftBlock | None = None
        self.effects: list[EdgeEffect] = []

    def step(self, event: EdgeEvent) -> list[EdgeEffect]:
        """Step now, remembering the last Draft and block."""
        self.effects = self.session.step(event, self.now)
        for effect in self.effects:
            if isinstance(effect, Draft):
                self.draft = effect
            if isinstance(effect, Decided):
                self._tally.add(measure(effect, self.scheme))
            if isinstance(effect, Send) and isinstance(effect.message, DraftBlock):
                self.sent = effect.message
        return self.effects

    def open(self, **changes: Any) -> list[EdgeEffect]:
        """Start and open."""
        self.step(Connected())
        return self.step(OpenedReceived(opened(**changes)))

    def drafted(self) -> Drafted:
        """What the last Draft effect comes to."""
        draft = self.draft
        assert draft is not None
        builder = DraftBlockBuilder(draft, self.scheme, KeyedDraws(7))
        prefix = self.session.committed_token_ids
        while not builder.complete:
            prefix = (*prefix, builder.offer(LAW(prefix)))  # type: ignore[assignment]
        length = draft.first_position + max(0, draft.max_draft_length - 1) if draft.max_draft_length else 0
        self.block = builder.build(cache_length=length, draft_s=0.0)
        return Drafted(draft.attempt, self.block)

    def round(self) -> list[EdgeEffect]:
        """Draft and send."""
        return self.step(self.drafted())

    def verdict(self, accepted: int, next_token_id: int = 2, **changes: int) -> list[EdgeEffect]:
        """Answer the block sent last."""
        assert self.sent is not None
        values = {
            "round": self.sent.round,
            "committed_length": self.sent.base_length + accepted + 1,
            **changes,
        }
        return self.step(VerdictReceived(Verdict(accepted=accepted, next_token_id=next_token_id, **values)))

    @property
    def drafted_ids(self) -> list[int]:
        """Tokens of the last block."""
        assert self.block is not None
        return [token.token_id for token in self.block.tokens]


def opened(**changes: Any) -> Opened:
    """A good answer to the first Open."""
    values: dict[str, Any] = {
        "session_id": bytes(16), "epoch": 1, "context_length": 64, "eos_token_ids": (5,),
        "committed_length": len(PROMPT), "next_round": 1, **changes,
    }  # fmt: skip
    return Opened(**values)


def only(effects: list[EdgeEffect], kind: type[Any]) -> Any:
    """The one effect of a kind."""
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, effects
    return found[0]


def finish_of(effects: list[EdgeEffect]) -> Finish:
    """Finish, which must be the last effect."""
    assert isinstance(effects[-1], Finish)
    return effects[-1]
