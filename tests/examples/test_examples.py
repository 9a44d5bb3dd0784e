"""Each file of examples/ as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_edge import RunningEdge, running_edge
from thinwire.edge.telemetry import RoundLog

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TESTED = {"client.py", "async_client.py", "in_memory_pair.py", "round_log.py"}


@pytest.fixture
def round_log(tmp_path: Path) -> Path:
    """Where the edge writes its rounds."""
    return tmp_path / "rounds.jsonl"


@pytest.fixture
def edge(round_log: Path) -> Iterator[RunningEdge]:
    """A running pair whose vocabulary has letters, blanks and full stops."""
    log = RoundLog(str(round_log))
    with running_edge(64, round_log=log) as edge:
        yield edge
    log.close()


def start(name: str, *arguments: str, edge: RunningEdge | None = None) -> subprocess.CompletedProcess[str]:
    """The example, run to its end."""
    environment = {**os.environ, "THINWIRE_EDGE": edge.address if edge is not None else "127.0.0.1:1"}
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def run(name: str, *arguments: str, edge: RunningEdge | None = None) -> str:
    """What the example prints; it must end well, and without a word on standard error."""
    done = start(name, *arguments, edge=edge)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_example_is_run_here() -> None:
    """One that is forgotten would rot."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED


def test_client(edge: RunningEdge) -> None:
    """The text, and its statistics."""
    text, numbers = run("client.py", "is prime", edge=edge).split("\n\n")

    assert len(text) == 64
    assert numbers.startswith("64 tokens in ")


def test_client_without_an_edge() -> None:
    """One line with the reason, and exit code 1."""
    done = start("client.py", "is prime")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("LINK: no edge answers at 127.0.0.1:1; expected")


def test_async_client(edge: RunningEdge) -> None:
    """A text for each prompt, in order."""
    said = run("async_client.py", "add", "sub", edge=edge)

    assert said.startswith("add" + edge.expected("add", seed=1, max_tokens=32))
    assert said.count("--- length") == 2


def test_round_log(edge: RunningEdge, round_log: Path) -> None:
    """Of the rounds that the other example made."""
    run("client.py", "is prime", edge=edge)

    assert run("round_log.py", str(round_log)).startswith("c-sqs      place  1: ")


def test_in_memory_pair() -> None:
    """A text of 40 tokens; the same at every run."""
    said = run("in_memory_pair.py")

    assert said.endswith("ended by length\n")
    assert sum(said.count(f"({kind})") for kind in ("accepted", "resampled", "bonus")) == 40
    assert said == run("in_memory_pair.py")


def test_plugin_scheme(tmp_path: Path) -> None:
    """Installed beside Thinwire it is a scheme like any other, over real gRPC."""
    installed = tmp_path / "nucleus_sqs-0.1.0.dist-info"
    installed.mkdir()
    project = tomllib.loads((EXAMPLES / "plugin_scheme" / "pyproject.toml").read_text(encoding="utf-8"))
    ((name, points),) = project["project"]["entry-points"].items()
    lines = [f"[{name}]", *(f"{point} = {target}" for point, target in points.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    (installed / "METADATA").write_text("Name: nucleus-sqs\nVersion: 0.1.0\n", encoding="utf-8")
    program = (
        "import thinwire\n"
        "from running_edge import running_edge\n"
        "with running_edge(64) as edge, thinwire.Client(edge.address) as client:\n"
        "    text = client.complete('is prime', scheme='nucleus-sqs:p=0.5', max_tokens=32)\n"
        "    took = text.statistics\n"
        "    print(took.output_tokens, took.accepted_tokens > 0, took.mean_dropped_mass > 0)\n"
    )
    paths = [tmp_path, EXAMPLES / "plugin_scheme", ROOT / "tests", *map(Path, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        check=False,
    )

    assert (done.returncode, done.stderr, done.stdout) == (0, "", "32 True True\n")
