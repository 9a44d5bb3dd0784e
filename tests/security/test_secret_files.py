"""Token files under many writers, and what is written where others could read it or lead it elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from thinwire.cloud.cli import main as cloud_main
from thinwire.cloud.token_file import add_token, revoke_tokens
from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.daemon.process import run_daemon
from thinwire.common.daemon.settings import DaemonOptions
from thinwire.common.door.tenants import read_tenants
from thinwire.common.door.whole_file import locked, new_private_file, replace_file
from thinwire.common.errors import ConfigError

PROCESSES, THREADS = 4, 5
WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from thinwire.cloud.token_file import add_token, revoke_tokens
path, number, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
def write(thread):
    for tenant in (f"kept-{number}-{thread}", f"gone-{number}-{thread}"):
        add_token(path, tenant, {})
        add_token(path, tenant, {"max_sessions": 3})
    assert revoke_tokens(path, f"gone-{number}-{thread}") == 2
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(write, range(threads)))
"""


def mode_of(path: Path) -> int:
    """Permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_twenty_writers_at_once_lose_no_token_and_a_reader_never_sees_half(tmp_path: Path) -> None:
    """Four processes of five threads draw and revoke; all that time the file is read, whole each time."""
    path = tmp_path / "tokens.json"
    add_token(str(path), "first", {})
    over = threading.Event()
    reads = 0

    def read() -> None:
        nonlocal reads
        while not over.is_set():
            assert "first" in read_tenants(str(path))
            reads += 1

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number), str(THREADS)])
            for number in range(PROCESSES)
        ]
        try:
            codes = [writer.wait(timeout=60) for writer in writers]
        finally:
            over.set()
        reading.result()
    tokens = {name: len(tenant.token_sha256) for name, tenant in read_tenants(str(path)).items()}

    assert codes == [0] * PROCESSES
    assert tokens.pop("first") == 1
    assert len(tokens) == 2 * PROCESSES * THREADS
    assert {count for name, count in tokens.items() if name.startswith("kept")} == {2}
    assert {count for name, count in tokens.items() if name.startswith("gone")} == {0}
    assert reads > 10
    assert {entry.name for entry in tmp_path.iterdir()} == {"tokens.json", "tokens.json.lock"}


def test_a_lock_that_is_held_is_waited_for_and_not_for_ever(tmp_path: Path) -> None:
    """A command that hangs is named."""
    path = str(tmp_path / "tokens.json")
    held = pytest.raises(ConfigError, match=r"has held .*lock' for 0.1 s; expected it to end")
    with locked(path), held, locked(path, timeout_s=0.1):
        raise AssertionError("two at once")
    with locked(path, timeout_s=0.1):
        pass


@pytest.mark.parametrize("suffix", ["", ".partial"])
def test_no_link_leads_a_token_file_elsewhere(tmp_path: Path, suffix: str) -> None:
    """Neither one in the file's own place, which is replaced, nor one under a name that could be guessed."""
    victim = tmp_path / "victim"
    victim.write_text('{"tenants": []}')
    path = tmp_path / "tokens.json"
    Path(f"{path}{suffix}").symlink_to(victim)
    add_token(str(path), "acme", {})

    assert victim.read_text() == '{"tenants": []}'
    assert not path.is_symlink()
    assert mode_of(path) == 0o600
    assert set(read_tenants(str(path))) == {"acme"}


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """It would lock, or make, another file."""
    path = tmp_path / "tokens.json"
    Path(f"{path}.lock").symlink_to(tmp_path / "victim")

    with pytest.raises(ConfigError, match=r"tokens.json.lock' cannot be opened"):
        add_token(str(path), "acme", {})
    assert not (tmp_path / "victim").exists()


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    """Here because a folder is in the way."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        replace_file(str(tmp_path / "taken"), "text", mode=0o600)

    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_out_writes_the_token_for_its_owner_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the umask; standard output gets nothing, and the token is one in force."""
    path, out = tmp_path / "tokens.json", tmp_path / "edge-1.token"
    before = os.umask(0)
    try:
        assert cloud_main(["token", "edge-1", "--file", str(path), "--out", str(out)]) == 0
    finally:
        os.umask(before)

    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"a token for edge-1, in {out}; {path} holds its hash" in printed.err
    assert mode_of(out) == 0o600
    assert out.read_text().startswith("tw_")
    assert out.read_text().strip() not in path.read_text()


@pytest.mark.parametrize("taken_by", ["file", "link"])
def test_out_overwrites_nothing_and_follows_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], taken_by: str
) -> None:
    """And draws no token that nobody would have."""
    path, out, victim = tmp_path / "tokens.json", tmp_path / "edge-1.token", tmp_path / "victim"
    if taken_by == "file":
        out.write_text("mine")
    else:
        out.symlink_to(victim)

    assert cloud_main(["token", "edge-1", "--file", str(path), "--out", str(out)]) == ExitCode.USAGE
    assert "cannot be made (File exists); expected a name that is free" in capsys.readouterr().err
    assert not path.exists()
    assert not victim.exists()


def test_out_is_gone_again_where_no_token_was_drawn(tmp_path: Path) -> None:
    """The token file is none."""
    path, out = tmp_path / "tokens.json", tmp_path / "edge-1.token"
    path.write_text("no JSON")

    assert cloud_main(["token", "edge-1", "--file", str(path), "--out", str(out)]) == ExitCode.USAGE
    assert not out.exists()


def test_out_beside_revoke_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is drawn."""
    path = tmp_path / "tokens.json"
    add_token(str(path), "acme", {})
    arguments = ["token", "acme", "--file", str(path), "--revoke", "--out", str(tmp_path / "x")]

    assert cloud_main(arguments) == ExitCode.USAGE
    assert "--revoke and --out are both given; expected one" in capsys.readouterr().err
    assert revoke_tokens(str(path), "acme") == 1


@pytest.mark.parametrize(("mode", "warns"), [(0o644, True), (0o600, False)])
def test_a_token_on_standard_output_that_others_can_read_is_told(
    tmp_path: Path, mode: int, warns: bool
) -> None:
    """As with `> edge-1.token`."""
    out = tmp_path / "edge-1.token"
    with open(os.open(out, os.O_WRONLY | os.O_CREAT, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "thinwire.cloud",
                "token",
                "acme",
                "--file",
                str(tmp_path / "tokens.json"),
            ],
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )

    assert ("others can read it (better: --out FILE)" in done.stderr) == warns
    assert out.read_text().startswith("tw_")


def test_a_private_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """An error between its making and its end takes it away."""
    with suppress(RuntimeError), new_private_file(str(tmp_path / "secret")) as file:
        file.write("half")
        raise RuntimeError

    assert list(tmp_path.iterdir()) == []


class NoServer:
    """Listens nowhere."""

    async def start(self, listen: str) -> int:
        """A port."""
        return 7

    async def stop(self, grace_s: float | None = None) -> None:
        """Nothing."""


async def test_a_port_file_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, before a model is loaded; no traceback."""

    async def on_loaded(model: object) -> None:
        raise AssertionError("loaded")

    options = DaemonOptions(
        model="none", listen="127.0.0.1:0", port_file=str(tmp_path / "no" / "port"), log_format="json"
    )
    with ThreadPoolExecutor(1) as executor:
        code = await asyncio.wait_for(
            run_daemon(NoServer(), options, program="test", executor=executor, on_loaded=on_loaded), 20
        )

    assert code is ExitCode.USAGE
    (line,) = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert "expected a file that can be written (No such file or directory)" in line["event"]
