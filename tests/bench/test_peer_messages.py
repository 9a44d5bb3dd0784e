"""The peers' contract: small, and refusing what it does not know."""

from __future__ import annotations

import pytest

from bench.peers.messages import PeerRequest, StreamedToken
from thinwire.common.errors import ConfigError, RemoteProtocolError

REQUEST = PeerRequest("own", "def é():\n", max_tokens=16, temperature=0.3, seed=2**64 - 1)


def test_a_request_comes_back_as_it_was() -> None:
    """Text in any script, seeds of 64 bits."""
    assert PeerRequest.from_bytes(REQUEST.to_bytes()) == REQUEST


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"way": "own"}', b"\xff"])
def test_what_is_no_request_is_refused(data: bytes) -> None:
    """As the peer's mistake."""
    with pytest.raises(RemoteProtocolError, match="no PeerRequest"):
        PeerRequest.from_bytes(data)


def test_an_unknown_way_is_refused() -> None:
    """With those there are."""
    with pytest.raises(ConfigError, match="expected one of own, generate, assisted"):
        PeerRequest("telepathy", "", 1, 1.0, 0)


def test_a_token_is_six_bytes_and_its_text() -> None:
    """4 of id, 2 of pass; the framing of all three ways."""
    token = StreamedToken(8191, 7, "é = ")

    assert token.to_bytes() == bytes.fromhex("ff1f00000700") + "é = ".encode()
    assert StreamedToken.from_bytes(token.to_bytes()) == token


def test_half_a_character_does_not_break_a_message() -> None:
    """A lone surrogate cannot be sent; a question mark can."""
    assert StreamedToken(1, 1, "\ud800").to_bytes()[6:] == b"?"
