"""The `health` command against daemons that serve, load, are absent or want certificates."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from loopback import loopback
from security.credentials import Certificates, Tokens
from tests.integration.operations import VOCABULARY, models
from thinwire.cloud.cli import main as cloud_main
from thinwire.cloud.daemon import CloudServer
from thinwire.common.causal_model import ServedModel
from thinwire.edge.cli import main as edge_main
from thinwire.edge.daemon import EdgeServer

ROOT = Path(__file__).resolve().parents[2]
MAIN = {"cloud": cloud_main, "edge": edge_main}
Health = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def health(capsys: pytest.CaptureFixture[str]) -> Health:
    """Runs `PROGRAM health --PEER ADDRESS` beside the daemons of this process; (exit code, what it said)."""

    async def ask(program: str, peer: str, address: str, *more: str) -> tuple[int, str]:
        code = await asyncio.to_thread(MAIN[program], ["health", f"--{peer}", address, *more])
        said = capsys.readouterr()
        return code, (said.out + said.err).strip()

    return ask


async def health_process(address: str) -> tuple[int | None, str]:
    """The same as a process, as a container's health check runs it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "thinwire.cloud", "health", "--cloud", address),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode().strip()


async def test_health_tells_serving_loading_and_absent_apart(health: Health) -> None:
    """Exit codes 0, 1 and 5, of either daemon; another daemon's service is not SERVING."""
    async with loopback(*models(), VOCABULARY) as both:
        cloud = await health("cloud", "cloud", both.cloud_address)
        process = await health_process(both.cloud_address)
        edge = await health("edge", "edge", both.edge_address)
        other = await health("cloud", "cloud", both.edge_address)
    absent = await health("cloud", "cloud", both.cloud_address)
    loading_cloud = CloudServer(None)
    loading_edge = EdgeServer(None, cloud_address=both.cloud_address)
    ports = [await server.start("127.0.0.1:0") for server in (loading_cloud, loading_edge)]
    try:
        not_yet = await health("cloud", "cloud", f"127.0.0.1:{ports[0]}")
        nor_the_edge = await health("edge", "edge", f"127.0.0.1:{ports[1]}")
    finally:
        await loading_cloud.stop(0)
        await loading_edge.stop(0)

    assert process == cloud == (0, f"thinwire.v1.Verifier at {both.cloud_address}: SERVING")
    assert edge == (0, f"thinwire.v1.Generator at {both.edge_address}: SERVING")
    assert other == (1, f"thinwire.v1.Verifier at {both.edge_address}: SERVICE_UNKNOWN")
    assert not_yet == (1, f"thinwire.v1.Verifier at 127.0.0.1:{ports[0]}: NOT_SERVING")
    assert nor_the_edge == (1, f"thinwire.v1.Generator at 127.0.0.1:{ports[1]}: NOT_SERVING")
    assert absent[0] == 5
    assert absent[1].startswith(f"{both.cloud_address} does not answer: ")


async def test_health_needs_the_certificates_and_no_token(tmp_path: Path, health: Health) -> None:
    """Over TLS with the authority; without it the certificate does not hold, and that is no answer."""
    certificates, tokens = Certificates.make(tmp_path / "certificates"), Tokens(tmp_path / "tokens.json")
    tokens.add("acme")
    security = certificates.server("cloud", access=tokens.access())
    server = CloudServer(ServedModel(model=models()[0], vocabulary=VOCABULARY), security=security)
    address = f"localhost:{await server.start('127.0.0.1:0')}"
    try:
        good = await health("cloud", "cloud", address, "--ca", str(certificates.folder / "ca.pem"))
        plain = await health("cloud", "cloud", address)
        never = await health("cloud", "cloud", address, "--timeout", "0")
    finally:
        await server.stop(0)

    assert good == (0, f"thinwire.v1.Verifier at {address}: SERVING")
    assert plain[0] == 5
    assert never == (2, "thinwire-cloud: --timeout is 0.0; expected more than 0 to 86400 seconds.")
