"""Command-line arguments for certificates and tokens; a token itself is never one of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

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


def add_listener_arguments(parser: argparse.ArgumentParser) -> None:
    """--tls-cert, --tls-key, --tls-client-ca, --tokens, --insecure-plaintext, and bounds on strangers."""
    group = parser.add_argument_group("who gets in (off loopback, certificates and tokens are a must)")
    add = group.add_argument
    add("--tls-cert", metavar="PEM", help="certificate chain to show; on loopback too it switches TLS on")
    add("--tls-key", metavar="PEM", help="its private key")
    add(
        "--tls-client-ca", metavar="PEM", help="mutual TLS: callers must show a certificate of this authority"
    )
    add("--tokens", metavar="FILE", help="take only these tenants' tokens; read again on SIGHUP")
    add(
        "--insecure-plaintext",
        action="store_true",
        help="off loopback, go without what is not given of these; for tunnels and measurements",
    )
    add(
        "--max-unproved-per-peer",
        type=int,
        default=MAX_UNPROVED_PER_PEER,
        metavar="N",
        help="connections of one address that have made no call with a token yet (default %(default)s)",
    )
    add(
        "--handshake-timeout",
        type=float,
        default=HANDSHAKE_TIMEOUT_S,
        metavar="SECONDS",
        help="a connection may take for TLS and its first call (default %(default)g)",
    )


def listener_security(arguments: argparse.Namespace) -> ServerSecurity:
    """
    What `add_listener_arguments` understood.

    Raises:
        ConfigError: a file that is not what it should be.
    """
    return ServerSecurity(
        key_pair=read_key_pair(arguments.tls_cert, arguments.tls_key, flags="--tls-cert and --tls-key"),
        client_authority=read_authority(arguments.tls_client_ca),
        access=Access(arguments.tokens),
        insecure_plaintext=arguments.insecure_plaintext,
        max_unproved_per_peer=arguments.max_unproved_per_peer,
        handshake_timeout_s=arguments.handshake_timeout,
    )


def add_dialling_arguments(parser: argparse.ArgumentParser, *, peer: str, prefix: str = "") -> None:
    """
    --ca, --cert, --key and --token-file, each behind a prefix.

    Args:
        peer: "edge" or "cloud", for the help.
        prefix: "cloud-" where the daemon has certificates of its own too.
    """
    group = parser.add_argument_group(f"getting into the {peer}")
    add = group.add_argument
    add(
        f"--{prefix}ca",
        dest="dial_ca",
        metavar="PEM",
        help=f"authority of the {peer}'s certificate (default: the public ones, off loopback)",
    )
    add(f"--{prefix}cert", dest="dial_cert", metavar="PEM", help="certificate to show, for mutual TLS")
    add(f"--{prefix}key", dest="dial_key", metavar="PEM", help="its private key")
    add(
        f"--{prefix}token-file",
        dest="dial_token_file",
        metavar="FILE",
        help=f"token for the {peer} (default: the variable {TOKEN_VARIABLE}, else none)",
    )
    parser.set_defaults(dial_prefix=prefix)


def dialling_security(arguments: argparse.Namespace, environment: Mapping[str, str]) -> ClientSecurity:
    """
    What `add_dialling_arguments` understood.

    Args:
        arguments: its `insecure_plaintext` too.
        environment: THINWIRE_TOKEN holds the token unless a file does.

    Raises:
        ConfigError: a file that is not what it should be.
    """
    prefix = arguments.dial_prefix
    if arguments.dial_token_file is not None:
        token: str | None = read_token(arguments.dial_token_file)
    else:
        token = environment.get(TOKEN_VARIABLE) or None
    return ClientSecurity(
        authority=read_authority(arguments.dial_ca),
        key_pair=read_key_pair(
            arguments.dial_cert, arguments.dial_key, flags=f"--{prefix}cert and --{prefix}key"
        ),
        token=token,
        insecure_plaintext=arguments.insecure_plaintext,
    )
