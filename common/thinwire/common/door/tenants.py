"""
Who may call: bearer tokens by tenant, from a file that holds only their hashes.

    {"tenants": [{"tenant": "acme", "token_sha256": ["<64 hexadecimal digits>"],
                  "max_sessions": 4, "rounds_per_s": 20, "tokens_per_s": 400}]}

A quota that is left out or null is no limit; several tokens of one tenant let one be replaced by another.
A token has 256 random bits, so its plain SHA-256 cannot be searched and needs no salt.
A token itself is never written anywhere, and no message here repeats one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

from thinwire.common.config import check_fields, real, whole
from thinwire.common.door.whole_file import replace_file, usable_file
from thinwire.common.errors import ConfigError, UnauthenticatedError

DEFAULT_TENANT = "default"
"""Whose the calls are where no tokens are asked for."""
TOKEN_PREFIX = "tw_"
"""Makes a token recognisable to whoever searches for leaked ones."""
_TOKEN_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Can stand in logs and files."""
_DIGEST = re.compile(r"[0-9a-f]{64}")

Rate = Annotated[float | None, real("rate", "more than 0 a second", lambda rate: rate > 0)]


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one tenant may use of one cloud; None is no limit."""

    max_sessions: Annotated[int | None, whole("sessions", 1, 10_000)] = None
    """Sessions at once, those kept for a resume included."""
    rounds_per_s: Rate = None
    """Rounds a second, over all its sessions; a stream costs one, which pays for the first round on it."""
    tokens_per_s: Rate = None
    """Tokens a second that the target scores: the prompt's, and γ + 1 a round."""

    def __post_init__(self) -> None:
        check_fields(self)


NO_QUOTAS = Quotas()


@dataclass(frozen=True, slots=True)
class Tenant:
    """One line of the token file."""

    name: str
    token_sha256: tuple[str, ...]
    """Hexadecimal; empty once every token is revoked."""
    quotas: Quotas = NO_QUOTAS

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"tenant is {self.name!r}; expected 1 to 64 letters, digits, dots, dashes or underscores, "
                "the first a letter or digit."
            )
        for digest in self.token_sha256:
            if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
                raise ConfigError(
                    f"a token_sha256 of tenant {self.name} is not 64 hexadecimal digits; "
                    "expected the SHA-256 that `thinwire-cloud token` writes."
                )


@dataclass(frozen=True, slots=True)
class Credential:
    """Whose a call is, and the token that said so, by its hash."""

    tenant: str
    token_sha256: str = field(default="", repr=False)


ANYONE = Credential(DEFAULT_TENANT)
"""Every caller's credential where no tokens are asked for."""


class Access:
    """The tenants of one daemon, by `read_tenants`; a path of None asks nobody for a token."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._reading = threading.Lock()
        self._tenants = {} if path is None else read_tenants(path)

    @property
    def is_required(self) -> bool:
        """Whether a call needs a token."""
        return self._path is not None

    def reload(self) -> int:
        """
        Read the file again, and count the tenants; one that is not good is a ConfigError and changes nothing.

        May be called from any thread; of two calls the one that read last counts.
        """
        with self._reading:
            if self._path is not None:
                self._tenants = read_tenants(self._path)
            return len(self._tenants)

    def authenticate(self, token: str | None) -> Credential:
        """
        Whose a call with this token is; UnauthenticatedError if there is none, or nobody's.

        Every known hash is compared, each in constant time, so that neither the place nor the likeness of a
        token shows in how long it takes.
        """
        if self._path is None:
            return ANYONE
        if token is None:
            raise UnauthenticatedError("the call carries no token; expected `authorization: Bearer TOKEN`.")
        digest = token_digest(token)
        found = None
        for tenant in self._tenants.values():
            for known in tenant.token_sha256:
                if hmac.compare_digest(known, digest):
                    found = Credential(tenant.name, known)
        if found is None:
            raise UnauthenticatedError("the token is nobody's; expected one of this daemon's tenants.")
        return found

    def check(self, credential: Credential) -> None:
        """Hold that a credential is still in force; UnauthenticatedError if its token has left the file."""
        if self._path is None:
            return
        tenant = self._tenants.get(credential.tenant)
        if tenant is None or credential.token_sha256 not in tenant.token_sha256:
            raise UnauthenticatedError("the token was revoked; expected one that is in force.")

    def quotas(self, tenant: str) -> Quotas:
        """A tenant's quotas; without any limit for one that is not in the file."""
        known = self._tenants.get(tenant)
        return NO_QUOTAS if known is None else known.quotas


def token_digest(token: str) -> str:
    """SHA-256 of a token, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """A fresh token of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def read_tenants(path: str) -> dict[str, Tenant]:
    """A token file, by name; ConfigError if it cannot be read, or is not what it should be."""
    try:
        with usable_file("tokens", path, "read"), open(path, encoding="utf-8") as file:
            content = json.load(file)
    except ValueError:
        raise ConfigError(
            f"the token file {path!r} is not JSON; expected what `thinwire-cloud token` writes."
        ) from None
    entries = content.get("tenants") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ConfigError(f'the token file {path!r} has no list "tenants"; expected {{"tenants": [...]}}.')
    tenants: dict[str, Tenant] = {}
    owners: dict[str, str] = {}
    for entry in entries:
        tenant = _tenant(entry)
        if tenant.name in tenants:
            raise ConfigError(f"tenant {tenant.name} stands twice in {path!r}; expected it once.")
        for digest in tenant.token_sha256:
            if owners.setdefault(digest, tenant.name) != tenant.name:
                raise ConfigError(
                    f"tenants {owners[digest]} and {tenant.name} have one token; expected each its own."
                )
        tenants[tenant.name] = tenant
    return tenants


def write_tenants(path: str, tenants: Mapping[str, Tenant]) -> None:
    """Write a token file whole, for its owner only; the caller holds its lock. ConfigError if it fails."""
    entries = [
        {"tenant": tenant.name, "token_sha256": list(tenant.token_sha256), **asdict(tenant.quotas)}
        for tenant in tenants.values()
    ]
    with usable_file("tokens", path, "written"):
        replace_file(path, json.dumps({"tenants": entries}, indent=2) + "\n", mode=0o600)


def _tenant(entry: Any) -> Tenant:
    """One entry of the file; ConfigError if a field is missing, unknown or out of range."""
    quotas = {quota.name for quota in fields(Quotas)}
    known = {"tenant", "token_sha256", *quotas}
    if not isinstance(entry, dict) or not {"tenant", "token_sha256"} <= set(entry) <= known:
        found = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise ConfigError(f"a tenant has the fields {found}; expected some of {sorted(known)}.")
    digests = entry["token_sha256"]
    if not isinstance(digests, list):
        raise ConfigError(f"token_sha256 is a {type(digests).__name__}; expected a list.")
    given = Quotas(**{name: value for name, value in entry.items() if name in quotas})
    return Tenant(entry["tenant"], tuple(digests), given)
