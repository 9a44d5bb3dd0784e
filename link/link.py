"""
The one interface to a link, whichever kind it is.

    with open_link(LinkDescription(rate_up_bps=256_000, rate_down_bps=1_000_000, rtt_s=0.05)) as link:
        link.self_test()
        server = link.cloud.popen(["thinwire-cloud", "serve", "--listen", f"{link.cloud.address}:7000"])
        ...
        result["link"] = link.describe()
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from link import runs
from link.carrier import CLOUD_ADDRESS, EDGE_ADDRESS, CarrierFacts, DirectionCounters, LinkCounters
from link.description import ETHERNET_HEADER_BYTES, LinkDescription
from link.devices import DEVICE, InterfaceCounters, interface_counters
from link.errors import LinkBrokenError, LinkDescriptionError, LinkRefusedError, LinkUnavailableError
from link.keeper import CARRIERS, KeeperSettings
from link.probe import NamespacePaths
from link.self_test import (
    FLOOD_S,
    FRAME_FORMULA,
    TRIES,
    Scope,
    SelfTestReport,
    module_environment,
    run_self_test,
)

DEFAULT_CONGESTION_CONTROL = "cubic"
"""What most hosts use; on a short queue bbr gets a sixth less."""
START_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 8.0
"""Longer than the link's own process takes to end what runs on it."""


class End:
    """
    One end of a link: an address, and a way to run processes there.

    Args:
        address: of this end, on the link.
        peer_address: of the other.
        prefix: command line in front of a command that shall run at this end.
        interface_table: /proc/PID/task/TID/net/dev of this end.
    """

    def __init__(
        self, *, address: str, peer_address: str, prefix: Sequence[str], interface_table: str
    ) -> None:
        self.address = address
        self.peer_address = peer_address
        self.prefix = tuple(prefix)
        self._interface_table = interface_table
        self._processes: list[subprocess.Popen[Any]] = []

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """
        Start a process at this end; it is ended with the link.

        It is killed when the *thread* that calls this ends (PR_SET_PDEATHSIG): call it from one that lasts.

        Args:
            options: of subprocess.Popen.
        """
        process = subprocess.Popen([*self.prefix, *command], **options)
        self._processes.append(process)
        return process

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """
        Run a command at this end and wait for it.

        Args:
            options: of subprocess.run.
        """
        return subprocess.run([*self.prefix, *command], **options)

    def interface_counters(self) -> InterfaceCounters:
        """The kernel's own counters of this end's device, loopback excluded."""
        return interface_counters(DEVICE, Path(self._interface_table))

    def reap(self) -> None:
        """Collect the processes that `popen` started, once they have been ended."""
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1.0)


def open_link(
    description: LinkDescription,
    *,
    kind: str = "wire",
    congestion_control: str = DEFAULT_CONGESTION_CONTROL,
    seed: int = 0,
) -> NamespaceLink:
    """
    Make a link; left-overs of dead owners are swept first.

    Args:
        kind: "wire" or "tc".
        congestion_control: of TCP at both ends.
        seed: of the wire's jitter and loss.

    Raises:
        LinkUnavailableError: it cannot be made here; without root the message ends in the sudo line.
        LinkDescriptionError: no such kind.
    """
    return NamespaceLink(description, kind=kind, congestion_control=congestion_control, seed=seed)


