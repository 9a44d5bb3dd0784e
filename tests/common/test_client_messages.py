"""Requests, statistics and the daemons' accounts of themselves cross the wire whole, field by field."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

import pytest

from thinwire.common import wire
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import parse_scheme
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.session.generation import (
    EdgeStatus,
    GenerationFinished,
    GenerationRequest,
    GenerationStarted,
    ServerInfo,
)
from thinwire.common.session.messages import FinishReason, VocabularyIdentity
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.common.wire.schemes import scheme_from_proto, scheme_to_proto

REQUEST = GenerationRequest(
    "a prompt",
    seed=2**64 - 1,
    scheme=Coupled.Parameters(),
    objective="cloud",
    sampling=SamplingParameters(temperature=0.5, top_k=7, top_p=0.75),
    max_tokens=9,
    draft_length=0,
    uplink_budget_bits=99,
    min_block_acceptance=0.0,
    stop=("A", "B"),
    ignore_eos=True,
    stop_token_ids=(7, 0),
    prediction="as it was",
)
VOCABULARY = VocabularyIdentity(6, bytes(32), (1, 2))
INFO = ServerInfo(
    version="1",
    model="m",
    vocabulary=VOCABULARY,
    model_rows=8,
    context_length=64,
    eos_token_ids=(4, 5),
    schemes=("k-sqs",),
    sessions=2,
    max_sessions=3,
    resume_ttl_s=30,
    dtype="float32",
    device="cpu",
    listener_security="TLS",
    target_fingerprint=b"12345678",
)


def default(field: Any) -> Any:
    """A field's default, MISSING for none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def test_a_request_crosses_whole() -> None:
    """No field is at its default, so none can be left behind."""
    assert all(getattr(REQUEST, field.name) != default(field) for field in fields(REQUEST))
    by_rounds = CSqs.Parameters(lattice_resolution=50, threshold_step=0.5)
    for request in (
        REQUEST,
        replace(REQUEST, scheme=by_rounds, objective="latency"),
        replace(REQUEST, scheme=parse_scheme("auto")),
    ):
        assert wire.generate_request_from_proto(wire.generate_request_to_proto(request)) == request


def test_a_cloud_knows_no_scheme_of_the_name_auto() -> None:
    """It stands in requests to an edge alone."""
    message = scheme_to_proto(parse_scheme("auto"), decoding=True)
    with pytest.raises(ConfigError, match="scheme is 'auto'; expected one of"):
        scheme_from_proto(message, decoding=True)


def test_what_a_request_leaves_out_takes_the_defaults() -> None:
    """Those of `GenerationRequest`, the only ones there are; the seed is fresh bits."""
    message = wire.generate_request_to_proto(GenerationRequest("a prompt"))
    for name in ("seed", "scheme", "sampling", "max_tokens", "draft_length", "min_block_acceptance"):
        message.ClearField(name)
    requests = [wire.generate_request_from_proto(message) for _ in range(2)]

    assert requests[0].seed != requests[1].seed
    assert requests[0] == GenerationRequest("a prompt", seed=requests[0].seed)


def test_every_event_crosses_whole() -> None:
    """Each of the statistics has a value of its own, so none can be taken for another."""
    numbers = {field.name: n for n, field in enumerate(fields(GenerationStatistics), 1)}
    events = [
        GenerationStarted(seed=7, prompt_tokens=3, scheme=REQUEST.scheme, draft_length=4),
        GenerationFinished(FinishReason.STOP, "held", GenerationStatistics(**numbers)),
    ]

    for event in events:
        assert wire.generation_event_from_proto(wire.generation_event_to_proto(event)) == event


def test_a_daemons_account_of_itself_crosses_whole() -> None:
    """The edge's with its cloud's, and without one."""
    for cloud in (INFO, None):
        status = EdgeStatus(
            version="1",
            model="m",
            vocabulary=VOCABULARY,
            cloud="127.0.0.1:7071",
            cloud_info=cloud,
            cloud_failure="why not",
            cloud_security="TLS",
            listener_security="plaintext",
            generations=1,
            generations_finished=2,
            output_tokens=3,
            schemes=("k-sqs", "c-sqs"),
            dtype="float32",
            device="cpu",
        )

        assert wire.edge_status_from_proto(wire.edge_status_to_proto(status)) == status
