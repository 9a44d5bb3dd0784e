"""
A cell's link, tested, with its daemons: cloud and peers at its cloud end, edge and client at its edge end.

All are real processes in the link's two namespaces; they end with the link, however this process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.grid.cells import Cell, Plan
from bench.grid.measure import Observed
from bench.peers.pacing import Pacing
from link.carrier import LinkCounters
from link.link import End, Link, open_link
from link.self_test import module_environment
from thinwire.cloud.certificates import write_certificates
from thinwire.common.daemon.launcher import Daemon, DaemonDiedError

NOT_PACED = Pacing()
LINK_KIND, CONGESTION_CONTROL = "wire", "cubic"
START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 3600.0
"""Far beyond a text; the client's own event timeout comes first."""
QUIET_S = 0.12
"""Beside the round trip: how long the counters must stand still; a separate ACK comes within 40 ms."""
_POLL_S = 0.02
_QUIET_TIMEOUT_S = 60.0
_LAST_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run is made of besides its plan and methods; the same for every method."""

    prompts: Path
    work: Path
    """Folder of the daemons' logs and ports; emptied for every link, so what died last can be read there."""
    pair: Path
    """Folder with target/ and draft/."""
    target_threads: int = 1
    draft_threads: int = 1
    pacing: Pacing = NOT_PACED
    tls: bool = False
    """Between edge and cloud; the peers' stream is plaintext in any case."""
    seed: int = 1
    """The first prompt's; the next prompt has the next."""
    revision: str = ""
    """The source's commit; written with each link, as a resumed run may have another."""


@contextlib.contextmanager
def open_stage(cell: Cell, plan: Plan, settings: RunSettings, say: Callable[[str], None]) -> Iterator[Stage]:
    """
    The cell's link with its daemons, serving.

    Raises:
        link.errors.LinkError: the link cannot be made, or is not what it says.
        DaemonDiedError: a daemon does not come up.
    """
    options: dict[str, Any] = {"probes": plan.self_test_probes}
    if plan.self_test_flood_s is not None:
        options["flood_s"] = plan.self_test_flood_s
    say(f"{cell}: the link and its self-test")
    shutil.rmtree(settings.work, ignore_errors=True)
    settings.work.mkdir(parents=True)
    with (
        open_link(cell.link, kind=LINK_KIND, congestion_control=CONGESTION_CONTROL) as link,
        contextlib.ExitStack() as started,
    ):
        link.self_test(**options)
        say(f"{cell}: starting the daemons")
        yield Stage(link, settings, started)


