"""
Records texts (`bench.capacity.texts`).

The recording goes through the edge's own code and a real cloud daemon over gRPC, one text at a time, so that
the draft times are those of an edge with nothing else to do.
Replayed under the same seed, the same bytes must get the same verdicts.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.capacity.texts import RecordedRound, RecordedText
from thinwire.common import wire
from thinwire.common.config import SamplingParameters, default_scheme
from thinwire.common.language_model import LanguageModel
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import DraftBlock, Open, Verdict
from thinwire.edge.cloud_link import CloudLink, CloudStream, FromCloud, Receive
from thinwire.edge.drafter import Drafter
from thinwire.edge.generation import run_generation
from thinwire.edge.meter import GenerationMeter
from thinwire.edge.session import EdgeSession
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.text_stream import TextStream


async def record_texts(
    draft: LanguageModel, cloud_address: str, prompts: Sequence[str], *, tokens: int, seed: int
) -> list[RecordedText]:
    """
    Generate one text a prompt and keep what crossed the link.

    Args:
        draft: the edge's model.
        cloud_address: of a cloud that does nothing else meanwhile.
        prompts: one a text.
        tokens: of each text; end-of-text is ignored.
        seed: of the first text; one more for each after it.
    """
    link = _RecordingLink(cloud_address, EdgeSettings())
    texts = []
    with ThreadPoolExecutor(1) as executor:
        for index, prompt in enumerate(prompts):
            sampling = SamplingParameters()
            parameters = GenerationRequest(
                "",
                seed=seed + index,
                scheme=default_scheme(sampling.temperature),
                sampling=sampling,
                max_tokens=tokens,
                ignore_eos=True,
            )
            texts.append(await _record(draft, link, executor, prompt, parameters))
    await link.close()
    return texts


async def _record(
    draft: LanguageModel,
    link: _RecordingLink,
    executor: ThreadPoolExecutor,
    prompt: str,
    parameters: GenerationRequest,
) -> RecordedText:
    vocabulary = draft.vocabulary
    scheme = make_scheme(parameters.scheme, vocabulary_size=vocabulary.identity.size)
    prompt_ids = tuple(vocabulary.encode(prompt))
    settings = EdgeSettings()
    session = EdgeSession(
        parameters,
        prompt_ids,
        vocabulary=vocabulary.identity,
        scheme=scheme,
        text=TextStream(vocabulary.decode, stop=(), prompt_token_ids=prompt_ids),
        context_length=draft.context_length,
        round_timeout_s=settings.round_timeout_s,
        patience_s=0.0,
    )
    meter = GenerationMeter(scheme, session.statistics, started_s=time.monotonic())
    draft_times_s: list[float] = []
    meter.subscribers.append(lambda measured: draft_times_s.append(measured.draft_s))
    link.begin()

    await run_generation(
        session,
        Drafter(draft, scheme, parameters.sampling, KeyedDraws(parameters.seed)),
        link,
        executor=executor,
        settings=settings,
        client=_Nobody(),
        meter=meter,
    )
    rounds = tuple(
        RecordedRound(request, draft_s, verdict.accepted, verdict.next_token_id)
        for request, draft_s, verdict in zip(link.blocks, draft_times_s, link.verdicts, strict=True)
    )
    return RecordedText(prompt, link.open, rounds)


class _Nobody:
    """No client reads the text."""

    def put(self, event: Any) -> None:
        """Drop it."""

    async def room(self) -> None:
        """There is always room."""


class _RecordingLink(CloudLink):
    """A link that keeps what crosses it; one stream a text."""

    def begin(self) -> None:
        """A new text."""
        self.open = ""
        self.blocks: list[str] = []
        self.verdicts: list[Verdict] = []

    def open_stream(self, writer: wire.EdgeStreamWriter, receive: Receive) -> CloudStream:
        """A stream that is listened to."""

        def noting(stream: CloudStream, message: FromCloud, size_bytes: int) -> None:
            if isinstance(message, Verdict):
                self.verdicts.append(message)
            receive(stream, message, size_bytes)

        stream = super().open_stream(writer, noting)
        prepare = stream.prepare

        def prepare_and_note(message: Any) -> Any:
            request = prepare(message)
            coded = base64.b64encode(request.SerializeToString()).decode()
            if isinstance(message, Open):
                self.open = coded
            elif isinstance(message, DraftBlock):
                self.blocks.append(coded)
            return request

        stream.prepare = prepare_and_note  # type: ignore[method-assign]
        return stream
