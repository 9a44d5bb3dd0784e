"""Edges of a tenant that sends, within its quota, blocks that are as dear to decode as blocks can be."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import grpc

from bench.capacity.session import Metadata, answer, refusal_of, request_of
from bench.capacity.texts import RecordedText
from thinwire.common import wire
from thinwire.common.config import MAX_DRAFT_LENGTH, SchemeParameters
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.dense_qs import MAX_DENSE_RESOLUTION
from thinwire.common.session.messages import DraftBlock, Open, Opened, PrefixHasher, block_checksum


class RandomPayloads:
    """
    One session after another, each opened for one block of random bytes that ends it.

    Args:
        channel: to the cloud.
        metadata: with the tenant's token.
        text: its Open names the vocabulary.
        number: of this edge; chooses the bytes.
    """

    def __init__(
        self, channel: grpc.aio.Channel, metadata: Metadata, text: RecordedText, number: int
    ) -> None:
        self._stub = wire.VerifierStub(channel)
        self._metadata = metadata
        recorded = wire.CloudStreamReader().from_proto(request_of(text.open))
        assert isinstance(recorded, Open), recorded
        parameters = SchemeParameters(scheme="dense-qs", lattice_resolution=MAX_DENSE_RESOLUTION)
        self._open = replace(recorded, scheme=parameters, prompt_token_ids=recorded.prompt_token_ids[:1])
        scheme = make_scheme(parameters, vocabulary_size=recorded.vocabulary.size)
        self._bytes = scheme.max_payload_bytes(MAX_DRAFT_LENGTH)
        self._random = random.Random(number)
        self._call: Any = None

    async def exchange(self) -> None:
        """
        Have one block decoded, in vain.

        Raises:
            ResourceExhaustedError: the cloud did not take it.
        """
        writer = wire.EdgeStreamWriter()
        self._call = call = self._stub.Verify(metadata=self._metadata)
        try:
            await call.write(writer.to_proto(self._open))
            opened = wire.message_from_cloud(await answer(call))
            assert isinstance(opened, Opened), opened
            await call.write(writer.to_proto(self._block()))
            await answer(call)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise refusal_of(error) from None

    def _block(self) -> DraftBlock:
        hasher = PrefixHasher()
        hasher.extend(self._open.prompt_token_ids)
        # An even first byte: the dearer of the two codings. A top byte that is not 0: no spare bytes.
        payload = b"\0" + self._random.randbytes(self._bytes - 2) + b"\1"
        block = DraftBlock(
            round=1,
            base_length=len(self._open.prompt_token_ids),
            prefix_hash=hasher.value(),
            draft_length=MAX_DRAFT_LENGTH,
            support_size_code=0,
            payload=payload,
            checksum=0,
        )
        return replace(block, checksum=block_checksum(block, self._open.scheme))

    def abandon(self) -> None:
        """Let go of the stream."""
        if self._call is not None:
            self._call.cancel()
