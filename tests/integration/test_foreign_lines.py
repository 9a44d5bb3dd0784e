"""What the libraries would write to standard error by themselves does not stand in a log of JSON objects."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import warnings
from pathlib import Path

import pytest

from daemon_processes import daemon
from security.credentials import Certificates
from thinwire.common.observe.log import logging_to


@pytest.mark.parametrize(("verbosity", "quiet"), [(None, True), ("INFO", False)])
async def test_a_stranger_cannot_write_into_the_log(
    verbosity: str | None, quiet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC's core has a line for each handshake that fails, which GRPC_VERBOSITY brings back."""
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)  # this process has it from our packages
    if verbosity is not None:
        monkeypatch.setenv("GRPC_VERBOSITY", verbosity)
    folder = Certificates.make(tmp_path / "certificates").folder
    pair = ("--tls-cert", str(folder / "cloud.pem"), "--tls-key", str(folder / "cloud.key"))
    async with daemon(tmp_path, "thinwire.cloud", "serve", *pair) as cloud:
        port = int((await cloud.address()).rpartition(":")[2])
        for nonsense in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(nonsense)
            async with asyncio.timeout(20):
                await reader.read()  # up to the end that the handshake finds
            writer.close()
    lines = cloud.log.splitlines()
    ours = [line for line in lines if line.startswith("{")]

    assert all({"time", "level", "event"} <= set(json.loads(line)) for line in ours)
    assert (ours == lines) is quiet


async def test_a_prompt_of_any_length_leaves_the_log_in_its_format(tmp_path: Path) -> None:
    """A tokenizer knows how long its model's context is, and transformers has a line for longer prompts."""
    async with daemon(tmp_path, "thinwire.edge", "edge", "--cloud", "127.0.0.1:1", "--patience", "0") as edge:
        await edge.says("serving")
        refused = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "thinwire.edge", "generate", "a " * 5000, "--edge", await edge.address()
        )
        async with asyncio.timeout(60):
            await refused.wait()
        await edge.says("generation ended")

    assert [line for line in edge.log.splitlines() if not line.startswith("{")] == []
    assert "Token indices sequence length" not in edge.log


def test_a_warning_of_a_python_library_is_a_line_of_the_log() -> None:
    """In the log's own format."""
    stream = io.StringIO()
    with warnings.catch_warnings(), logging_to(stream, format_="json"):
        warnings.simplefilter("always")
        warnings.warn("a library is old", stacklevel=1)
    (line,) = stream.getvalue().splitlines()

    assert "UserWarning: a library is old" in json.loads(line)["event"]
    assert json.loads(line)["level"] == "WARNING"
