"""
One end of the link inside a container, in the two ways docker compose offers.

`WireEnd` is `link.sidecar` as a child: a TUN device, and everything a line has.
`BucketEnd` is the kernel's token bucket on the containers' own network: it caps throughput and, without
netem, nothing else.
Either way this end has its address on the link, and the services dial the other's.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Protocol

from link import devices, tc
from link.description import LinkDescription
from link.errors import LinkBrokenError, LinkUnavailableError
from link.self_test import Scope, module_environment
from link.sidecar import DEVICE as WIRE_DEVICE
from link.sidecar import Endpoint

_POLL_S = 0.05
_COMMAND_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0


class LinkEnd(Protocol):
    """What this container has of the link."""

    kind: str
    device: str
    scope: Scope
    """What the self-test may ask for."""
    lacks: tuple[str, ...]
    """Fields of the description that this kind has not."""

    def check(self) -> None:
        """LinkBrokenError if it no longer works."""

    def close(self) -> None:
        """End it."""


class WireEnd:
    """
    The side-car's own process, once the other side answers.

    Args:
        arguments: of this side-car; see `deploy.side_car`.

    Raises:
        LinkUnavailableError: it ended or took too long.
    """

    kind = "side-cars"
    device = WIRE_DEVICE
    scope = Scope(round_trips=True, loss=True)
    lacks: tuple[str, ...] = ()

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="thinwire-link-")
        self._ready = Path(self._folder.name) / "ready"
        described = {
            "--up": arguments.up,
            "--down": arguments.down,
            "--rtt-ms": arguments.rtt_ms,
            "--jitter-ms": arguments.jitter_ms,
            "--loss-percent": arguments.loss_percent,
            "--queue-bytes": arguments.queue_bytes,
            "--mtu": arguments.mtu,
            "--seed": arguments.seed,
            "--address": arguments.address,
            "--peer-address": arguments.peer_address,
        }
        options = [f"{name}={value}" for name, value in described.items() if value is not None]
        peer = f"{arguments.peer.host}:{arguments.peer.port}"
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "link.sidecar", "--end", arguments.end, "--peer", peer),
                *("--peer-timeout-s", str(arguments.peer_timeout_s), "--ready-file", str(self._ready)),
                *options,
            ],
            env=module_environment(),
        )
        try:
            self._await_ready(time.monotonic() + arguments.peer_timeout_s + _COMMAND_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    def _await_ready(self, give_up_at_s: float) -> None:
        while not self._ready.exists():
            if self._process.poll() is not None:
                raise LinkUnavailableError(f"the wire ended with exit code {self._process.returncode}.")
            if time.monotonic() > give_up_at_s:
                raise LinkUnavailableError("the wire is not ready in time.")
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Its process still runs."""
        if self._process.poll() is not None:
            raise LinkBrokenError(f"the wire ended with exit code {self._process.returncode}.")

    def close(self) -> None:
        """Its process prints what it has carried, and ends."""
        self._process.terminate()
        try:
            self._process.wait(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


class BucketEnd:
    """
    tc on the device that leads to the other container.

    Raises:
        LinkUnavailableError: the other container has no name yet, or the kernel no token bucket.
    """

    kind = "tc"

    def __init__(self, arguments: argparse.Namespace, description: LinkDescription) -> None:
        self.device = _device_towards(arguments.peer, time.monotonic() + arguments.peer_timeout_s)
        mtu_bytes = description.mtu_bytes
        _run("ip", "link", "set", self.device, "mtu", str(mtu_bytes))
        _run("ip", "address", "replace", f"{arguments.address}/24", "dev", self.device)
        devices.switch_offloads_off(self.device)
        netem = self._has_netem()
        own = description.up if arguments.end == "edge" else description.down
        for command in tc.qdisc_commands(own, mtu_bytes=mtu_bytes, netem=netem):
            _run(*(self.device if word == devices.DEVICE else word for word in command))
        self.lacks = ("serialisation", *(() if netem else ("rtt", "jitter", "loss")))
        bursts = (
            tc.burst_bytes(rate_bps, mtu_bytes)
            for rate_bps in (description.rate_up_bps, description.rate_down_bps)
        )
        # A bucket that empties while the flood's first packets leave: twice its size is past it.
        up, down = (2 * burst for burst in bursts)
        self.scope = Scope(round_trips=False, loss=False, warm_up_bytes=(up, down))
        if not netem:
            print(
                "link: THROUGHPUT ONLY: this kernel has no netem, so a token bucket caps the rate, and there "
                f"is no round trip of {description.rtt_s * 1000:g} ms and no time on the line",
                flush=True,
            )

    def _has_netem(self) -> bool:
        try:
            _run("tc", "qdisc", "replace", "dev", self.device, "root", "netem", "delay", "1ms")
        except LinkUnavailableError:
            return False
        _run("tc", "qdisc", "del", "dev", self.device, "root")
        return True

    def check(self) -> None:
        """The kernel keeps it."""

    def close(self) -> None:
        """Take the bucket and the address away."""
        subprocess.run(
            ["tc", "qdisc", "del", "dev", self.device, "root"], check=False, timeout=_COMMAND_TIMEOUT_S
        )


def _device_towards(peer: Endpoint, give_up_at_s: float) -> str:
    while True:
        try:
            address = socket.gethostbyname(peer.host)
            break
        except OSError as error:
            if time.monotonic() > give_up_at_s:
                raise LinkUnavailableError(f"{peer.host} has no address ({error}).") from error
        time.sleep(_POLL_S)
    return str(json.loads(_run("ip", "-json", "route", "get", address))[0]["dev"])


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S
        )
    except FileNotFoundError as error:
        raise LinkUnavailableError(f"{command[0]} is not installed; kind tc needs iproute2.") from error
    if done.returncode != 0:
        raise LinkUnavailableError(f"{' '.join(command)!r} failed: {done.stderr.strip()}")
    return done.stdout
