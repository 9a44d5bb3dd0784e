"""Certificates and token files of a test's own, in its temporary folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from thinwire.cloud.certificates import make_authority, make_pair, write_certificates
from thinwire.cloud.token_file import add_token
from thinwire.common.door.security import (
    ClientSecurity,
    KeyPair,
    ServerSecurity,
    read_authority,
    read_key_pair,
)
from thinwire.common.door.tenants import Access

HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class Certificates:
    """What `thinwire-cloud certs` makes, read as the daemons read it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """A fresh authority and both pairs."""
        write_certificates(folder, ())
        return cls(folder)

    @property
    def authority(self) -> bytes:
        """PEM."""
        content = read_authority(str(self.folder / "ca.pem"))
        assert content is not None, "a file was named"
        return content

    def pair(self, role: str) -> KeyPair:
        """Of "cloud" or "edge"."""
        pair = read_key_pair(str(self.folder / f"{role}.pem"), str(self.folder / f"{role}.key"), flags="both")
        assert pair is not None, "both files were named"
        return pair

    def server(self, role: str, **others: object) -> ServerSecurity:
        """A TLS listener."""
        return ServerSecurity(key_pair=self.pair(role), **others)  # type: ignore[arg-type]

    def client(self, token: str | None = None) -> ClientSecurity:
        """Whoever trusts this authority."""
        return ClientSecurity(authority=self.authority, token=token)


def pair_of(hosts: tuple[str, ...] = HOSTS, *, days: int = 1) -> tuple[bytes, KeyPair]:
    """(authority, a pair of it) in memory; a negative number of days makes an expired one."""
    now = datetime.now(UTC)
    authority = make_authority(now=now)
    return authority.pem, KeyPair(*make_pair(authority, "test", hosts, now=now, days=days))


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token file and what is in it."""

    path: Path

    def add(self, tenant: str, **quotas: float | None) -> str:
        """A token for a tenant."""
        return add_token(str(self.path), tenant, quotas)

    def access(self) -> Access:
        """As a daemon has it."""
        return Access(str(self.path))
