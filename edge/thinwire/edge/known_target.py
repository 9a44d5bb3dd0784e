"""What the first session of a text said of its target model; every later one must say the same."""

from __future__ import annotations

from thinwire.common.errors import RemoteProtocolError, TargetChangedError
from thinwire.common.session.messages import Opened


class KnownTarget:
    """The target of one text, compared with that of a session opened anew on a restarted cloud."""

    def __init__(self) -> None:
        self._fingerprint = b""

    def check(self, opened: Opened, committed_length: int) -> None:
        """
        Take a new session's Opened.

        Args:
            committed_length: tokens of the text so far, prompt included.

        Raises:
            RemoteProtocolError: it begins elsewhere than the text stands.
            TargetChangedError: its target is not the text's. A cloud that knows no fingerprint is believed.
        """
        if opened.committed_length != committed_length or opened.next_round != 1:
            raise RemoteProtocolError(
                f"a new session opened at length {opened.committed_length}, round {opened.next_round}; "
                f"expected {committed_length}, 1."
            )
        received, expected = opened.target_fingerprint, self._fingerprint
        if received and expected and received != expected:
            raise TargetChangedError(
                f"the cloud's target model has the fingerprint {received.hex()}; expected {expected.hex()}, "
                "with which this text began: it cannot go on with another model."
            )
        self._fingerprint = received or expected
