"""What a command line says of certificates and tokens; a token itself is never an option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from thinwire.common.config import Option, Switch
from thinwire.common.door.security import (
    HANDSHAKE_TIMEOUT_S,
    MAX_UNPROVED_PER_PEER,
    ClientSecurity,
    ServerSecurity,
    read_authority,
    read_key_pair,
    read_token,
)
from thinwire.common.door.tenants import Access

TOKEN_VARIABLE = "THINWIRE_TOKEN"

PemFile = Annotated[str | None, Option("PEM file")]


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """Who gets into a listener; numbers are checked by `ServerSecurity`."""

    tls_cert: PemFile = None
    """Certificate chain to show; on loopback too it switches TLS on."""
    tls_key: PemFile = None
    """Its private key."""
    tls_client_ca: PemFile = None
    """Mutual TLS: callers must show a certificate of this authority."""
    tokens: Annotated[str | None, Option("JSON file")] = None
    """Take only these tenants' tokens; read again on SIGHUP."""
    insecure_plaintext: Switch = False
    """Off loopback, go without what is not given of these; for tunnels and measurements."""
    max_unproved_per_peer: Annotated[int, Option("connections")] = MAX_UNPROVED_PER_PEER
    """Connections of one address that have made no call yet that was let in; one more is closed."""
    handshake_timeout_s: Annotated[float, Option("seconds")] = HANDSHAKE_TIMEOUT_S
    """How long a connection may take for TLS and its first call that is let in."""

    def security(self) -> ServerSecurity:
        """
        Read the files.

        Raises:
            ConfigError: one is not what it should be, or a number is out of its range.
        """
        return ServerSecurity(
            key_pair=read_key_pair(self.tls_cert, self.tls_key, flags="--tls-cert and --tls-key"),
            client_authority=read_authority(self.tls_client_ca),
            access=Access(self.tokens),
            insecure_plaintext=self.insecure_plaintext,
            max_unproved_per_peer=self.max_unproved_per_peer,
            handshake_timeout_s=self.handshake_timeout_s,
        )


@dataclass(frozen=True, slots=True)
class DialOptions:
    """How a peer is dialled."""

    ca: PemFile = None
    """Authority of the peer's certificate; none is the public ones, off loopback."""
    cert: PemFile = None
    """Certificate to show the peer, for mutual TLS."""
    key: PemFile = None
    """Its private key."""
    token_file: Annotated[str | None, Option("file")] = None
    """Token for the peer; none is the variable THINWIRE_TOKEN, or no token."""
    insecure_plaintext: Switch = False
    """Off loopback, dial without TLS where no authority and no certificate is given."""

    def security(self, environment: Mapping[str, str], *, prefix: str = "") -> ClientSecurity:
        """
        Read the files.

        Args:
            environment: THINWIRE_TOKEN holds the token unless a file does.
            prefix: of the options, for messages.

        Raises:
            ConfigError: one is not what it should be.
        """
        given = environment.get(TOKEN_VARIABLE) or None
        token = given if self.token_file is None else read_token(self.token_file)
        flags = f"--{prefix}cert and --{prefix}key"
        return ClientSecurity(
            authority=read_authority(self.ca),
            key_pair=read_key_pair(self.cert, self.key, flags=flags),
            token=token,
            insecure_plaintext=self.insecure_plaintext,
        )
