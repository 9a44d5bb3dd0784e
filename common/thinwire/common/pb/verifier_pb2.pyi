from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CloseReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOSE_REASON_UNSPECIFIED: _ClassVar[CloseReason]
    CLOSE_REASON_FINISHED: _ClassVar[CloseReason]
    CLOSE_REASON_CANCELLED: _ClassVar[CloseReason]
    CLOSE_REASON_FAILED: _ClassVar[CloseReason]
CLOSE_REASON_UNSPECIFIED: CloseReason
CLOSE_REASON_FINISHED: CloseReason
CLOSE_REASON_CANCELLED: CloseReason
CLOSE_REASON_FAILED: CloseReason

class VerifyRequest(_message.Message):
    __slots__ = ("open", "draft_block", "close", "hints")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    DRAFT_BLOCK_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    open: Open
    draft_block: DraftBlock
    close: Close
    hints: Hints
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., draft_block: _Optional[_Union[DraftBlock, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., hints: _Optional[_Union[Hints, _Mapping]] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("opened", "verdict", "closed", "written")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    verdict: Verdict
    closed: Closed
    written: Written
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., closed: _Optional[_Union[Closed, _Mapping]] = ..., written: _Optional[_Union[Written, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol_version", "payload_layout", "vocabulary", "scheme", "sampling", "seed", "prompt_token_ids", "session_id", "free_run")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FREE_RUN_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    payload_layout: int
    vocabulary: VocabularyIdentity
    scheme: Scheme
    sampling: Sampling
    seed: int
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    session_id: bytes
    free_run: FreeRun
    def __init__(self, protocol_version: _Optional[int] = ..., payload_layout: _Optional[int] = ..., vocabulary: _Optional[_Union[VocabularyIdentity, _Mapping]] = ..., scheme: _Optional[_Union[Scheme, _Mapping]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., seed: _Optional[int] = ..., prompt_token_ids: _Optional[_Iterable[int]] = ..., session_id: _Optional[bytes] = ..., free_run: _Optional[_Union[FreeRun, _Mapping]] = ...) -> None: ...

class FreeRun(_message.Message):
    __slots__ = ("max_length", "held_length", "prefix_hash", "stop_token_ids", "ignore_eos", "saves_passes", "stop")
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    HELD_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PREFIX_HASH_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    SAVES_PASSES_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    max_length: int
    held_length: int
    prefix_hash: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    ignore_eos: bool
    saves_passes: bool
    stop: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, max_length: _Optional[int] = ..., held_length: _Optional[int] = ..., prefix_hash: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., ignore_eos: _Optional[bool] = ..., saves_passes: _Optional[bool] = ..., stop: _Optional[_Iterable[str]] = ...) -> None: ...

class VocabularyIdentity(_message.Message):
    __slots__ = ("size", "sha256", "part_digests")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    PART_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    size: int
    sha256: bytes
    part_digests: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, size: _Optional[int] = ..., sha256: _Optional[bytes] = ..., part_digests: _Optional[_Iterable[int]] = ...) -> None: ...

class Scheme(_message.Message):
    __slots__ = ("k_sqs", "c_sqs", "dense_qs", "cloud_ar", "dense_f16", "coupled", "custom")
    K_SQS_FIELD_NUMBER: _ClassVar[int]
    C_SQS_FIELD_NUMBER: _ClassVar[int]
    DENSE_QS_FIELD_NUMBER: _ClassVar[int]
    CLOUD_AR_FIELD_NUMBER: _ClassVar[int]
    DENSE_F16_FIELD_NUMBER: _ClassVar[int]
    COUPLED_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    k_sqs: KSqs
    c_sqs: CSqs
    dense_qs: DenseQs
    cloud_ar: CloudAr
    dense_f16: DenseF16
    coupled: Coupled
    custom: CustomScheme
    def __init__(self, k_sqs: _Optional[_Union[KSqs, _Mapping]] = ..., c_sqs: _Optional[_Union[CSqs, _Mapping]] = ..., dense_qs: _Optional[_Union[DenseQs, _Mapping]] = ..., cloud_ar: _Optional[_Union[CloudAr, _Mapping]] = ..., dense_f16: _Optional[_Union[DenseF16, _Mapping]] = ..., coupled: _Optional[_Union[Coupled, _Mapping]] = ..., custom: _Optional[_Union[CustomScheme, _Mapping]] = ...) -> None: ...

class KSqs(_message.Message):
    __slots__ = ("lattice_resolution", "support_size")
    LATTICE_RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    SUPPORT_SIZE_FIELD_NUMBER: _ClassVar[int]
    lattice_resolution: int
    support_size: int
    def __init__(self, lattice_resolution: _Optional[int] = ..., support_size: _Optional[int] = ...) -> None: ...

class CSqs(_message.Message):
    __slots__ = ("lattice_resolution", "max_support_size", "initial_threshold", "threshold_step", "target_dropped_mass", "rollback", "frozen_threshold")
    LATTICE_RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    MAX_SUPPORT_SIZE_FIELD_NUMBER: _ClassVar[int]
    INITIAL_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_STEP_FIELD_NUMBER: _ClassVar[int]
    TARGET_DROPPED_MASS_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    FROZEN_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    lattice_resolution: int
    max_support_size: int
    initial_threshold: float
    threshold_step: float
    target_dropped_mass: float
    rollback: str
    frozen_threshold: bool
    def __init__(self, lattice_resolution: _Optional[int] = ..., max_support_size: _Optional[int] = ..., initial_threshold: _Optional[float] = ..., threshold_step: _Optional[float] = ..., target_dropped_mass: _Optional[float] = ..., rollback: _Optional[str] = ..., frozen_threshold: _Optional[bool] = ...) -> None: ...

class DenseQs(_message.Message):
    __slots__ = ("lattice_resolution",)
    LATTICE_RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    lattice_resolution: int
    def __init__(self, lattice_resolution: _Optional[int] = ...) -> None: ...

class CloudAr(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DenseF16(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Coupled(_message.Message):
    __slots__ = ("lock_step",)
    LOCK_STEP_FIELD_NUMBER: _ClassVar[int]
    lock_step: bool
    def __init__(self, lock_step: _Optional[bool] = ...) -> None: ...

class CustomScheme(_message.Message):
    __slots__ = ("name", "parameters")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    parameters: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("session_id", "epoch", "context_length", "eos_token_ids", "committed_length", "next_round", "target_fingerprint", "copies")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    NEXT_ROUND_FIELD_NUMBER: _ClassVar[int]
    TARGET_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    epoch: int
    context_length: int
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    committed_length: int
    next_round: int
    target_fingerprint: bytes
    copies: bool
    def __init__(self, session_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., context_length: _Optional[int] = ..., eos_token_ids: _Optional[_Iterable[int]] = ..., committed_length: _Optional[int] = ..., next_round: _Optional[int] = ..., target_fingerprint: _Optional[bytes] = ..., copies: _Optional[bool] = ...) -> None: ...

class DraftBlock(_message.Message):
    __slots__ = ("round", "base_length", "prefix_hash", "draft_length", "coding", "payload", "crc32c")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PREFIX_HASH_FIELD_NUMBER: _ClassVar[int]
    DRAFT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CODING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    round: int
    base_length: int
    prefix_hash: int
    draft_length: int
    coding: int
    payload: bytes
    crc32c: int
    def __init__(self, round: _Optional[int] = ..., base_length: _Optional[int] = ..., prefix_hash: _Optional[int] = ..., draft_length: _Optional[int] = ..., coding: _Optional[int] = ..., payload: _Optional[bytes] = ..., crc32c: _Optional[int] = ...) -> None: ...

class Hints(_message.Message):
    __slots__ = ("held_length", "ahead", "draft_length", "payload", "chances", "branch_lengths", "branch_places")
    HELD_LENGTH_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    DRAFT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    CHANCES_FIELD_NUMBER: _ClassVar[int]
    BRANCH_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    BRANCH_PLACES_FIELD_NUMBER: _ClassVar[int]
    held_length: int
    ahead: int
    draft_length: int
    payload: bytes
    chances: bytes
    branch_lengths: _containers.RepeatedScalarFieldContainer[int]
    branch_places: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, held_length: _Optional[int] = ..., ahead: _Optional[int] = ..., draft_length: _Optional[int] = ..., payload: _Optional[bytes] = ..., chances: _Optional[bytes] = ..., branch_lengths: _Optional[_Iterable[int]] = ..., branch_places: _Optional[_Iterable[int]] = ...) -> None: ...

class Written(_message.Message):
    __slots__ = ("first_position", "token_ids", "hinted", "hint_rows", "copied", "queue_us", "verify_us", "wait_us", "pauses", "hints_heard", "heard_us", "resampled")
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    HINTED_FIELD_NUMBER: _ClassVar[int]
    HINT_ROWS_FIELD_NUMBER: _ClassVar[int]
    COPIED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    VERIFY_US_FIELD_NUMBER: _ClassVar[int]
    WAIT_US_FIELD_NUMBER: _ClassVar[int]
    PAUSES_FIELD_NUMBER: _ClassVar[int]
    HINTS_HEARD_FIELD_NUMBER: _ClassVar[int]
    HEARD_US_FIELD_NUMBER: _ClassVar[int]
    RESAMPLED_FIELD_NUMBER: _ClassVar[int]
    first_position: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    hinted: int
    hint_rows: int
    copied: int
    queue_us: int
    verify_us: int
    wait_us: int
    pauses: bool
    hints_heard: int
    heard_us: int
    resampled: bool
    def __init__(self, first_position: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., hinted: _Optional[int] = ..., hint_rows: _Optional[int] = ..., copied: _Optional[int] = ..., queue_us: _Optional[int] = ..., verify_us: _Optional[int] = ..., wait_us: _Optional[int] = ..., pauses: _Optional[bool] = ..., hints_heard: _Optional[int] = ..., heard_us: _Optional[int] = ..., resampled: _Optional[bool] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("round", "accepted", "next_token_id", "committed_length", "queue_us", "verify_us")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    VERIFY_US_FIELD_NUMBER: _ClassVar[int]
    round: int
    accepted: int
    next_token_id: int
    committed_length: int
    queue_us: int
    verify_us: int
    def __init__(self, round: _Optional[int] = ..., accepted: _Optional[int] = ..., next_token_id: _Optional[int] = ..., committed_length: _Optional[int] = ..., queue_us: _Optional[int] = ..., verify_us: _Optional[int] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: CloseReason
    def __init__(self, reason: _Optional[_Union[CloseReason, str]] = ...) -> None: ...

class Closed(_message.Message):
    __slots__ = ("rounds", "committed_length")
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    rounds: int
    committed_length: int
    def __init__(self, rounds: _Optional[int] = ..., committed_length: _Optional[int] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "protocol_version", "payload_layout", "model", "vocabulary", "model_rows", "context_length", "eos_token_ids", "schemes", "limits", "sessions", "dtype", "device", "listener_security", "target_fingerprint")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    MODEL_ROWS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SCHEMES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    LISTENER_SECURITY_FIELD_NUMBER: _ClassVar[int]
    TARGET_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    version: str
    protocol_version: int
    payload_layout: int
    model: str
    vocabulary: VocabularyIdentity
    model_rows: int
    context_length: int
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    schemes: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    sessions: int
    dtype: str
    device: str
    listener_security: str
    target_fingerprint: bytes
    def __init__(self, version: _Optional[str] = ..., protocol_version: _Optional[int] = ..., payload_layout: _Optional[int] = ..., model: _Optional[str] = ..., vocabulary: _Optional[_Union[VocabularyIdentity, _Mapping]] = ..., model_rows: _Optional[int] = ..., context_length: _Optional[int] = ..., eos_token_ids: _Optional[_Iterable[int]] = ..., schemes: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., sessions: _Optional[int] = ..., dtype: _Optional[str] = ..., device: _Optional[str] = ..., listener_security: _Optional[str] = ..., target_fingerprint: _Optional[bytes] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_draft_length", "max_support_size", "max_lattice_resolution", "max_round_bytes", "max_sessions", "resume_ttl_s")
    MAX_DRAFT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_SUPPORT_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_LATTICE_RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    MAX_ROUND_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TTL_S_FIELD_NUMBER: _ClassVar[int]
    max_draft_length: int
    max_support_size: int
    max_lattice_resolution: int
    max_round_bytes: int
    max_sessions: int
    resume_ttl_s: int
    def __init__(self, max_draft_length: _Optional[int] = ..., max_support_size: _Optional[int] = ..., max_lattice_resolution: _Optional[int] = ..., max_round_bytes: _Optional[int] = ..., max_sessions: _Optional[int] = ..., resume_ttl_s: _Optional[int] = ...) -> None: ...
