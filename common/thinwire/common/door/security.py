"""
How a listener is protected, how a peer is dialled, and when that is refused.

Off loopback nothing is served without TLS and tokens and nothing is dialled without TLS;
`--insecure-plaintext` is the one exception.
On loopback, where only this machine's users can listen in, everything is plaintext unless it is asked for.
"""

from __future__ import annotations

import enum
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated

from thinwire.common.config import Option, Switch, check_fields, real, whole
from thinwire.common.door.peers import is_loopback
from thinwire.common.door.tenants import Access
from thinwire.common.errors import ConfigError

HOW_TO_GET_CERTIFICATES = (
    "`thinwire-cloud certs DIR` makes a development authority and certificates for both ends"
)
HOW_TO_GET_A_TOKEN = "`thinwire-cloud token TENANT --file FILE` draws one"
MAX_TOKEN_LENGTH = 512
"""Characters; ours have 46."""
MAX_UNPROVED_PER_PEER = 16
HANDSHAKE_TIMEOUT_S = 10.0
EXPIRES_SOON = timedelta(days=14)
"""From then on every start, and every day of a daemon, warns."""
TOKEN_VARIABLE = "THINWIRE_TOKEN"

PemFile = Annotated[str | None, Option("PEM file")]
_Unproved = Annotated[int, whole("connections", 1, 10_000)]
_Handshake = Annotated[
    float, real("seconds", "more than 0 and at most 3600 seconds", lambda time_s: 0 < time_s <= 3600)
]


class LinkSecurity(enum.Enum):
    """What protects one connection; the value is what `status` shows."""

    LOOPBACK = "plaintext on loopback"
    PLAINTEXT = "PLAINTEXT (--insecure-plaintext)"
    TLS = "TLS"
    MUTUAL_TLS = "mutual TLS"

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody on the way can read it."""
        return self in (LinkSecurity.TLS, LinkSecurity.MUTUAL_TLS)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate chain and its private key, both PEM."""

    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    source: str = ""
    """Where the certificate was read, for messages."""
    expires_at: datetime | None = None
    """When the first certificate of the chain does; None where it is not known."""

    def expiry_warning(self, now: datetime) -> str | None:
        """One sentence if that is soon, or past."""
        if self.expires_at is None or self.expires_at - now > EXPIRES_SOON:
            return None
        return (
            f"WARNING: the certificate {self.source!r} expires at {_shown(self.expires_at)}, and whoever "
            "checks it refuses this end from then on; expected a newer one, which is read at a restart."
        )


