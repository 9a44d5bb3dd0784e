"""The lines that gRPC's core would write to standard error by itself."""

from __future__ import annotations

import os


def quiet_core_log() -> None:
    """
    Have gRPC's core write none, unless GRPC_VERBOSITY says otherwise.

    They would stand beside a log of JSON objects, and strangers can provoke as many as they like: one for
    each TLS handshake that fails.
    What they say reaches our own log by the errors of calls.

    The core reads the variable when grpc is imported, so the packages of both daemons call this before any of
    their modules is.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
