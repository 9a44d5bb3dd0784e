"""
Every error Thinwire raises on purpose, in one tree; each class carries the *name* of one gRPC status and a
machine-readable reason, or its parent's. `common.wire` translates both ways, in one place.

The message is public: it names the value received and the value expected, and nothing else.
"""

from __future__ import annotations

from typing import ClassVar


class ThinwireError(Exception):
    """
    Base of every deliberate error.

    Args:
        message: one public sentence with the value received and the value expected.
    """

    status: ClassVar[str] = "INTERNAL"
    """Name of the gRPC status code this error travels as."""
    reason: ClassVar[str] = "INTERNAL"
    """`google.rpc.ErrorInfo.reason`: stable, upper snake case; peers match on this and never on text."""

    def __init_subclass__(cls, *, status: str | None = None, reason: str | None = None) -> None:
        cls.status, cls.reason = status or cls.status, reason or cls.reason

    @property
    def message(self) -> str:
        """The public sentence."""
        return str(self.args[0]) if self.args else self.reason

    def forget_origin(self) -> None:
        """
        Let go of the frames it came through, and of the errors that it came from.

        Those frames hold a request, a prompt or a cache; whoever keeps an error beyond the `except` that
        caught it, in a future or in an RPC's state, would keep all of them, often in a cycle.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None


class ConfigError(ThinwireError, status="INVALID_ARGUMENT", reason="PARAMETER_OUT_OF_RANGE"):
    """
    A setting or request parameter is outside its documented range.

    Args:
        message: one public sentence; it begins with the setting's name where there is one.
        setting: that name, so that a command line can say its option instead; travels in ErrorInfo.
    """

    def __init__(self, message: str, *, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


class LocalProtocolError(ThinwireError, reason="LOCAL_PROTOCOL"):
    """This side drove its own session illegally; always a bug of ours."""


class RemoteProtocolError(ThinwireError, status="INVALID_ARGUMENT", reason="REMOTE_PROTOCOL"):
    """The peer broke the protocol."""


class PayloadInvalidError(RemoteProtocolError, reason="PAYLOAD_INVALID"):
    """A payload with a valid checksum decodes to nothing legal."""


class PayloadCorruptedError(RemoteProtocolError, status="DATA_LOSS", reason="PAYLOAD_CORRUPTED"):
    """The round's CRC-32C does not match its contents."""


class VocabularyMismatchError(
    RemoteProtocolError, status="FAILED_PRECONDITION", reason="VOCABULARY_MISMATCH"
):
    """Draft and target model do not share one vocabulary."""


class TargetChangedError(RemoteProtocolError, status="FAILED_PRECONDITION", reason="TARGET_CHANGED"):
    """A text was to go on with another target model than it began with."""


class PrefixMismatchError(RemoteProtocolError, status="FAILED_PRECONDITION", reason="PREFIX_MISMATCH"):
    """Base length or prefix hash differs from the verifier's committed text."""


class RoundOrderError(RemoteProtocolError, status="FAILED_PRECONDITION", reason="ROUND_ORDER"):
    """A round out of order, or a repeated round whose bytes changed."""


class SessionNotFoundError(RemoteProtocolError, status="NOT_FOUND", reason="SESSION_NOT_FOUND"):
    """No live session under that id: expired, closed or never opened."""


class EpochSupersededError(RemoteProtocolError, status="ABORTED", reason="EPOCH_SUPERSEDED"):
    """A newer stream has taken over this session."""


class ProtocolVersionError(RemoteProtocolError, status="FAILED_PRECONDITION", reason="PROTOCOL_VERSION"):
    """The peer speaks another protocol version."""


class WrongDaemonError(RemoteProtocolError, status="UNIMPLEMENTED", reason="WRONG_DAEMON"):
    """A cloud was called for what an edge does, an edge for what a cloud does, or neither was there."""


class TransportError(ThinwireError, status="UNAVAILABLE", reason="LINK"):
    """The link failed: peer unreachable or stream torn."""


class DeadlineError(TransportError, status="DEADLINE_EXCEEDED", reason="DEADLINE"):
    """A named phase outlasted its deadline."""


class ModelError(ThinwireError, reason="MODEL"):
    """A model that cannot be loaded, or whose output cannot be used."""


class ModelLoadError(ModelError, status="NOT_FOUND", reason="MODEL_NOT_FOUND"):
    """Nothing loadable under the given path or hub id."""


class NonFiniteLogitsError(ModelError, reason="NON_FINITE_LOGITS"):
    """A model returned NaN or +inf logits, or no finite logit at all."""


class UncroppableCacheError(ModelError, status="FAILED_PRECONDITION", reason="UNCROPPABLE_CACHE"):
    """The model's KV cache cannot be rolled back (sliding-window or recurrent layers)."""


class ModelTrialError(ModelError, status="FAILED_PRECONDITION", reason="MODEL_TRIAL"):
    """The model, served as sessions are, does not score as its own plain forward pass does."""


class DegenerateResidualError(ModelError, reason="DEGENERATE_RESIDUAL"):
    """The residual distribution has no mass, so the rejection it answers was impossible."""


class UnauthenticatedError(ThinwireError, status="UNAUTHENTICATED", reason="UNAUTHENTICATED"):
    """A call without a token, with a wrong one, or with one that was revoked meanwhile."""


class EdgeTokenError(UnauthenticatedError, reason="EDGE_TOKEN"):
    """The cloud refuses the token of the edge itself; whoever asks the edge for a text cannot mend it."""


class ResourceExhaustedError(ThinwireError, status="RESOURCE_EXHAUSTED", reason="RESOURCE_EXHAUSTED"):
    """
    A bound was reached; the peer may retry after a pause.

    Args:
        message: one public sentence.
        retry_after_s: the pause asked for, `google.rpc.RetryInfo`; the default is a few rounds, so that a
            slot can have come free, and infinity says that no retry mends it.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceededError(ResourceExhaustedError, reason="QUOTA_EXCEEDED"):
    """A tenant has used what it may; the session, if there is one, is kept, and the round may come again."""


def errors_by_reason() -> dict[str, type[ThinwireError]]:
    """Reason → class; where a subclass inherits its parent's reason the parent stands for both."""
    table: dict[str, type[ThinwireError]] = {}
    kinds = [ThinwireError]
    for kind in kinds:
        table.setdefault(kind.reason, kind)
        kinds += kind.__subclasses__()  # so the loop comes to them behind their parents
    return table
