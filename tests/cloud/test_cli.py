"""`thinwire-cloud` as a process: exit codes, one-sentence errors, and its orderly end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from model.checkpoints import VOCABULARY_SIZE, save_checkpoint
from thinwire.cloud.cli import main
from thinwire.common import wire

ROOT = Path(__file__).resolve().parents[2]


async def start(*arguments: str) -> asyncio.subprocess.Process:
    """`thinwire-cloud serve` with `arguments`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "thinwire.cloud",
        "serve",
        *("--log-format", "text"),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
    )


async def finished(process: asyncio.subprocess.Process) -> tuple[int | None, list[str]]:
    """(exit code, its own lines on standard error)."""
    _, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode, own_lines(err.decode())


def own_lines(said: str) -> list[str]:
    """The daemon's sentences on standard error."""
    mark = "thinwire-cloud: "
    return [line.removeprefix(mark) for line in said.splitlines() if line.startswith(mark)]


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
def test_help_names_every_option_and_exit_code(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The options with their defaults, then what an exit code means."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    text = capsys.readouterr().out

    assert ended.value.code == 0
    assert "exit codes:" in text
    if len(arguments) == 2:
        for option in (
            "--model",
            "--listen",
            "--revision",
            "--dtype",
            "--device",
            "--threads",
            "--port-file",
        ):
            assert option in text
        assert "one or is refused (default 16)" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-sessions", "0"], "--max-sessions is 0; expected an integer from 1 to 10000."),
        (["--max-queued-rounds", "0"], "--max-queued-rounds is 0; expected an integer from 1 to 10000."),
        (["--max-batch-sequences", "0"], "--max-batch-sequences is 0; expected an integer from 1 to 10000."),
        (["--max-batch-tokens", "0"], "--max-batch-tokens is 0; expected an integer from 1 to 1000000."),
        (["--kv-bytes", "-1"], "--kv-bytes is -1; expected an integer from 1 to 9223372036854775807."),
        (["--resume-ttl", "0"], "--resume-ttl is 0.0; expected more than 0 to 86400 seconds."),
        (["--open-timeout", "0"], "--open-timeout is 0.0; expected more than 0 to 86400 seconds."),
        (["--drain-grace", "nan"], "--drain-grace is nan; expected 0 to 86400 seconds."),
        (["--threads", "0"], "--threads is 0; expected an integer from 1 to 10000."),
        (
            ["--handshake-timeout", "0"],
            "--handshake-timeout is 0.0; expected more than 0 and at most 3600 seconds.",
        ),
        (
            ["--max-unproved-per-peer", "0"],
            "--max-unproved-per-peer is 0; expected an integer from 1 to 10000.",
        ),
        (
            ["--tokens", "/nonexistent"],
            "--tokens is '/nonexistent'; expected a file that can be read (No such file or directory).",
        ),
    ],
)
def test_a_setting_out_of_range_is_exit_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence with the value received and the range expected."""
    code = main(["serve", *arguments])

    assert code == 2
    assert capsys.readouterr().err == f"thinwire-cloud: {sentence}\n"


@pytest.mark.parametrize(
    "address", ["7071", "host:port", ":7071", "127.0.0.1:70000", "http://127.0.0.1:7071", "::1:7071"]
)
def test_an_address_of_another_shape_is_exit_code_2(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """argparse names the argument."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--listen", address])

    assert ended.value.code == 2
    assert f"argument --listen: {address!r} is not HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["missing/port", "full"])
async def test_a_port_file_that_cannot_be_written_is_exit_code_2(name: str, tmp_path: Path) -> None:
    """One sentence, before any model is loaded, and nothing half written; a folder is no file."""
    (tmp_path / "full").mkdir()
    path = str(tmp_path / name)
    code, lines = await finished(await start("--listen", "127.0.0.1:0", "--port-file", path))

    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"--port-file is {path!r}; expected a file that can be written (")
    assert not list(tmp_path.glob("*.partial"))


async def test_a_port_in_use_is_exit_code_3() -> None:
    """One sentence, before any model is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, lines = await finished(await start("--listen", address))

    assert code == 3
    assert lines == [f"cannot listen on {address}; expected a free port of this machine."]


@pytest.fixture
def served_offline(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs `thinwire-cloud serve` in this process, which has torch already; (exit code, its lines)."""

    def serve(*arguments: str) -> tuple[int, list[str]]:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        code = main(["serve", "--log-format", "text", "--listen", "127.0.0.1:0", *arguments])
        return code, own_lines(capfd.readouterr().err)

    return serve


def test_an_unknown_model_is_exit_code_4(tmp_path: Path, served_offline: Callable[..., Any]) -> None:
    """The path is named in one sentence."""
    missing = str(tmp_path / "nonesuch")
    code, lines = served_offline("--model", missing)

    assert code == 4
    assert missing in lines[-1]


def test_kv_bytes_that_hold_no_page_are_exit_code_2(
    tmp_path: Path, served_offline: Callable[..., Any]
) -> None:
    """What a page takes is known once the model is there."""
    model = save_checkpoint(tmp_path / "target", "Llama")
    code, lines = served_offline("--model", model, "--kv-bytes", "5")

    assert code == 2
    assert lines[-1] == "--kv-bytes is 5; expected at least 16384, one page of 64 tokens."


async def test_a_signal_ends_a_serving_cloud_in_good_order(tmp_path: Path) -> None:
    """The port stands in the file, health says SERVING, SIGTERM drains, and the exit code is 0."""
    model = save_checkpoint(tmp_path / "target", "Llama")
    port_file = tmp_path / "port"
    process = await start("--listen", "127.0.0.1:0", "--model", model, "--port-file", str(port_file))
    assert process.stderr is not None
    said = []
    while "listening" not in (line := (await process.stderr.readline()).decode()):
        assert line, "the daemon ended before it listened"
    while "serving" not in (line := (await process.stderr.readline()).decode()):
        assert line, "the daemon ended before it served"
        said.append(line)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port_file.read_text().strip()}") as channel:
        serving = await wire.is_serving(channel, wire.VERIFIER_SERVICE, timeout_s=5)
        answer = await wire.VerifierStub(channel).GetServerInfo(wire.server_info_request(), timeout=5)
    process.send_signal(signal.SIGTERM)
    code, lines = await finished(process)
    info = wire.server_info_from_proto(answer)

    assert serving
    assert any("loading" in line for line in said)
    # 16 sessions of 512 tokens, 256 bytes each
    pool = "KV pool of 2097152 bytes, 128 pages of 16384 bytes; sessions are verified together"
    assert any(pool in line for line in said)
    assert info.vocabulary.size == VOCABULARY_SIZE
    assert info.model == "target"
    assert (info.dtype, info.device) == ("float32", "cpu")
    assert len(info.target_fingerprint) == 8
    assert (code, lines[-1]) == (0, "draining")
    assert not list(tmp_path.glob("port.*"))
