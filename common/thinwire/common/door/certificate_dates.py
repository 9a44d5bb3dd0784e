"""From when until when a certificate is in force."""

from __future__ import annotations

from datetime import UTC, datetime

from thinwire.common.errors import ConfigError


def end_of(path: str, chain: bytes, now: datetime) -> datetime | None:
    """
    When a chain that is in force expires, which is when the first of its certificates does.

    Args:
        path: where it was read, for messages.
        chain: PEM.
        now: an aware time.

    Returns:
        an aware time; None where this library cannot read what TLS itself may take.

    Raises:
        ConfigError: one of them has expired, or is not valid yet.
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
            f"the certificate {path!r} is valid from {shown(begins)} and it is {shown(now)}; expected one in "
            "force, or a clock that is right."
        )
    if now >= ends:
        raise ConfigError(
            f"the certificate {path!r} expired at {shown(ends)} and it is {shown(now)}; expected one in "
            "force."
        )
    return ends


def shown(time: datetime) -> str:
    """An aware time for people, to the minute."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