@dataclass(frozen=True, slots=True)
class ServerSecurity:
    """How one listener is protected."""

    key_pair: KeyPair | None = None
    """None serves plaintext, which only loopback allows."""
    client_authority: bytes | None = None
    """PEM; whoever dials must show a certificate of this authority (mutual TLS)."""
    access: Access = field(default_factory=Access)
    """Whose tokens are taken; without a token file, everybody's calls."""
    insecure_plaintext: bool = False
    """Off loopback, serve without what is missing above."""
    max_unproved_per_peer: _Unproved = MAX_UNPROVED_PER_PEER
    """Connections of one address without a call that was let in; one more is closed."""
    handshake_timeout_s: _Handshake = HANDSHAKE_TIMEOUT_S
    """Seconds a connection may take for TLS, and until its first call that is let in."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.client_authority is not None and self.key_pair is None:
            raise ConfigError(
                "--tls-client-ca is given without a certificate; expected --tls-cert and --tls-key beside it."
            )

    def of(self, listen: str) -> LinkSecurity:
        """What protects a listener there; ConfigError if others could reach it without TLS or tokens."""
        local = is_loopback(listen)
        if self.key_pair is None and not (local or self.insecure_plaintext):
            raise ConfigError(
                f"{listen} is not a loopback address and there is no certificate; expected --tls-cert and "
                f"--tls-key ({HOW_TO_GET_CERTIFICATES}), or --insecure-plaintext."
            )
        if not (self.access.is_required or local or self.insecure_plaintext):
            raise ConfigError(
                f"{listen} is not a loopback address and there are no tokens; expected --tokens FILE "
                f"({HOW_TO_GET_A_TOKEN}), or --insecure-plaintext."
            )
        if self.key_pair is None:
            return LinkSecurity.LOOPBACK if local else LinkSecurity.PLAINTEXT
        return LinkSecurity.TLS if self.client_authority is None else LinkSecurity.MUTUAL_TLS

    def described(self, listen: str) -> str:
        """What protects a listener at this address, and whether it asks for tokens; for people."""
        return f"{self.of(listen).value}, {'with' if self.access.is_required else 'without'} tokens"

    def warnings(self, listen: str) -> list[str]:
        """One sentence for each protection that this listener lacks though others can reach it."""
        if is_loopback(listen):
            return []
        found = []
        if self.key_pair is None:
            found.append(
                f"WARNING: listening on {listen} without encryption (--insecure-plaintext); "
                "whoever is on the way can read and change everything, tokens included."
            )
        if not self.access.is_required:
            found.append(
                f"WARNING: listening on {listen} without tokens (--insecure-plaintext); "
                "whoever reaches it may use it."
            )
        return found


@dataclass(frozen=True, slots=True)
class ClientSecurity:
    """How one peer is dialled."""

    authority: bytes | None = None
    """PEM of the authority the peer's certificate must be of; None trusts the public ones."""
    key_pair: KeyPair | None = None
    """Shown to a peer that asks for it (mutual TLS)."""
    token: str | None = field(default=None, repr=False)
    """Sent with every call as `authorization: Bearer ...`."""
    insecure_plaintext: bool = False
    """Off loopback, dial without TLS where no authority and no certificate is given."""

    def __post_init__(self) -> None:
        token = self.token
        if token is not None and not (
            0 < len(token) <= MAX_TOKEN_LENGTH
            and token.isascii()
            and token.isprintable()
            and " " not in token
        ):
            raise ConfigError(
                f"the token has {len(token)} characters, some of which no token has; expected one line as "
                "`thinwire-cloud token` prints it."
            )

    def of(self, address: str) -> LinkSecurity:
        """What protects a connection to this address."""
        if self.key_pair is not None:
            return LinkSecurity.MUTUAL_TLS
        if self.authority is not None:
            return LinkSecurity.TLS
        if is_loopback(address):
            return LinkSecurity.LOOPBACK
        return LinkSecurity.PLAINTEXT if self.insecure_plaintext else LinkSecurity.TLS

    def warnings(self, address: str) -> list[str]:
        """One sentence if this connection can be listened in on, or if what is shown on it expires soon."""
        if self.key_pair is not None:
            ending = self.key_pair.expiry_warning(datetime.now(UTC))
            return [] if ending is None else [ending]
        if self.of(address) is not LinkSecurity.PLAINTEXT:
            return []
        with_token = ", the token included" if self.token is not None else ""
        return [
            f"WARNING: dialling {address} without encryption (--insecure-plaintext); "
            f"whoever is on the way can read and change everything{with_token}."
        ]


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
    max_unproved_per_peer: _Unproved = MAX_UNPROVED_PER_PEER
    """Connections of one address that have made no call yet that was let in; one more is closed."""
    handshake_timeout_s: _Handshake = HANDSHAKE_TIMEOUT_S
    """How long a connection may take for TLS and its first call that is let in."""

    def security(self) -> ServerSecurity:
        """Read the files; ConfigError if one is not what it should be, or a number is out of its range."""
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
        Read the files; ConfigError if one is not what it should be.

        The environment's THINWIRE_TOKEN holds the token unless a file does; `prefix` is the options'.
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


def read_key_pair(
    certificate: str | None, key: str | None, *, flags: str, now: datetime | None = None
) -> KeyPair | None:
    """
    A certificate with its key, from PEM files, that belong together and are in force; None for neither.

    ConfigError, naming `flags`, for one alone, unreadable, not of each other, expired, or not valid yet.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError(f"only one of {flags} is given; expected both ({HOW_TO_GET_CERTIFICATES}).")
    chain, private_key = _read(certificate), _read(key)
    try:
        # Without a prompt: a key that needs a passphrase is refused here.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "the key needs a passphrase"
        raise ConfigError(
            f"{certificate!r} and {key!r} are not a certificate and its key ({reason}); expected a PEM pair."
        ) from None
    return KeyPair(chain, private_key, certificate, _end_of(certificate, chain, now or datetime.now(UTC)))


def read_authority(path: str | None) -> bytes | None:
    """An authority's certificates, None for none; ConfigError if unreadable, or no PEM certificate."""
    if path is None:
        return None
    content = _read(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"{path!r} holds no certificate; expected the PEM file of an authority.") from None
    return content


def read_token(path: str) -> str:
    """A token from a file of one line; ConfigError if unreadable or empty."""
    token = _read(path).decode("utf-8", errors="replace").strip()
    if not token:
        raise ConfigError(f"the token file {path!r} is empty; expected a token on one line.")
    return token


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be read ({error.strerror}); expected a readable file.") from None


def _end_of(path: str, chain: bytes, now: datetime) -> datetime | None:
    """
    When a PEM chain that is in force expires, which is when the first of its certificates does.

    None where this library cannot read what TLS itself may take; ConfigError for one that is not in force.
    """
    from cryptography import x509  # only where there is a certificate: it takes its time to load

    try:
        certificates = x509.load_pem_x509_certificates(chain)
        begins = max(certificate.not_valid_before_utc for certificate in certificates)
        ends = min(certificate.not_valid_after_utc for certificate in certificates)
    except ValueError:
        return None
    if now < begins:
        raise ConfigError(
            f"the certificate {path!r} is valid from {_shown(begins)} and it is {_shown(now)}; expected "
            "one in force, or a clock that is right."
        )
    if now >= ends:
        raise ConfigError(
            f"the certificate {path!r} expired at {_shown(ends)} and it is {_shown(now)}; expected one in "
            "force."
        )
    return ends


def _shown(time: datetime) -> str:
    """An aware time for people, to the minute."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
