"""
Both sessions of one text in one process, without gRPC, model or clock: python examples/in_memory_pair.py

The sessions do no I/O: an event goes in, effects come out, and this file performs them.
The daemons do it with a network and two models (`thinwire.edge.generation`, `thinwire.cloud.live_session`).
"""

from collections import deque

import numpy as np

from thinwire.cloud import events as cloud
from thinwire.cloud.session import CloudSession
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import Close, DraftBlock, Open, Opened, VocabularyIdentity
from thinwire.edge import events as edge
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.session import EdgeSession
from thinwire.edge.text_stream import TextStream

LETTERS = "abcdefgh"
PROMPT = (0,)
# The row of a token is the law of the next one.
TARGET, DRAFT = np.random.default_rng(5).dirichlet(np.ones(8), (2, 8))

request = GenerationRequest("a", seed=1, max_tokens=40)
scheme = make_scheme(request.scheme, vocabulary_size=len(LETTERS))
draws = KeyedDraws(request.seed)
edge_session = EdgeSession(
    request,
    PROMPT,
    vocabulary=VocabularyIdentity(len(LETTERS), bytes(32)),
    scheme=scheme,
    text=TextStream(lambda ids: "".join(LETTERS[token] for token in ids), prompt_token_ids=PROMPT),
    context_length=1000,
    round_timeout_s=60.0,
    patience_s=60.0,
)
cloud_session: CloudSession
edge_cache, cloud_cache = [], []
agenda = deque([edge.Connected()])


def perform_edge(effect):
    """What the edge's shell does."""
    global cloud_session
    match effect:
        case edge.Send(Open() as message):
            cloud_session = CloudSession(
                bytes(16),
                message,
                scheme=scheme,
                context_length=1000,
                eos_token_ids=(),
                resume_ttl_s=30.0,
                idle_ttl_s=600.0,
            )
            agenda.append(cloud.Attached(1))
        case edge.Send(DraftBlock() as message):
            print(f"round {message.round}: {message.draft_length} drafts in {len(message.payload)} bytes")
            agenda.append(cloud.BlockReceived(1, message))
        case edge.Send(Close() as message):
            agenda.append(cloud.CloseReceived(1))
        case edge.Draft():
            builder = DraftBlockBuilder(effect, scheme, draws)
            edge_cache.extend(effect.feed_token_ids)
            while not builder.complete:
                token_id = builder.offer(DRAFT[edge_cache[-1]])
                if token_id is not None and not builder.complete:
                    edge_cache.append(token_id)
            block = builder.build(cache_length=len(edge_cache), draft_s=0.0)
            agenda.append(edge.Drafted(effect.attempt, block))
        case edge.TruncateCache(length):
            del edge_cache[length:]
        case edge.Emit(tokens):
            print("   ", " ".join(f"{token.text}({token.kind.value})" for token in tokens))
        case edge.Finish(reason):
            print("ended by", reason.value)


def perform_cloud(effect):
    """What the cloud's shell does."""
    match effect:
        case cloud.Reply(_, Opened() as message):
            agenda.append(edge.OpenedReceived(message))
        case cloud.Reply(_, verdict):
            agenda.append(edge.VerdictReceived(verdict))
        case cloud.Prefill(token_ids):
            cloud_cache.extend(token_ids)
        case cloud.Decode(block):
            tokens = scheme.decode(block.payload, draft_length=block.draft_length, coding=block.coding)
            agenda.append(cloud.Decoded(block.round, tokens))
        case cloud.Score():
            cloud_cache.extend(effect.feed_token_ids)
            rows = [TARGET[token_id] for token_id in effect.feed_token_ids]
            outcome = scheme.verify(rows, effect.tokens, draws, first_position=effect.first_position)
            accepted = tuple(token.token_id for token in effect.tokens[: outcome.accepted])
            agenda.append(cloud.Scored(effect.round, accepted, outcome, queue_us=0, verify_us=0))
        case cloud.TruncateCache(length):
            del cloud_cache[length:]


while agenda:
    event = agenda.popleft()
    if isinstance(event, edge.EdgeEvent):
        for effect in edge_session.step(event, 0.0):
            perform_edge(effect)
    else:
        for effect in cloud_session.step(event, 0.0):
            perform_cloud(effect)
