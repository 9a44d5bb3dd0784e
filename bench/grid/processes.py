"""
A cell's link, tested, with its daemons: cloud and peers at its cloud end, edge and client at its edge end.

All are real processes in the link's two namespaces; they end with the link, however this process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from bench.grid.cells import Cell, Plan
from bench.grid.measure import Observed
from bench.peers.pacing import Pacing
from link.carrier import LinkCounters
from link.link import End, NamespaceLink, open_link
from link.self_test import module_environment
from thinwire.cloud.certificates import write_certificates
from thinwire.common import demo_pair
from thinwire.common.config import Option, check_fields, whole
from thinwire.common.daemon.launcher import Daemon, DaemonDiedError

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

    work: Path
    """Folder of the daemons' logs and ports; emptied for every link, so what died last can be read there."""
    prompts: Annotated[Path, Option("file")] = Path(__file__).resolve().parents[1] / "prompts.jsonl"
    """Lines of id and prompt."""
    pair: Annotated[Path, Option("dir")] = demo_pair.target_path().parent
    """Folder with target/ and draft/."""
    threads: Annotated[int, whole("threads", 1, 1024)] = os.cpu_count() or 1
    """Of the target, in either daemon."""
    draft_threads: Annotated[int, whole("threads", 1, 1024)] = 1
    """Of the draft model."""
    pacing: Annotated[Pacing, Option("A_MS,B_MS", parse=Pacing.parse, name="--paced")] = field(
        default_factory=Pacing
    )
    """Least milliseconds of a target pass and of each of its tokens (default: not paced)."""
    tls: Annotated[bool, Option()] = False
    """Between edge and cloud (default: plaintext); the peers' stream is plaintext in any case."""
    seed: Annotated[int, whole("seed", 0, 2**63)] = 1
    """Of the first prompt; the next prompt has the next."""
    revision: str = ""
    """The source's commit; written with each link, as a resumed run may have another."""

    def __post_init__(self) -> None:
        check_fields(self)


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

    def __init__(self, link: NamespaceLink, settings: RunSettings, started: contextlib.ExitStack) -> None:
        self._link = link
        self._folder = settings.work.resolve()
        self._daemons: list[Daemon] = []
        self._read = {"cloud": 0, "peers": 0, "edge": 0}
        """Bytes of each daemon's log of passes or rounds that were read."""
        started.callback(_stop, self._daemons)
        addresses = self._start_daemons(settings)
        with (self._folder / "client.log").open("wb") as log:
            self._client = link.edge.popen(
                [sys.executable, "-m", "bench.grid.client"],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=module_environment(),
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        started.enter_context(self._client)
        started.callback(self._client.kill)
        answer = self._ask({**addresses, "timeout_s": START_TIMEOUT_S})
        if answer.get("failure"):
            raise self._died(answer["failure"])

    def describe(self) -> dict[str, Any]:
        """The link, for the results."""
        return self._link.describe()

    def text(self, request: Mapping[str, Any]) -> Observed:
        """
        What was seen of one text once the link is quiet again.

        Args:
            request: of `client.request_of`.

        Raises:
            DaemonDiedError: the client or a daemon is gone.
        """
        before, answer, after = self._link.counters(), self._ask(request), self._quiet()
        lines = {name: self._fresh(name) for name in self._read}
        passes = lines["cloud" if "scheme" in request else "peers"]
        return Observed(answer, before, after, passes, lines["edge"])

    def _start_daemons(self, settings: RunSettings) -> dict[str, str]:
        """Their addresses, and the file of the cloud's authority if there is TLS."""
        cloud_end, tls, authority = self._link.cloud, [], ""
        if settings.tls:
            folder = self._folder / "certificates"
            write_certificates(folder, [cloud_end.address])
            tls = ["--tls-cert", str(folder / "cloud.pem"), "--tls-key", str(folder / "cloud.key")]
            authority = str(folder / "ca.pem")
        target, draft = (str(settings.pair / role) for role in ("target", "draft"))
        draft_threads = str(settings.draft_threads)
        watched = ["--insecure-plaintext", "--threads", str(settings.threads)]
        watched += ["--paced", settings.pacing.as_argument(), "--pass-log"]
        models = ["--target", target, "--draft", draft, "--draft-threads", draft_threads]
        cloud = self._daemon("cloud", cloud_end, "bench.grid.cloud", "--model", target, *tls, *watched)
        peers = self._daemon("peers", cloud_end, "bench.peers", *models, *watched)
        addresses = {"cloud": self._address(cloud), "cloud_ca": authority}
        at_edge = ["--model", draft, "--threads", draft_threads, "--cloud", addresses["cloud"]]
        at_edge += ["--cloud-ca", authority] if authority else []
        # No pings: nothing but the texts may be on the link.
        at_edge += ["--keepalive", "0", "--round-timeout", "600", "--insecure-plaintext", "--round-log"]
        edge = self._daemon("edge", self._link.edge, "thinwire.edge", "edge", *at_edge)
        return {**addresses, "peers": self._address(peers), "edge": self._address(edge)}

    def _daemon(self, name: str, end: End, *command: str) -> Daemon:
        """Started; the command's last option names its log of passes or rounds."""
        host = end.address if end is self._link.cloud else "127.0.0.1"
        daemon = Daemon(name, self._folder, listen=f"{host}:0", popen=end.popen)
        self._log(name).touch()
        path = {"PYTHONPATH": module_environment()["PYTHONPATH"]}
        daemon.start(*command, str(self._log(name)), environment=path)
        self._daemons.append(daemon)
        return daemon

    def _address(self, daemon: Daemon) -> str:
        """HOST:PORT, once it is bound."""
        try:
            return asyncio.run(asyncio.wait_for(daemon.address(), START_TIMEOUT_S))
        except TimeoutError:
            raise self._died(f"the {daemon.name} daemon has bound no port", daemon.name) from None

    def _ask(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """What the client at the edge answers."""
        stdin, stdout = self._client.stdin, self._client.stdout
        assert stdin is not None, "a pipe"
        assert stdout is not None, "a pipe"
        try:
            stdin.write(json.dumps(line).encode() + b"\n")
            said = stdout.readline() if select.select([stdout], (), (), ANSWER_TIMEOUT_S)[0] else b""
        except OSError:
            said = b""
        for daemon in self._daemons:
            daemon.check()
        if not said:
            raise self._died("the client at the edge gave no answer", "client")
        answer: dict[str, Any] = json.loads(said)
        return answer

    def _died(self, words: str, whose: str = "*") -> DaemonDiedError:
        """With the last lines of the log of one process, or of every one."""
        ends = []
        for path in sorted(self._folder.glob(f"{whose}.log")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LOG_LINES:]
            ends += [f"last lines of {path.name}:", *(f"  {line}" for line in lines)]
        return DaemonDiedError("\n".join([f"{words}.", *ends]))

    def _quiet(self) -> LinkCounters:
        """The counters once nothing has crossed the link for a round trip and a bit."""
        still_s = self._link.description.rtt_s + QUIET_S
        give_up_at_s = time.monotonic() + _QUIET_TIMEOUT_S
        last, since_s = self._link.counters(), time.monotonic()
        while time.monotonic() - since_s < still_s and time.monotonic() < give_up_at_s:
            time.sleep(_POLL_S)
            now = self._link.counters()
            if now != last:
                last, since_s = now, time.monotonic()
        return last

    def _log(self, name: str) -> Path:
        """A daemon's log of passes or rounds."""
        return self._folder / f"{name}.lines"

    def _fresh(self, name: str) -> list[dict[str, Any]]:
        """Whole lines of that log since they were read last."""
        with self._log(name).open("rb") as file:
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
