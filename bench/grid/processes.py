"""
The daemons of one link: cloud and peers at its cloud end, edge and client at its edge end.

All are real processes in the link's two namespaces; they end with the link, however this process ends.
"""

from __future__ import annotations

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
from link.link import End, Link
from link.self_test import module_environment
from thinwire.cloud.certificates import write_certificates

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 3600.0
"""Far beyond a text; the client's own event timeout comes first."""
_POLL_S = 0.02
_LAST_LOG_LINES = 15


class DaemonError(Exception):
    """A daemon died or did not start; the message ends in its last log lines."""


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


class _Process:
    """A process in a session of its own (Ctrl-C is ours to handle), with its log and its port."""

    def __init__(self, name: str, end: End, folder: Path, command: list[str], **options: Any) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        self._port_file = folder / f"{name}.port"
        with self._log.open("wb") as log:
            self.process = end.popen(
                [sys.executable, "-m", *command],
                **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **options},
                # Unbuffered, importable, and with what torch leaves in the temporary folder in ours.
                env={**module_environment(), "PYTHONUNBUFFERED": "1", "TMPDIR": os.fspath(folder)},
                start_new_session=True,
            )

    def port(self, give_up_at_s: float) -> int:
        """Once it is bound."""
        while not self._port_file.exists():
            self.check()
            if time.monotonic() > give_up_at_s:
                raise DaemonError(f"the {self.name} daemon has bound no port. {self.last_words()}")
            time.sleep(_POLL_S)
        return int(self._port_file.read_text())

    def check(self) -> None:
        """DaemonError if it has ended."""
        if self.process.poll() is not None:
            raise DaemonError(
                f"the {self.name} daemon ended with {self.process.returncode}. {self.last_words()}"
            )

    def last_words(self) -> str:
        """The end of its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LOG_LINES:]
        return "Its last log lines:\n" + "\n".join(f"  {line}" for line in lines)

    def wait(self) -> None:
        """Until it has ended; killed after the stop timeout."""
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


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

    def __init__(self, link: Link, folder: Path, settings: StageSettings) -> None:
        self._link = link
        self._folder = folder
        self._logs = {name: _Lines(folder / f"{name}.lines") for name in ("cloud", "peers", "edge")}
        self._daemons: list[_Process] = []
        self._client: _Process | None = None
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
            raise DaemonError(f"the client at the edge gave no answer. {self._client.last_words()}")
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
            self._client.wait()
            stdout.close()
            self._client = None
        for daemon in reversed(self._daemons):  # the edge first
            daemon.process.terminate()
        for daemon in self._daemons:
            daemon.wait()
        self._daemons.clear()

    def _start(self, settings: StageSettings) -> None:
        give_up_at_s = time.monotonic() + START_TIMEOUT_S
        link, folder = self._link, self._folder
        target, draft = str(settings.pair / "target"), str(settings.pair / "draft")
        draft_threads = str(settings.draft_threads)
        at_cloud = ["--listen", f"{link.cloud.address}:0", "--insecure-plaintext"]
        at_cloud += ["--threads", str(settings.target_threads), "--paced", settings.pacing.as_argument()]
        tls, authority = _certificates(folder, link.cloud.address) if settings.tls else ([], "")
        cloud = self._daemon(
            "cloud", link.cloud, "--pass-log", "bench.grid.cloud", "--model", target, *at_cloud, *tls
        )
        models = ["--target", target, "--draft", draft, "--draft-threads", draft_threads]
        peers = self._daemon("peers", link.cloud, "--pass-log", "bench.peers", *models, *at_cloud)
        cloud_address = f"{link.cloud.address}:{cloud.port(give_up_at_s)}"
        edge = self._daemon(
            *("edge", link.edge, "--round-log", "thinwire.edge", "edge"),
            *("--model", draft, "--threads", draft_threads),
            *("--cloud", cloud_address, "--listen", "127.0.0.1:0"),
            # No pings: nothing but the texts may be on the link.
            *("--keepalive", "0", "--round-timeout", "600", "--insecure-plaintext"),
            *(("--cloud-ca", authority) if authority else ()),
        )
        pipes = {"bufsize": 0, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._client = _Process("client", link.edge, folder, ["bench.grid.client"], **pipes)
        answer = self.ask(
            {
                "do": "connect",
                "edge": f"127.0.0.1:{edge.port(give_up_at_s)}",
                "cloud": cloud_address,
                "cloud_ca": authority,
                "peers": f"{link.cloud.address}:{peers.port(give_up_at_s)}",
                "timeout_s": START_TIMEOUT_S,
            }
        )
        if answer.get("failure"):
            words = "\n".join(daemon.last_words() for daemon in self._daemons)
            raise DaemonError(f"{answer['failure']}. {words}")

    def _daemon(self, name: str, end: End, log: str, *command: str) -> _Process:
        """Started, with its port and the log that the option `log` names in files of ours."""
        folder = self._folder
        files = ["--port-file", str(folder / f"{name}.port"), log, str(folder / f"{name}.lines")]
        self._daemons.append(_Process(name, end, folder, [*command, *files]))
        return self._daemons[-1]


def _pipes(client: _Process) -> tuple[IO[bytes], IO[bytes]]:
    """The client's standard input and output."""
    assert client.process.stdin is not None, "a pipe"
    assert client.process.stdout is not None, "a pipe"
    return client.process.stdin, client.process.stdout


def _certificates(folder: Path, host: str) -> tuple[list[str], str]:
    """(the cloud's options for TLS, its authority's file), made for this run in its own folder."""
    certificates = folder / "certificates"
    write_certificates(certificates, [host])
    pair = ["--tls-cert", str(certificates / "cloud.pem"), "--tls-key", str(certificates / "cloud.key")]
    return pair, str(certificates / "ca.pem")
