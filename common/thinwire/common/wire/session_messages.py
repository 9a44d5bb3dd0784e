"""The messages of a Verify stream ↔ protobuf."""

from __future__ import annotations

from thinwire.common.errors import ProtocolVersionError, RemoteProtocolError
from thinwire.common.pb import verifier_pb2 as pb
from thinwire.common.session.messages import (
    PAYLOAD_LAYOUT,
    PROTOCOL_VERSION,
    Close,
    DraftBlock,
    FreeRun,
    Hints,
    Open,
    Opened,
    Verdict,
    Written,
)
from thinwire.common.session.prompt import check_prompt_length
from thinwire.common.wire.by_name import from_message, to_message
from thinwire.common.wire.parsing import check_parsed
from thinwire.common.wire.schemes import scheme_from_proto, scheme_to_proto

server_info_request = pb.GetServerInfoRequest
"""The empty request of GetServerInfo."""


class EdgeStreamWriter:
    """
    Domain messages → `VerifyRequest`, for one session, or for the next one of the same text.

    Remembers the coding last sent, because a round repeats it only when it changes; a resent round
    (same number) comes out as the same bytes. An Open that names no session begins anew.
    """

    def __init__(self) -> None:
        self._code_before: dict[int, int] = {0: 0}

    def to_proto(self, message: Open | DraftBlock | Hints | Close) -> pb.VerifyRequest:
        """One message ready to be written."""
        if isinstance(message, Open):
            if not message.session_id:
                self._code_before = {0: 0}
            scheme = scheme_to_proto(message.scheme, decoding=True)
            run = message.free_run and to_message(pb.FreeRun, message.free_run)
            return pb.VerifyRequest(open=to_message(pb.Open, message, scheme=scheme, free_run=run))
        if isinstance(message, Hints):
            return pb.VerifyRequest(hints=to_message(pb.Hints, message))
        if isinstance(message, Close):
            return pb.VerifyRequest(close=to_message(pb.Close, message))
        before = self._code_before.get(message.round - 1, 0)
        self._code_before = {message.round - 1: before, message.round: message.coding}
        return pb.VerifyRequest(
            draft_block=pb.DraftBlock(
                round=message.round,
                base_length=message.base_length,
                prefix_hash=message.prefix_hash,
                draft_length=message.draft_length,
                coding=None if message.coding == before else message.coding,
                payload=message.payload,
                crc32c=message.checksum,
            )
        )


class CloudStreamReader:
    """
    `VerifyRequest` → domain messages, for one session; keep it across the session's streams.

    Resolves the coding that a round leaves out to the one in force in the round before it.

    Args:
        context_length: a prompt that fills it is refused before its ids are unpacked, into ten times as many
            bytes as came; None for no limit but a message's size.
    """

    def __init__(self, context_length: int | None = None) -> None:
        self._context_length = context_length
        self._code_after: dict[int, int] = {0: 0}

    def from_proto(self, request: pb.VerifyRequest) -> Open | DraftBlock | Hints | Close:
        """
        One message read from a stream.

        RemoteProtocolError for no message, an unknown close reason, or another protocol version; ConfigError
        for a parameter of Open out of range, or a prompt that fills the context.
        """
        check_parsed(request)
        kind = request.WhichOneof("message")
        if kind == "open":
            return _open_from_proto(request.open, self._context_length)
        if kind == "close":
            return from_message(Close, request.close)
        if kind == "hints":
            return from_message(Hints, request.hints)
        if kind != "draft_block":
            raise RemoteProtocolError("a request carries no message; expected open, a block, hints or close.")
        block = request.draft_block
        before = self._code_after.get(block.round - 1, 0)
        return DraftBlock(
            round=block.round,
            base_length=block.base_length,
            prefix_hash=block.prefix_hash,
            draft_length=block.draft_length,
            coding=block.coding if block.HasField("coding") else before,
            payload=block.payload,
            checksum=block.crc32c,
        )

    def accept(self, block: DraftBlock) -> None:
        """Note that the session took this round, so that later rounds may leave its code out."""
        before = self._code_after.get(block.round - 1, 0)
        self._code_after = {block.round - 1: before, block.round: block.coding}


def reply_to_proto(message: Opened | Verdict | Written) -> pb.VerifyResponse:
    """Cloud → edge."""
    if isinstance(message, Opened):
        return pb.VerifyResponse(opened=to_message(pb.Opened, message))
    times = {name: min(getattr(message, name), 2**32 - 1) for name in ("queue_us", "verify_us")}
    if isinstance(message, Written):
        wait_us = min(message.wait_us, 2**32 - 1)
        return pb.VerifyResponse(written=to_message(pb.Written, message, wait_us=wait_us, **times))
    return pb.VerifyResponse(verdict=to_message(pb.Verdict, message, **times))


def closed_to_proto(rounds: int, committed_length: int) -> pb.VerifyResponse:
    """Cloud → edge, answer to Close."""
    return pb.VerifyResponse(closed=pb.Closed(rounds=rounds, committed_length=committed_length))


def message_from_cloud(response: pb.VerifyResponse) -> Opened | Verdict | Written | None:
    """Edge's reading of one response, None for Closed; RemoteProtocolError for no message."""
    check_parsed(response)
    kind = response.WhichOneof("message")
    if kind == "verdict":
        return from_message(Verdict, response.verdict)
    if kind == "written":
        return from_message(Written, response.written)
    if kind == "opened":
        return from_message(Opened, response.opened)
    if kind == "closed":
        return None
    raise RemoteProtocolError("a response carries no message; expected opened, verdict, written or closed.")


def _open_from_proto(message: pb.Open, context_length: int | None) -> Open:
    received = (message.protocol_version, message.payload_layout)
    if received != (PROTOCOL_VERSION, PAYLOAD_LAYOUT):  # before a field that may mean something else there
        raise ProtocolVersionError(
            f"the edge speaks protocol {received[0]}, payload layout {received[1]}; "
            f"expected {PROTOCOL_VERSION} and {PAYLOAD_LAYOUT}."
        )
    if context_length is not None:
        check_prompt_length(len(message.prompt_token_ids), context_length)
    run = from_message(FreeRun, message.free_run) if message.HasField("free_run") else None
    scheme = scheme_from_proto(message.scheme, decoding=True)
    return from_message(Open, message, scheme=scheme, free_run=run)
