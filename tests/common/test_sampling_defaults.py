"""A field of Sampling that a peer leaves out takes its default, of Generate and of Open alike."""

from __future__ import annotations

from typing import Any

import pytest

from loopback import make_request, request_message
from thinwire.common import wire
from thinwire.common.config import SamplingParameters
from thinwire.common.session.messages import Open
from verify_peer import EdgeText

GIVEN = [
    {},
    {"temperature": 0.5},
    {"temperature": 0.0},
    {"top_k": 7},
    {"top_p": 0.9},
    {"temperature": 0.0, "top_p": 0.9},
]


@pytest.mark.parametrize("given", GIVEN)
def test_what_a_client_leaves_out_of_generate_is_the_default(given: dict[str, Any]) -> None:
    """Temperature alone is a request like any other; greedy is a temperature of 0, and not its absence."""
    message = request_message(make_request(max_tokens=4, draft_length=2, min_block_acceptance=0.0))
    message.ClearField("sampling")
    for name, value in given.items():
        setattr(message.sampling, name, value)
    sent = type(message).FromString(message.SerializeToString())

    assert wire.generate_request_from_proto(sent).sampling == SamplingParameters(**given)


@pytest.mark.parametrize("given", GIVEN)
def test_what_an_edge_leaves_out_of_open_is_the_default(given: dict[str, Any]) -> None:
    """The same, for an edge of somebody else."""
    message = wire.EdgeStreamWriter().to_proto(EdgeText().open)
    message.open.ClearField("sampling")
    for name, value in given.items():
        setattr(message.open.sampling, name, value)
    received = wire.CloudStreamReader().from_proto(type(message).FromString(message.SerializeToString()))

    assert isinstance(received, Open)
    assert received.sampling == SamplingParameters(**given)
