"""`thinwire demo` as a user runs it: two daemons as processes, nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from thinwire.common import demo_pair
from thinwire.edge.demo import shared_core

ROOT = Path(__file__).resolve().parents[2]
needs_pair = pytest.mark.skipif(
    not (demo_pair.target_path() / "config.json").is_file(), reason="the bundled pair is not there"
)
ON_ONE_THREAD = """\
import thinwire.edge.demo
thinwire.edge.demo.target_threads = lambda: 1
import thinwire.edge.cli
raise SystemExit(thinwire.edge.cli.main())
"""
"""The edge's command where the cloud's target gets one thread."""
PROMPT = 'def quote(text):\n    """`$HOME` \'and\' "quotes" \\ $(pwd)"""\n'


def leftovers(folder: Path) -> list[int]:
    """Processes that still name `folder` on their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def affinities(process: int) -> list[set[int]]:
    """The cores of each of its threads."""
    return [os.sched_getaffinity(int(thread)) for thread in os.listdir(f"/proc/{process}/task")]


async def start(
    folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "thinwire.edge"), **environment: str
) -> asyncio.subprocess.Process:
    """The demo with `folder` for its temporary files."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        "demo",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder), **environment},
        cwd=ROOT,
    )


@needs_pair
async def test_the_demo_streams_a_text_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The prompt arrives verbatim, the table follows, both daemons and the folder are gone."""
    process = await start(tmp_path, "--max-tokens", "16", "--seed", "1", THINWIRE_PROMPT=PROMPT)
    out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    assert out.decode().startswith(PROMPT)
    for name in ("output tokens", "tokens/s", "block efficiency", "resampling rate", "mean dropped mass"):
        assert name in err.decode()
        assert name not in out.decode()
    lines = err.decode().splitlines()
    assert lines[0] == "thinwire: starting a cloud and an edge on this machine"
    assert lines[1].startswith("thinwire: both have loaded their models, ")
    assert "bundled demonstration pair: a target model of 10 M parameters" in err.decode()
    assert b"\x1b" not in err
    assert b"\r" not in err
    assert leftovers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@needs_pair
async def test_ctrl_c_stops_both_daemons_which_share_a_core(tmp_path: Path) -> None:
    """
    Exit code 130 in the middle of a text, and nothing left.

    Meanwhile both daemons are on the core they share with all their threads, and the demo keeps all of its
    cores; the cloud has one thread here however many cores there are.
    """
    process = await start(
        tmp_path, "--max-tokens", "400", "--ignore-eos", "--json", program=("-c", ON_ONE_THREAD)
    )
    assert process.stdout is not None
    first = json.loads(await process.stdout.readline())
    cores = {number: affinities(number) for number in (process.pid, *leftovers(tmp_path))}
    process.send_signal(signal.SIGINT)
    await process.communicate()

    assert first["event"] == "token"
    assert process.returncode == 130
    assert leftovers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []

    own, everywhere = cores.pop(process.pid), os.sched_getaffinity(0)
    assert all(thread == everywhere for thread in own)
    assert len(cores) == 2
    assert all(len(threads) > 1 for threads in cores.values())
    assert all(thread == {max(everywhere)} for threads in cores.values() for thread in threads)


async def test_a_daemon_that_dies_while_loading_ends_the_demo_at_once(tmp_path: Path) -> None:
    """Exit code 4 with the daemon's last log lines; nothing is left."""
    pair, temporary = tmp_path / "pair", tmp_path / "temporary"
    temporary.mkdir()
    for role in ("target", "draft"):
        (pair / role).mkdir(parents=True)
        (pair / role / "config.json").write_text('{"model_type": "nonesuch"}')
    process = await start(temporary, "--pair", str(pair))
    out, err = await process.communicate()

    assert process.returncode == 4
    assert out == b""
    assert "daemon ended with exit code 4; its last log lines:" in err.decode()
    assert "no causal model can be loaded" in err.decode()
    assert leftovers(tmp_path) == []
    assert list(temporary.iterdir()) == []


async def test_a_folder_without_a_pair_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """Exit code 4, naming the folder."""
    process = await start(tmp_path, "--pair", str(tmp_path))
    _, err = await process.communicate()

    assert process.returncode == 4
    assert f"no target model in {tmp_path}" in err.decode().replace("\n", " ").replace("  ", " ")


@pytest.mark.parametrize(("cores", "shared"), [(1, True), (2, True), (3, False), (16, False)])
def test_a_core_is_shared_where_the_cloud_has_one_thread(
    monkeypatch: pytest.MonkeyPatch, cores: int, shared: bool
) -> None:
    """With more threads the cloud needs its cores."""
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(cores)}, raising=False)

    assert shared_core() == (cores - 1 if shared else None)
