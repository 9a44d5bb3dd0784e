"""The check of the event loop itself: it finds what waits in code of ours, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from never_blocked import MAY_BLOCK, ROOT, never_blocked


def called_from(file: str, function: str, call: Callable[[], object]) -> Callable[[], object]:
    """A function of that name in that file which makes a call."""
    names: dict[str, Callable[[], object]] = {"call": call}
    exec(compile(f"def {function}(): return call()", str(ROOT / file), "exec"), names)
    return names[function]


@pytest.mark.parametrize("file", ["common/waits.py", "cloud/waits.py", "edge/waits.py"])
async def test_what_waits_in_our_code_is_found(file: str, tmp_path: Path) -> None:
    """A sleep, a file that is opened, written and read; and all of it is done."""
    path = tmp_path / "file"
    with never_blocked() as found:
        called_from(file, "wait", lambda: time.sleep(0))()
        called_from(file, "wait", lambda: path.write_text("text"))()
        read = called_from(file, "wait", path.read_text)()

    assert read == "text"
    names = {one.partition(":")[0] for one in found}
    assert {"time.sleep", "io.open", "io.TextIOWrapper.write", "io.TextIOWrapper.read"} <= names
    assert all(file in one for one in found)


async def test_what_waits_elsewhere_is_not_found(tmp_path: Path) -> None:
    """In a test, in a thread, and where it may."""
    with never_blocked() as found:
        time.sleep(0)
        (tmp_path / "file").write_text("text")
        await asyncio.to_thread(called_from("common/waits.py", "wait", lambda: time.sleep(0)))
        for file, function in MAY_BLOCK:
            called_from(f"common/{file}", function, lambda: time.sleep(0))()

    assert found == []


async def test_what_the_garbage_collector_does_meanwhile_is_not_found() -> None:
    """It may come in any line, and free what waits."""

    class Waits:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            time.sleep(0)

    with never_blocked() as found:
        Waits()
        called_from("common/waits.py", "wait", gc.collect)()

    assert found == []


def test_without_a_loop_nothing_is_found() -> None:
    """A command may wait."""
    with never_blocked() as found:
        called_from("common/waits.py", "wait", lambda: time.sleep(0))()

    assert found == []


def test_every_exception_names_what_is_there() -> None:
    """A function that was renamed or mended takes its exception with it."""
    files = (*ROOT.glob("*/thinwire/**/*.py"), Path(logging.__file__))
    for file, function in MAY_BLOCK:
        (path,) = (path for path in files if path.as_posix().endswith(f"/{file}"))
        assert f"def {function}(" in path.read_text(encoding="utf-8")
