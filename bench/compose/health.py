"""
`python -m bench.compose.health cloud|edge`: the health check inside either container; exit code 0 is healthy.

The cloud is healthy when its service says SERVING; the edge when, besides, the link passed its self-test.
"""

from __future__ import annotations

import asyncio
import sys

from bench.compose.link_report import SHARED_FOLDER, LinkState, devices, network_namespace, read_verdict

_TIMEOUT_S = 3.0


async def _is_serving(address: str, service: str) -> bool:
    # Here and not above: before the link has passed, a check costs no import of grpc.
    import grpc

    from common import wire

    async with grpc.aio.insecure_channel(address, options=wire.channel_options()) as channel:
        return await wire.is_serving(channel, service, timeout_s=_TIMEOUT_S)


def main(role: str) -> int:
    """Print one sentence; the exit code."""
    if role == "edge":
        verdict = read_verdict(SHARED_FOLDER, namespace=network_namespace(), present_devices=devices())
        if verdict.state is not LinkState.PASSED:
            print(f"unhealthy: {verdict.sentence}")
            return 1
    address, service = {
        "cloud": ("127.0.0.1:7071", "thinwire.v1.Verifier"),
        "edge": ("127.0.0.1:7072", "thinwire.v1.Generator"),
    }[role]
    if not asyncio.run(_is_serving(address, service)):
        print(f"unhealthy: {service} is not SERVING at {address}")
        return 1
    print("healthy")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
