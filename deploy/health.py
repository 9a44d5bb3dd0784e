"""
`python -m deploy.health`: the health check inside the edge's container; exit code 0 is healthy.

The edge is healthy when the link beside it passed its self-test and its service says SERVING.
The cloud's container asks `thinwire-cloud health`.
"""

from __future__ import annotations

import asyncio
import sys

from deploy.link_report import SHARED_FOLDER, LinkState, devices, network_namespace, read_verdict

ADDRESS = "127.0.0.1:7072"
_TIMEOUT_S = 3.0


def main() -> int:
    """Print one sentence; the exit code."""
    verdict = read_verdict(SHARED_FOLDER, namespace=network_namespace(), present_devices=devices())
    if verdict.state is not LinkState.PASSED:
        print(f"unhealthy: {verdict.sentence}")
        return 1
    # Here and not above: before the link has passed, a check costs no import of grpc.
    from deploy.credentials import FOLDER
    from thinwire.common import wire
    from thinwire.common.daemon.health_command import health
    from thinwire.common.door.security import ClientSecurity, read_authority

    security = ClientSecurity(authority=read_authority(str(FOLDER / "ca.pem")))
    code, sentence = asyncio.run(health(ADDRESS, wire.GENERATOR_SERVICE, security, timeout_s=_TIMEOUT_S))
    print(sentence)
    return code


if __name__ == "__main__":
    sys.exit(main())