class Stage:
    """
    The daemons of one link, serving.

    Args:
        link: open, its self-test passed.
        settings: of the daemons, in the folder `work`.
        started: ends them.

    Raises:
        DaemonDiedError: one does not come up.
    """

    def __init__(self, link: Link, settings: RunSettings, started: contextlib.ExitStack) -> None:
        self._link = link
        self._folder = settings.work.resolve()
        self._read = dict.fromkeys(("cloud", "peers", "edge"), 0)
        """Bytes of each daemon's log of passes or rounds that were read."""
        self._daemons: list[Daemon] = []
        started.callback(_stop, self._daemons)
        addresses = self._start(settings)
        self._client_log = self._folder / "client.log"
        with self._client_log.open("wb") as log:
            self._client = link.edge.popen(
                [sys.executable, "-m", "bench.grid.client"],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**module_environment(), "PYTHONUNBUFFERED": "1", "TMPDIR": str(self._folder)},
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        started.enter_context(self._client)
        started.callback(self._client.kill)
        answer = self._ask({**addresses, "timeout_s": START_TIMEOUT_S})
        if answer.get("failure"):
            words = "\n".join(_last_words(daemon.log) for daemon in self._daemons)
            raise DaemonDiedError(f"{answer['failure']}. {words}")

    def describe(self) -> dict[str, Any]:
        """The link, for the results."""
        return self._link.describe()

    def text(self, command: Mapping[str, Any]) -> Observed:
        """
        One text, and what was seen of it once the link is quiet again.

        Args:
            command: to the client at the edge.

        Raises:
            DaemonDiedError: the client or a daemon is gone.
        """
        before, answer, after = self._link.counters(), self._ask(command), self._quiet()
        lines = {name: self._fresh(name) for name in self._read}
        passes = lines["peers" if command["do"] == "peer" else "cloud"]
        return Observed(answer, before, after, passes, lines["edge"])

    def _start(self, settings: RunSettings) -> dict[str, str]:
        """The daemons' addresses, and the file of the cloud's authority if there is TLS."""
        link, pair = self._link, settings.pair
        target, draft = str(pair / "target"), str(pair / "draft")
        draft_threads = str(settings.draft_threads)
        at_cloud = ["--insecure-plaintext", "--threads", str(settings.target_threads)]
        at_cloud += ["--paced", settings.pacing.as_argument(), "--pass-log"]
        tls, authority = [], ""
        if settings.tls:
            folder = self._folder / "certificates"
            write_certificates(folder, [link.cloud.address])
            tls = ["--tls-cert", str(folder / "cloud.pem"), "--tls-key", str(folder / "cloud.key")]
            authority = str(folder / "ca.pem")
        models = ["--target", target, "--draft", draft, "--draft-threads", draft_threads]
        cloud = self._daemon("cloud", link.cloud, ["bench.grid.cloud", "--model", target, *tls, *at_cloud])
        peers = self._daemon("peers", link.cloud, ["bench.peers", *models, *at_cloud])
        cloud_address = _address(cloud)
        at_edge = ["thinwire.edge", "edge", "--model", draft, "--threads", draft_threads]
        at_edge += ["--cloud", cloud_address, *(["--cloud-ca", authority] if authority else [])]
        # No pings: nothing but the texts may be on the link.
        at_edge += ["--keepalive", "0", "--round-timeout", "600", "--insecure-plaintext", "--round-log"]
        edge = self._daemon("edge", link.edge, at_edge)
        return {
            "edge": _address(edge),
            "cloud": cloud_address,
            "peers": _address(peers),
            "cloud_ca": authority,
        }

    def _daemon(self, name: str, end: End, command: Sequence[str]) -> Daemon:
        """Started; the command's last option names its log of passes or rounds, a file of ours."""
        host = "127.0.0.1" if end is self._link.edge else end.address
        daemon = Daemon(name, self._folder, listen=f"{host}:0", popen=end.popen)
        self._lines(name).touch()
        path = {"PYTHONPATH": module_environment()["PYTHONPATH"]}
        daemon.start(*command, str(self._lines(name)), environment=path)
        self._daemons.append(daemon)
        return daemon

    def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """One command to the client at the edge."""
        stdin, stdout = self._client.stdin, self._client.stdout
        assert stdin is not None, "a pipe"
        assert stdout is not None, "a pipe"
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            line = stdout.readline() if select.select([stdout], (), (), ANSWER_TIMEOUT_S)[0] else b""
        except OSError:
            line = b""
        for daemon in self._daemons:
            daemon.check()
        if not line:
            log = self._client_log.read_text(encoding="utf-8", errors="replace")
            raise DaemonDiedError(f"the client at the edge gave no answer. {_last_words(log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _quiet(self) -> LinkCounters:
        """The counters once nothing has crossed the link for a round trip and a bit."""
        still_s = self._link.description.rtt_s + QUIET_S
        give_up_at_s = time.monotonic() + _QUIET_TIMEOUT_S
        last, since_s = self._link.counters(), time.monotonic()
        while time.monotonic() - since_s < still_s and time.monotonic() < give_up_at_s:
            time.sleep(_POLL_S)
            now = self._link.counters()
            if _crossed(now) != _crossed(last):
                last, since_s = now, time.monotonic()
        return last

    def _lines(self, name: str) -> Path:
        return self._folder / f"{name}.lines"

    def _fresh(self, name: str) -> list[dict[str, Any]]:
        """Whole lines of a daemon's log of passes or rounds since they were read last."""
        with self._lines(name).open("rb") as file:
            file.seek(self._read[name])
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read[name] += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def _stop(daemons: Sequence[Daemon]) -> None:
    for daemon in reversed(daemons):  # the edge first
        daemon.terminate()
    for daemon in daemons:
        asyncio.run(daemon.stopped())


def _address(daemon: Daemon) -> str:
    """HOST:PORT, once it is bound."""
    try:
        return asyncio.run(asyncio.wait_for(daemon.address(), START_TIMEOUT_S))
    except TimeoutError:
        words = _last_words(daemon.log)
        raise DaemonDiedError(f"the {daemon.name} daemon has bound no port. {words}") from None


def _last_words(log: str) -> str:
    """The end of a log."""
    return "\n".join(["Its last log lines:", *(f"  {line}" for line in log.splitlines()[-_LAST_LOG_LINES:])])


def _crossed(counters: LinkCounters) -> tuple[int, int]:
    return counters.up.carried_packets, counters.down.carried_packets
