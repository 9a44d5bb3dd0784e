"""
A development authority and one certificate pair for either end: `thinwire-cloud certs DIR`.

For trying things out and for a closed group of machines; its authority's key is thrown away, so nobody can
make another certificate under it.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from thinwire.common.errors import ConfigError

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""In every certificate, beside the hosts asked for."""
VALID_DAYS = 365
_CLOCK_SKEW = timedelta(hours=1)
"""Machines whose clocks are this far behind still take a fresh certificate."""
_OTHER_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "encipher_only", "decipher_only"),
)
NAMES = ("ca.pem", "cloud.pem", "cloud.key", "edge.pem", "edge.key")

DESCRIPTION = """\
ca.pem      the authority: thinwire-cloud serve --tls-client-ca, thinwire edge --cloud-ca and --tls-client-ca,
            thinwire generate --ca
cloud.pem   the cloud's certificate, with cloud.key: thinwire-cloud serve --tls-cert, --tls-key
edge.pem    the edge's certificate, with edge.key: thinwire edge --tls-cert, --tls-key, and for mutual TLS
            --cloud-cert, --cloud-key
"""


@dataclass(frozen=True, slots=True)
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """What those who trust it are given."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def make_authority(*, now: datetime, days: int = VALID_DAYS) -> Authority:
    """One that signs end certificates only; it is valid from a little before `now`, an aware time."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities of one name would differ by a bad signature only, which says nothing to a reader.
    common_name = f"Thinwire development authority {secrets.token_hex(4)}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, **dict.fromkeys(_OTHER_USES, False))
    builder = (
        _builder(name, name, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return Authority(builder.sign(key, hashes.SHA256()), key)


def make_pair(
    authority: Authority, name: str, hosts: Sequence[str], *, now: datetime, days: int = VALID_DAYS
) -> tuple[bytes, bytes]:
    """
    A certificate for both directions and its unencrypted key, both PEM.

    Args:
        name: its common name, "cloud" or "edge"; nothing is decided by it.
        hosts: names and IP addresses it is valid for; ConfigError for one that no certificate can hold.
        now: an aware time; it is valid from a little before.
        days: how long; a negative number makes one that has expired.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"thinwire {name}")])
    both_ways = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder(subject, authority.certificate.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(both_ways), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def write_certificates(folder: Path, hosts: Sequence[str], *, now: datetime | None = None) -> list[Path]:
    """
    An authority and both pairs as the files `NAMES` of a folder; keys are readable by their owner only.

    Args:
        folder: made if it is not there; none of the files may be.
        hosts: beside `LOCAL_HOSTS`, for both ends.

    Raises:
        ConfigError: a file is there already, a host is none, or the folder cannot be written.
    """
    present = [name for name in NAMES if (folder / name).exists()]
    if present:
        raise ConfigError(
            f"{folder} already holds {', '.join(present)}; expected none of them, or another folder."
        )
    now = now or datetime.now(UTC)
    every_host = tuple(dict.fromkeys((*LOCAL_HOSTS, *hosts)))
    authority = make_authority(now=now)
    contents = {"ca.pem": authority.pem}
    for role in ("cloud", "edge"):
        certificate, key = make_pair(authority, role, every_host, now=now)
        contents |= {f"{role}.pem": certificate, f"{role}.key": key}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            mode = 0o600 if name.endswith(".key") else 0o644
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(descriptor, "wb") as file:
                file.write(content)
    except OSError as error:
        raise ConfigError(
            f"{str(folder)!r} cannot be written ({error.strerror}); expected a folder that can."
        ) from None
    return [folder / name for name in contents]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    begins = min(now - _CLOCK_SKEW, now + timedelta(days=days) - _CLOCK_SKEW)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    labels = host.split(".")
    if not host.isascii() or not all(label and label.replace("-", "a").isalnum() for label in labels):
        raise ConfigError(f"host is {host!r}; expected a host name or an IP address, without a port.")
    return x509.DNSName(host)