class NamespaceLink:
    """The owner's side of a link in two network namespaces; arguments of `open_link`."""

    def __init__(
        self, description: LinkDescription, *, kind: str, congestion_control: str, seed: int
    ) -> None:
        if kind not in CARRIERS:
            raise LinkDescriptionError(f"kind is {kind!r}; expected one of {', '.join(CARRIERS)}.")
        for tool in ("nsenter", "setpriv"):
            if shutil.which(tool) is None:
                raise LinkUnavailableError(f"{tool} is missing; it comes with util-linux.")
        runs.sweep()
        self.description = description
        self.kind = kind
        self.run_id = runs.new_run_id()
        self._seed = seed
        self._report: SelfTestReport | None = None
        self._asking = threading.Lock()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the link
        settings = KeeperSettings(
            run_id=self.run_id,
            owner_pid=os.getpid(),
            kind=kind,
            description=description,
            congestion_control=congestion_control,
            seed=seed,
        )
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "link.keeper", settings.as_json()],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**module_environment(), runs.RUN_VARIABLE: self.run_id},
            start_new_session=True,
        )
        try:
            self._ready = self._hear(START_TIMEOUT_S)
        except BaseException:
            self._stop_keeper()
            raise
        self._facts = CarrierFacts(**self._ready["facts"])
        self.edge, self.cloud = self._make_ends()
        # Held so that the numbers in `namespace_inodes` cannot pass to another link before `close` is done.
        self._held = [
            os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            for path in (self.namespaces.edge, self.namespaces.cloud)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def namespaces(self) -> NamespacePaths:
        """Where both ends are, for a process that wants to enter them itself."""
        process = f"/proc/{self._keeper.pid}"
        return NamespacePaths(
            edge=f"{process}/task/{self._ready['edge_thread']}/ns/net",
            cloud=f"{process}/task/{self._ready['cloud_thread']}/ns/net",
            edge_address=EDGE_ADDRESS,
            cloud_address=CLOUD_ADDRESS,
            user=f"{process}/ns/user" if self._ready["in_user_namespace"] else None,
        )

    @property
    def keeper_pid(self) -> int:
        """The link's own process."""
        return self._keeper.pid

    @property
    def namespace_inodes(self) -> tuple[int, int]:
        """Edge and cloud, as /proc/PID/ns/net shows them."""
        edge, cloud = self._ready["namespace_inodes"]
        return edge, cloud

    def counters(self) -> LinkCounters:
        """
        Packets and bytes both ways since the link was made, the self-test's included.

        Raises:
            LinkBrokenError: the link's process has ended.
        """
        with self._asking:
            try:
                assert self._keeper.stdin is not None, "a pipe"
                self._keeper.stdin.write(b"counters\n")
            except (OSError, ValueError) as error:
                raise LinkBrokenError(f"the link has ended. {self._last_words()}".strip()) from error
            answer = self._hear(ANSWER_TIMEOUT_S)
        return LinkCounters(up=DirectionCounters(**answer["up"]), down=DirectionCounters(**answer["down"]))

    def self_test(
        self, *, tries: int = TRIES, probes: int | None = None, flood_s: float = FLOOD_S
    ) -> SelfTestReport:
        """
        Hold the link against its description, while nothing else uses it.

        Raises:
            LinkRefusedError: it is not what it says; `describe` keeps refusing then.
        """
        self._report = None
        details = self._facts.details
        scope = Scope(
            round_trips="serialisation" in self._facts.reproduces,
            loss="loss" in self._facts.reproduces and "serialisation" in self._facts.reproduces,
            # A bucket that empties while the flood's first packets leave: twice its size is past it.
            warm_up_bytes=(2 * details.get("burst_up_bytes", 0), 2 * details.get("burst_down_bytes", 0)),
        )
        self._report = run_self_test(
            self.namespaces, self.description, scope, tries=tries, probes=probes, flood_s=flood_s
        )
        return self._report

    def describe(self) -> dict[str, Any]:
        """
        Kind, rates, round trip, queue, congestion control, offloads, self-test, lateness: for a result file.

        Raises:
            LinkRefusedError: the self-test has not passed; there is nothing to report on such a link.
        """
        if self._report is None:
            raise LinkRefusedError(
                "the link has not passed its self-test; nothing measured on it can be reported."
            )
        counters = self.counters()
        description = self.description
        return {
            "kind": self.kind,
            "throughput_only": "serialisation" not in self._facts.reproduces,
            "reproduces": list(self._facts.reproduces),
            "lacks": list(self._facts.lacks),
            "rate_up_bps": description.rate_up_bps,
            "rate_down_bps": description.rate_down_bps,
            "rtt_s": description.rtt_s,
            "jitter_s": description.jitter_s,
            "loss": description.loss,
            "queue_up_bytes": description.up.queue_bytes,
            "queue_down_bytes": description.down.queue_bytes,
            "mtu_bytes": description.mtu_bytes,
            "frame_overhead_bytes": ETHERNET_HEADER_BYTES,
            "seed": self._seed,
            **self._facts.details,
            "ends": self._ready["ends"],
            "real_time": self._facts.real_time,
            "in_user_namespace": self._ready["in_user_namespace"],
            "lateness": {
                name: {"max_s": side.late_max_s, "mean_s": side.late_mean_s}
                for name, side in (("up", counters.up), ("down", counters.down))
            },
            "counters": asdict(counters),
            "self_test": {"round_trip_formula": FRAME_FORMULA, **asdict(self._report)},
            "kernel": platform.release(),
            "cpu_count": os.cpu_count(),
            "run_id": self.run_id,
        }

    def close(self) -> None:
        """End everything on the link, then the link; a second call does nothing."""
        if not self._held:
            return
        self._stop_keeper()
        runs.end_processes_in(self.namespace_inodes)  # only if the keeper was killed is there anything left
        while self._held:
            os.close(self._held.pop())
        self.edge.reap()
        self.cloud.reap()

    def _make_ends(self) -> tuple[End, End]:
        paths = self.namespaces
        user = [] if paths.user is None else [f"--user={paths.user}", "--preserve-credentials"]
        tables = [path.replace("/ns/net", "/net/dev") for path in (paths.edge, paths.cloud)]
        marked = ["setpriv", "--pdeathsig", "KILL", "env", f"{runs.RUN_VARIABLE}={self.run_id}"]
        prefixes = [["nsenter", *user, f"--net={path}", *marked] for path in (paths.edge, paths.cloud)]
        edge = End(
            address=EDGE_ADDRESS, peer_address=CLOUD_ADDRESS, prefix=prefixes[0], interface_table=tables[0]
        )
        cloud = End(
            address=CLOUD_ADDRESS, peer_address=EDGE_ADDRESS, prefix=prefixes[1], interface_table=tables[1]
        )
        return edge, cloud

    def _hear(self, timeout_s: float) -> dict[str, Any]:
        """The keeper's next line."""
        assert self._keeper.stdout is not None, "a pipe"
        readable = select.select([self._keeper.stdout], (), (), timeout_s)[0]
        line = self._keeper.stdout.readline() if readable else b""
        if not line:
            state = "has ended" if readable else f"has been silent for {timeout_s:.0f} s"
            raise LinkBrokenError(f"the link's process {state}. {self._last_words()}".strip())
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            hint = "" if os.geteuid() == 0 else f"\nRun it as root: {sudo_line()}"
            raise LinkUnavailableError(f"{message['error']}{hint}")
        return message

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-2000:]

    def _stop_keeper(self) -> None:
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._keeper.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self._log.close()


def sudo_line() -> str:
    """This very command, as root."""
    return shlex.join(["sudo", sys.executable, *sys.orig_argv[1:]])
