from thinwire.common.pb import verifier_pb2 as _verifier_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TokenKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_KIND_UNSPECIFIED: _ClassVar[TokenKind]
    TOKEN_KIND_ACCEPTED: _ClassVar[TokenKind]
    TOKEN_KIND_RESAMPLED: _ClassVar[TokenKind]
    TOKEN_KIND_BONUS: _ClassVar[TokenKind]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_EOS: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_CONTEXT: _ClassVar[FinishReason]
    FINISH_REASON_CANCELLED: _ClassVar[FinishReason]
TOKEN_KIND_UNSPECIFIED: TokenKind
TOKEN_KIND_ACCEPTED: TokenKind
TOKEN_KIND_RESAMPLED: TokenKind
TOKEN_KIND_BONUS: TokenKind
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_EOS: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_CONTEXT: FinishReason
FINISH_REASON_CANCELLED: FinishReason

class GenerateRequest(_message.Message):
    __slots__ = ("prompt", "max_tokens", "sampling", "scheme", "draft_length", "uplink_budget_bits", "seed", "stop", "ignore_eos", "min_block_acceptance", "stop_token_ids", "objective", "prediction")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    DRAFT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    UPLINK_BUDGET_BITS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    MIN_BLOCK_ACCEPTANCE_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    max_tokens: int
    sampling: _verifier_pb2.Sampling
    scheme: _verifier_pb2.Scheme
    draft_length: int
    uplink_budget_bits: int
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    ignore_eos: bool
    min_block_acceptance: float
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    objective: str
    prediction: str
    def __init__(self, prompt: _Optional[str] = ..., max_tokens: _Optional[int] = ..., sampling: _Optional[_Union[_verifier_pb2.Sampling, _Mapping]] = ..., scheme: _Optional[_Union[_verifier_pb2.Scheme, _Mapping]] = ..., draft_length: _Optional[int] = ..., uplink_budget_bits: _Optional[int] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., ignore_eos: _Optional[bool] = ..., min_block_acceptance: _Optional[float] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., objective: _Optional[str] = ..., prediction: _Optional[str] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("started", "tokens", "finished")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    started: Started
    tokens: Tokens
    finished: Finished
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., tokens: _Optional[_Union[Tokens, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("seed", "prompt_tokens", "scheme", "draft_length", "choice", "objective")
    SEED_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    DRAFT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    seed: int
    prompt_tokens: int
    scheme: _verifier_pb2.Scheme
    draft_length: int
    choice: str
    objective: str
    def __init__(self, seed: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., scheme: _Optional[_Union[_verifier_pb2.Scheme, _Mapping]] = ..., draft_length: _Optional[int] = ..., choice: _Optional[str] = ..., objective: _Optional[str] = ...) -> None: ...

class Tokens(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[Token]
    def __init__(self, tokens: _Optional[_Iterable[_Union[Token, _Mapping]]] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("token_id", "kind", "text")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    kind: TokenKind
    text: str
    def __init__(self, token_id: _Optional[int] = ..., kind: _Optional[_Union[TokenKind, str]] = ..., text: _Optional[str] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("reason", "text", "statistics")
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    reason: FinishReason
    text: str
    statistics: Statistics
    def __init__(self, reason: _Optional[_Union[FinishReason, str]] = ..., text: _Optional[str] = ..., statistics: _Optional[_Union[Statistics, _Mapping]] = ...) -> None: ...

class Statistics(_message.Message):
    __slots__ = ("output_tokens", "rounds", "drafted_tokens", "tested_tokens", "accepted_tokens", "resampled_tokens", "uplink_payload_bits", "uplink_message_bytes", "downlink_message_bytes", "mean_dropped_mass", "dropped_mass_guarantee", "cap_binding_rate", "total_s", "draft_s", "network_s", "queue_s", "verify_s", "kept_positions", "reconnects", "first_token_s", "rebuilds", "encode_s", "close_drafts", "draft_full_from", "wait_s", "waits", "hints_sent", "hint_messages", "hints_judged", "hints_right", "copied_tokens", "hint_age_s", "open_s", "draft_token_s", "accepted_prediction_tokens", "rejected_prediction_tokens")
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TESTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESAMPLED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    UPLINK_PAYLOAD_BITS_FIELD_NUMBER: _ClassVar[int]
    UPLINK_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEAN_DROPPED_MASS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_MASS_GUARANTEE_FIELD_NUMBER: _ClassVar[int]
    CAP_BINDING_RATE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_S_FIELD_NUMBER: _ClassVar[int]
    DRAFT_S_FIELD_NUMBER: _ClassVar[int]
    NETWORK_S_FIELD_NUMBER: _ClassVar[int]
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    VERIFY_S_FIELD_NUMBER: _ClassVar[int]
    KEPT_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    RECONNECTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_S_FIELD_NUMBER: _ClassVar[int]
    REBUILDS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_S_FIELD_NUMBER: _ClassVar[int]
    CLOSE_DRAFTS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_FULL_FROM_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    HINTS_SENT_FIELD_NUMBER: _ClassVar[int]
    HINT_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    HINTS_JUDGED_FIELD_NUMBER: _ClassVar[int]
    HINTS_RIGHT_FIELD_NUMBER: _ClassVar[int]
    COPIED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    HINT_AGE_S_FIELD_NUMBER: _ClassVar[int]
    OPEN_S_FIELD_NUMBER: _ClassVar[int]
    DRAFT_TOKEN_S_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_PREDICTION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_PREDICTION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    output_tokens: int
    rounds: int
    drafted_tokens: int
    tested_tokens: int
    accepted_tokens: int
    resampled_tokens: int
    uplink_payload_bits: int
    uplink_message_bytes: int
    downlink_message_bytes: int
    mean_dropped_mass: float
    dropped_mass_guarantee: float
    cap_binding_rate: float
    total_s: float
    draft_s: float
    network_s: float
    queue_s: float
    verify_s: float
    kept_positions: int
    reconnects: int
    first_token_s: float
    rebuilds: int
    encode_s: float
    close_drafts: int
    draft_full_from: int
    wait_s: float
    waits: int
    hints_sent: int
    hint_messages: int
    hints_judged: int
    hints_right: int
    copied_tokens: int
    hint_age_s: float
    open_s: float
    draft_token_s: float
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int
    def __init__(self, output_tokens: _Optional[int] = ..., rounds: _Optional[int] = ..., drafted_tokens: _Optional[int] = ..., tested_tokens: _Optional[int] = ..., accepted_tokens: _Optional[int] = ..., resampled_tokens: _Optional[int] = ..., uplink_payload_bits: _Optional[int] = ..., uplink_message_bytes: _Optional[int] = ..., downlink_message_bytes: _Optional[int] = ..., mean_dropped_mass: _Optional[float] = ..., dropped_mass_guarantee: _Optional[float] = ..., cap_binding_rate: _Optional[float] = ..., total_s: _Optional[float] = ..., draft_s: _Optional[float] = ..., network_s: _Optional[float] = ..., queue_s: _Optional[float] = ..., verify_s: _Optional[float] = ..., kept_positions: _Optional[int] = ..., reconnects: _Optional[int] = ..., first_token_s: _Optional[float] = ..., rebuilds: _Optional[int] = ..., encode_s: _Optional[float] = ..., close_drafts: _Optional[int] = ..., draft_full_from: _Optional[int] = ..., wait_s: _Optional[float] = ..., waits: _Optional[int] = ..., hints_sent: _Optional[int] = ..., hint_messages: _Optional[int] = ..., hints_judged: _Optional[int] = ..., hints_right: _Optional[int] = ..., copied_tokens: _Optional[int] = ..., hint_age_s: _Optional[float] = ..., open_s: _Optional[float] = ..., draft_token_s: _Optional[float] = ..., accepted_prediction_tokens: _Optional[int] = ..., rejected_prediction_tokens: _Optional[int] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("version", "model", "vocabulary", "cloud", "cloud_reachable", "cloud_info", "generations", "generations_finished", "output_tokens", "schemes", "dtype", "device", "cloud_failure", "cloud_security", "listener_security")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    CLOUD_FIELD_NUMBER: _ClassVar[int]
    CLOUD_REACHABLE_FIELD_NUMBER: _ClassVar[int]
    CLOUD_INFO_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_FINISHED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SCHEMES_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CLOUD_FAILURE_FIELD_NUMBER: _ClassVar[int]
    CLOUD_SECURITY_FIELD_NUMBER: _ClassVar[int]
    LISTENER_SECURITY_FIELD_NUMBER: _ClassVar[int]
    version: str
    model: str
    vocabulary: _verifier_pb2.VocabularyIdentity
    cloud: str
    cloud_reachable: bool
    cloud_info: _verifier_pb2.GetServerInfoResponse
    generations: int
    generations_finished: int
    output_tokens: int
    schemes: _containers.RepeatedScalarFieldContainer[str]
    dtype: str
    device: str
    cloud_failure: str
    cloud_security: str
    listener_security: str
    def __init__(self, version: _Optional[str] = ..., model: _Optional[str] = ..., vocabulary: _Optional[_Union[_verifier_pb2.VocabularyIdentity, _Mapping]] = ..., cloud: _Optional[str] = ..., cloud_reachable: _Optional[bool] = ..., cloud_info: _Optional[_Union[_verifier_pb2.GetServerInfoResponse, _Mapping]] = ..., generations: _Optional[int] = ..., generations_finished: _Optional[int] = ..., output_tokens: _Optional[int] = ..., schemes: _Optional[_Iterable[str]] = ..., dtype: _Optional[str] = ..., device: _Optional[str] = ..., cloud_failure: _Optional[str] = ..., cloud_security: _Optional[str] = ..., listener_security: _Optional[str] = ...) -> None: ...
