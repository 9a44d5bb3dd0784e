"""The services of docker-compose.yml as a project of their own, and what can be asked of them."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.link_report import REPORT_NAME, SHARED_FOLDER
from tests.compose.steps import StepError, run

BUILD_TIMEOUT_S = 1800.0
UP_TIMEOUT_S = 240.0
GENERATION_TIMEOUT_S = 240.0
LINK_TIMEOUT_S = 120.0
"""For a self-test in three tries."""
_COMMAND_TIMEOUT_S = 60.0
_POLL_S = 0.5
_ENDED = '{"event": "ended"'
_COUNTERS = (
    "import json, sys; from dataclasses import asdict; from link.devices import interface_counters; "
    "print(json.dumps(asdict(interface_counters(sys.argv[1]))))"
)
_CONNECT = (
    "import json, socket, sys, time\n"
    "taken = []\n"
    "for _ in range(5):\n"
    "    begun = time.perf_counter()\n"
    "    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10):\n"
    "        taken.append(time.perf_counter() - begun)\n"
    "    time.sleep(0.2)\n"
    "print(json.dumps(taken))"
)


@dataclass(frozen=True, slots=True)
class Generation:
    """One completion by the client."""

    text: str
    token_ids: tuple[int, ...]
    statistics: dict[str, Any]


class Stack:
    """
    One project of compose.

    Args:
        folder: of docker-compose.yml.
        variables: of the compose file, on top of its defaults.
        overrides: further compose files.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], overrides: Sequence[Path] = ()) -> None:
        self._folder = folder
        self._project = f"thinwire-test-{os.getpid()}"
        self._overrides = [f"--file={path}" for path in overrides]
        # Neither a .env of the user's nor a variable of the shell may decide what is tested.
        own = {"EDGE_PORT": str(free_port()), **variables}
        strange = ("LINK", "HEALTH_", "CLOUD_", "EDGE_", "MODELS", "COMPOSE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
        self._environment = {**kept, **own}
        self.edge_port = int(own["EDGE_PORT"])

    def compose(
        self,
        *words: str,
        timeout_s: float = _COMMAND_TIMEOUT_S,
        variables: Mapping[str, str] | None = None,
        overrides: Sequence[Path] = (),
    ) -> str:
        """One command of docker compose; what it printed."""
        command = [
            *("docker", "compose", "--project-name", self._project, "--env-file", os.devnull),
            *(f"--file={self._folder / 'docker-compose.yml'}", *self._overrides),
            *(f"--file={path}" for path in overrides),
            *words,
        ]
        return run(
            command, timeout_s=timeout_s, env={**self._environment, **(variables or {})}, cwd=self._folder
        )

    def execute(self, service: str, *words: str, timeout_s: float = _COMMAND_TIMEOUT_S) -> str:
        """Run a command inside a running service."""
        return self.compose("exec", "-T", service, *words, timeout_s=timeout_s)

    def report(self) -> dict[str, Any]:
        """What the edge's side-car said of the link, read where the edge reads it."""
        report: dict[str, Any] = json.loads(self.execute("edge", "cat", str(SHARED_FOLDER / REPORT_NAME)))
        return report

    def await_report(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The first report with these values; the side-cars have just been started again."""
        give_up_at_s = time.monotonic() + LINK_TIMEOUT_S
        while True:
            try:
                report = self.report()
                if all(report[name] == value for name, value in wanted.items()):
                    return report
            except StepError:
                pass  # not written yet
            if time.monotonic() > give_up_at_s:
                raise StepError(f"no report of the link with {dict(wanted)} in {LINK_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)

    def await_healthy(self) -> None:
        """Until the edge's own health check passes."""
        give_up_at_s = time.monotonic() + _COMMAND_TIMEOUT_S
        while True:
            try:
                self.execute("edge", "python", "-m", "deploy.health")
                return
            except StepError as error:
                if time.monotonic() > give_up_at_s:
                    raise StepError(f"the edge does not become healthy: {error}") from error
            time.sleep(_POLL_S)

    def generate(self, prompt: str, seed: int, max_tokens: int) -> Generation:
        """`docker compose run --rm client PROMPT`."""
        options = ["--seed", str(seed), "--max-tokens", str(max_tokens), "--json"]
        printed = self.compose(
            "run", "--rm", "-T", "client", prompt, *options, timeout_s=GENERATION_TIMEOUT_S
        )
        return parse_generation(printed)

    def counters(self, device: str) -> dict[str, int]:
        """The kernel's counters of the edge's end of the link, read by its side-car."""
        counters: dict[str, int] = json.loads(self.execute("edge-link", "python3", "-c", _COUNTERS, device))
        return counters

    def connect_times_s(self, address: str, port: int) -> list[float]:
        """How long TCP takes to connect from the edge's container: one lone round trip each."""
        times: list[float] = json.loads(self.execute("edge", "python", "-c", _CONNECT, address, str(port)))
        return times

    def ended_lines(self) -> dict[str, dict[str, Any]]:
        """Stop the side-cars; what each of their wires has carried."""
        self.compose("stop", "edge-link", "cloud-link")
        lines = {}
        for service in ("edge-link", "cloud-link"):
            printed = self.compose("logs", "--no-color", "--no-log-prefix", service).splitlines()
            # compose may put terminal codes in front of a line.
            (lines[service],) = [json.loads(line[line.index("{") :]) for line in printed if _ENDED in line]
        return lines

    def logs(self) -> str:
        """The last of what every service said."""
        return self.compose("logs", "--no-color", "--tail", "40")

    def down(self) -> None:
        """Containers, networks and volumes; images stay."""
        self.compose("--profile", "client", "down", "--volumes", "--remove-orphans", timeout_s=120)


def parse_generation(printed: str) -> Generation:
    """From the JSON lines of `thinwire generate`."""
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    statistics = lines[-1]
    if statistics["event"] != "statistics":
        raise StepError(f"the generation ended without statistics: {printed[-500:]}")
    tokens = [line for line in lines if line["event"] == "token"]
    return Generation(statistics["text"], tuple(token["token_id"] for token in tokens), statistics)


def free_port() -> int:
    """A free TCP port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
