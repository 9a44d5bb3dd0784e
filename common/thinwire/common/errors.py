"""
Every error Thinwire raises on purpose, in one tree.

    ThinwireError
    ├── ConfigError                 a setting or request out of its range
    ├── LocalProtocolError          our bug: this side misused its own session
    ├── RemoteProtocolError         the peer's bug, one leaf per kind
    │   ├── PayloadInvalidError         decodes to nothing legal
    │   ├── PayloadCorruptedError       checksum mismatch
    │   ├── VocabularyMismatchError     the two ends do not share one vocabulary
    │   ├── PrefixMismatchError         base length or prefix hash differs
    │   ├── RoundOrderError             a round out of order, or changed on retry
    │   ├── SessionNotFoundError        expired, closed or never opened
    │   ├── EpochSupersededError        a newer stream has taken the session over
    │   ├── ProtocolVersionError
    │   └── WrongDaemonError            another kind of daemon listens there
    ├── TransportError              the link: unreachable, torn or too late
    │   └── DeadlineError
    ├── ModelError                  a model that cannot be loaded or used
    │   ├── ModelLoadError
    │   ├── NonFiniteLogitsError
    │   ├── UncroppableCacheError
    │   ├── ModelTrialError
    │   └── DegenerateResidualError
    ├── UnauthenticatedError        no token, a wrong one, or one that was revoked
    │   └── EdgeTokenError              not the caller's: the edge's own, for its cloud
    └── ResourceExhaustedError      a bound was reached; retry later
        └── QuotaExceededError          a tenant's own bound; the edge waits and retries

Each leaf carries the *name* of one gRPC status and a machine-readable reason; `common.wire` translates both
ways, in one place.
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


class ConfigError(ThinwireError):
    """
    A setting or request parameter is outside its documented range.

    Args:
        message: one public sentence; it begins with the setting's name where there is one.
        setting: that name, so that a command line can say its option instead; travels in ErrorInfo.
    """

    status = "INVALID_ARGUMENT"
    reason = "PARAMETER_OUT_OF_RANGE"

    def __init__(self, message: str, *, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


class LocalProtocolError(ThinwireError):
    """This side drove its own session illegally; always a bug of ours."""

    status = "INTERNAL"
    reason = "LOCAL_PROTOCOL"


class RemoteProtocolError(ThinwireError):
    """The peer broke the protocol."""

    status = "INVALID_ARGUMENT"
    reason = "REMOTE_PROTOCOL"


class PayloadInvalidError(RemoteProtocolError):
    """A payload with a valid checksum decodes to nothing legal."""

    status = "INVALID_ARGUMENT"
    reason = "PAYLOAD_INVALID"


class PayloadCorruptedError(RemoteProtocolError):
    """The round's CRC-32C does not match its contents."""

    status = "DATA_LOSS"
    reason = "PAYLOAD_CORRUPTED"


class VocabularyMismatchError(RemoteProtocolError):
    """Draft and target model do not share one vocabulary."""

    status = "FAILED_PRECONDITION"
    reason = "VOCABULARY_MISMATCH"


class TargetChangedError(RemoteProtocolError):
    """A text was to go on with another target model than it began with."""

    status = "FAILED_PRECONDITION"
    reason = "TARGET_CHANGED"


class PrefixMismatchError(RemoteProtocolError):
    """Base length or prefix hash differs from the verifier's committed text."""

    status = "FAILED_PRECONDITION"
    reason = "PREFIX_MISMATCH"


class RoundOrderError(RemoteProtocolError):
    """A round out of order, or a repeated round whose bytes changed."""

    status = "FAILED_PRECONDITION"
    reason = "ROUND_ORDER"


class SessionNotFoundError(RemoteProtocolError):
    """No live session under that id: expired, closed or never opened."""

    status = "NOT_FOUND"
    reason = "SESSION_NOT_FOUND"


class EpochSupersededError(RemoteProtocolError):
    """A newer stream has taken over this session."""

    status = "ABORTED"
    reason = "EPOCH_SUPERSEDED"


class ProtocolVersionError(RemoteProtocolError):
    """The peer speaks another protocol version."""

    status = "FAILED_PRECONDITION"
    reason = "PROTOCOL_VERSION"


class WrongDaemonError(RemoteProtocolError):
    """A cloud was called for what an edge does, an edge for what a cloud does, or neither was there."""

    status = "UNIMPLEMENTED"
    reason = "WRONG_DAEMON"


class TransportError(ThinwireError):
    """The link failed: peer unreachable or stream torn."""

    status = "UNAVAILABLE"
    reason = "LINK"


class DeadlineError(TransportError):
    """A named phase outlasted its deadline."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE"


class ModelError(ThinwireError):
    """A model that cannot be loaded, or whose output cannot be used."""

    status = "INTERNAL"
    reason = "MODEL"


class ModelLoadError(ModelError):
    """Nothing loadable under the given path or hub id."""

    status = "NOT_FOUND"
    reason = "MODEL_NOT_FOUND"


class NonFiniteLogitsError(ModelError):
    """A model returned NaN or +inf logits, or no finite logit at all."""

    reason = "NON_FINITE_LOGITS"


class UncroppableCacheError(ModelError):
    """The model's KV cache cannot be rolled back (sliding-window or recurrent layers)."""

    status = "FAILED_PRECONDITION"
    reason = "UNCROPPABLE_CACHE"


class ModelTrialError(ModelError):
    """The model, served as sessions are, does not score as its own plain forward pass does."""

    status = "FAILED_PRECONDITION"
    reason = "MODEL_TRIAL"


class DegenerateResidualError(ModelError):
    """The residual distribution has no mass, so the rejection it answers was impossible."""

    reason = "DEGENERATE_RESIDUAL"


class UnauthenticatedError(ThinwireError):
    """A call without a token, with a wrong one, or with one that was revoked meanwhile."""

    status = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class EdgeTokenError(UnauthenticatedError):
    """The cloud refuses the token of the edge itself; whoever asks the edge for a text cannot mend it."""

    reason = "EDGE_TOKEN"


class ResourceExhaustedError(ThinwireError):
    """
    A bound was reached; the peer may retry after a pause.

    Args:
        message: one public sentence.
        retry_after_s: the pause asked for, `google.rpc.RetryInfo`; the default is a few rounds, so that a
            slot can have come free, and infinity says that no retry mends it.
    """

    status = "RESOURCE_EXHAUSTED"
    reason = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceededError(ResourceExhaustedError):
    """A tenant has used what it may; the session, if there is one, is kept, and the round may come again."""

    reason = "QUOTA_EXCEEDED"


def errors_by_reason() -> dict[str, type[ThinwireError]]:
    """Reason → class; where a subclass inherits its parent's reason the parent stands for both."""
    table: dict[str, type[ThinwireError]] = {}
    kinds = [ThinwireError]
    for kind in kinds:
        table.setdefault(kind.reason, kind)
        kinds += kind.__subclasses__()  # so the loop comes to them behind their parents
    return table
