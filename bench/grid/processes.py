"""
The daemons of one link: cloud and peers at its cloud end, edge and client at its edge end.

All are real processes in the link's two namespaces; they end with the link, however this process ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from bench.peers.pacing import Pacing
from link.link import End, NamespaceLink
from link.self_test import module_environment
from thinwire.cloud.certificates import write_certificates
from thinwire.common.daemon.launcher import Daemon, DaemonDiedError

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 3600.0
"""Far beyond a text; the client's own event timeout comes first."""
_LAST_LOG_LINES = 15


class DaemonError(DaemonDiedError):
    """A daemon or the client did not start or gives no answer; the message ends in its last log lines."""


@dataclass(frozen=True, slots=True)
class StageSettings:
    """What the daemons are started with; the same for every method."""

    pair: Path
    """Folder with target/ and draft/."""
    target_threads: int
    draft_threads: int
    pacing: Pacing
    tls: bool = False
    """Between edge and cloud; the peers' stream is plaintext in any case."""


class _Lines:
    """A growing file of JSON lines, read on from where it was read last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def fresh(self) -> list[dict[str, Any]]:
        """Whole lines written since."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._at += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


class Stage:
    """
    The daemons of one link, serving.

    Args:
        link: open, its self-test passed.
        folder: an empty one for logs and ports.
        settings: of the daemons.

    Raises:
        DaemonError: one does not come up.
    """

    def __init__(self, link: NamespaceLink, folder: Path, settings: StageSettings) -> None:
        self._link = link
        self._folder = folder
        self._client_log = folder / "client.log"
        self._logs = {name: _Lines(folder / f"{name}.lines") for name in ("cloud", "peers", "edge")}
        self._daemons: list[Daemon] = []
        self._client: subprocess.Popen[bytes] | None = None
        try:
            self._start(settings)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """
        One command to the client at the edge.

        Raises:
            DaemonError: the client or a daemon is gone.
        """
        assert self._client is not None, "started"
        stdin, stdout = _pipes(self._client)
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            line = stdout.readline() if select.select([stdout], (), (), ANSWER_TIMEOUT_S)[0] else b""
        except OSError:
            line = b""
        for daemon in self._daemons:
            daemon.check()
        if not line:
            log = self._client_log.read_text(encoding="utf-8", errors="replace")
            raise DaemonError(f"the client at the edge gave no answer. {_last_words(log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def fresh(self) -> dict[str, list[dict[str, Any]]]:
        """Lines of each daemon's log of passes or rounds since they were read last."""
        return {name: lines.fresh() for name, lines in self._logs.items()}

    def close(self) -> None:
        """End everything that was started, in order."""
        if self._client is not None:
            stdin, stdout = _pipes(self._client)
            stdin.close()
            try:
                self._client.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._client.kill()
                self._client.wait()
            stdout.close()
            self._client = None
        for daemon in reversed(self._daemons):  # the edge first
            daemon.terminate()
        for daemon in self._daemons:
            asyncio.run(daemon.stopped())
        self._daemons.clear()

    def _start(self, settings: StageSettings) -> None:
        give_up_at_s = time.monotonic() + START_TIMEOUT_S
        link, folder = self._link, self._folder
        target, draft = str(settings.pair / "target"), str(settings.pair / "draft")
        draft_threads = str(settings.draft_threads)
        at_cloud = ["--insecure-plaintext", "--threads", str(settings.target_threads)]
        at_cloud += ["--paced", settings.pacing.as_argument()]
        tls, authority = _certificates(folder, link.cloud.address) if settings.tls else ([], "")
        cloud = self._daemon(
            "cloud", link.cloud, "--pass-log", "bench.grid.cloud", "--model", target, *at_cloud, *tls
        )
        models = ["--target", target, "--draft", draft, "--draft-threads", draft_threads]
        peers = self._daemon("peers", link.cloud, "--pass-log", "bench.peers", *models, *at_cloud)
        cloud_address = _address(cloud, give_up_at_s)
        edge = self._daemon(
            *("edge", link.edge, "--round-log", "thinwire.edge", "edge"),
            *("--model", draft, "--threads", draft_threads, "--cloud", cloud_address),
            # No pings: nothing but the texts may be on the link.
            *("--keepalive", "0", "--round-timeout", "600", "--insecure-plaintext"),
            *(("--cloud-ca", authority) if authority else ()),
        )
        with self._client_log.open("wb") as log:
            self._client = link.edge.popen(
                [sys.executable, "-m", "bench.grid.client"],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**module_environment(), "PYTHONUNBUFFERED": "1", "TMPDIR": os.fspath(folder)},
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        answer = self.ask(
            {
                "do": "connect",
                "edge": _address(edge, give_up_at_s),
                "cloud": cloud_address,
                "cloud_ca": authority,
                "peers": _address(peers, give_up_at_s),
                "timeout_s": START_TIMEOUT_S,
            }
        )
        if answer.get("failure"):
            words = "\n".join(_last_words(daemon.log) for daemon in self._daemons)
            raise DaemonError(f"{answer['failure']}. {words}")

    def _daemon(self, name: str, end: End, log: str, *command: str) -> Daemon:
        """Started, with the log that the option `log` names in a file of ours."""
        host = self._link.cloud.address if end is self._link.cloud else "127.0.0.1"
        listen = f"{host}:0"
        daemon = Daemon(name, self._folder, listen=listen, popen=end.popen, stop_timeout_s=STOP_TIMEOUT_S)
        path = {"PYTHONPATH": module_environment()["PYTHONPATH"]}
        daemon.start(*command, log, str(self._folder / f"{name}.lines"), environment=path)
        self._daemons.append(daemon)
        return daemon


def _address(daemon: Daemon, give_up_at_s: float) -> str:
    """HOST:PORT, once it is bound."""
    try:
        return asyncio.run(asyncio.wait_for(daemon.address(), give_up_at_s - time.monotonic()))
    except TimeoutError:
        raise DaemonError(f"the {daemon.name} daemon has bound no port. {_last_words(daemon.log)}") from None


def _last_words(log: str) -> str:
    """The end of a log."""
    lines = log.splitlines()[-_LAST_LOG_LINES:]
    return "Its last log lines:\n" + "\n".join(f"  {line}" for line in lines)


def _pipes(client: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """The client's standard input and output."""
    assert client.stdin is not None, "a pipe"
    assert client.stdout is not None, "a pipe"
    return client.stdin, client.stdout


def _certificates(folder: Path, host: str) -> tuple[list[str], str]:
    """(the cloud's options for TLS, its authority's file), made for this run in its own folder."""
    certificates = folder / "certificates"
    write_certificates(certificates, [host])
    pair = ["--tls-cert", str(certificates / "cloud.pem"), "--tls-key", str(certificates / "cloud.key")]
    return pair, str(certificates / "ca.pem")
