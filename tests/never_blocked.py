"""
What waits may not be called on the event loop: file reads and writes, sleeps, locks that are held.

blockbuster knows the calls; one that code of ours makes there is written down, so that it fails the test even
where a daemon would answer the exception with an error, and go on.
It sees no long computation, and nothing of what runs in threads.
"""

from __future__ import annotations

import builtins
import gc
import io
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from blockbuster import BlockBuster, BlockBusterFunction

from thinwire.common.release import version

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(f"{ROOT / name}{os.sep}" for name in ("common", "cloud", "edge"))
AT_START = "once, when the daemon starts and serves nobody yet"
COMMAND = "of a command that has no event loop; tests call it from theirs"
LOADING = "in the model's thread; tests do it in theirs"
PARENT = "whoever starts a daemon serves nobody"
MAY_BLOCK = {
    ("common/door/doorkeeper.py", "stands"): "asks once whether there is /proc",
    ("common/door/doorkeeper.py", "_accepted"): "lists /proc/self/fd, which waits for no disk",
    ("common/door/security.py", "_read"): AT_START,
    ("common/door/tenants.py", "__init__"): AT_START,
    ("edge/telemetry.py", "__init__"): AT_START,
    ("observe/tracing.py", "tracing_to"): AT_START,
    ("language_model/loading.py", "load_language_model"): LOADING,
    ("language_model/model.py", "pool_sequences"): LOADING,
    ("daemon/process.py", "_write_port"): AT_START,
    ("daemon/launcher.py", "start"): PARENT,
    ("daemon/launcher.py", "address"): PARENT,
    ("daemon/launcher.py", "log"): PARENT,
    ("daemon/controlling_terminal.py", "controlling_terminal"): AT_START,
    ("edge/telemetry.py", "write"): "the round log, if asked for: a kilobyte into the page cache, 2 µs",
    ("logging/__init__.py", "emit"): "standard error; the line must be out before what it tells of goes on",
    ("cloud/token_file.py", "add_token"): COMMAND,
    ("cloud/token_file.py", "revoke_tokens"): COMMAND,
    ("cloud/certificates.py", "write_certificates"): COMMAND,
}
"""(End of a file's path, function in it) → why it may."""
BESIDES = ((builtins, "open"), (io, "open"), (os, "open"), (io.FileIO, "write"), (io.FileIO, "readall"))
"""Calls that blockbuster does not know."""


@contextmanager
def never_blocked() -> Iterator[list[str]]:
    """Write down meanwhile where code of ours blocks the event loop."""
    found: list[str] = []
    buster = BlockBuster()
    for module, name in BESIDES:
        function = BlockBusterFunction(module, name)
        buster.functions[function.full_name] = function
    for function in buster.functions.values():
        for file, name in MAY_BLOCK:
            function.can_block_in(file, name)
        function.can_block_predicate = _Note(function, found)
    version()  # the command line has asked by the time there is a loop
    buster.activate()
    try:
        with _collections_apart(buster):
            yield found
    finally:
        buster.deactivate()


@contextmanager
def _collections_apart(buster: BlockBuster) -> Iterator[None]:
    """
    Look away while the garbage collector runs.

    It may come in any line, and what it frees there may be another test's executor, whose threads it joins.
    """

    def note(phase: str, info: dict[str, int]) -> None:
        is_collecting = phase == "start"
        for function in buster.functions.values():
            predicate = function.can_block_predicate
            assert isinstance(predicate, _Note)
            predicate.looks_away = is_collecting

    gc.callbacks.append(note)
    try:
        yield
    finally:
        gc.callbacks.remove(note)


class _Note:
    """
    In place of a function's predicate: notes where it blocks, and has it do what it always does.

    Args:
        function: one that may block.
        found: what is noted.
    """

    def __init__(self, function: BlockBusterFunction, found: list[str]) -> None:
        self._function = function
        self._found = found
        self._does_not_wait = function.can_block_predicate
        self.looks_away = False

    def __call__(self, *args: Any, **options: Any) -> bool:
        """Whether it may go on; it always may."""
        blocks = not self.looks_away and not self._does_not_wait(*args, **options)
        if blocks and _is_ours(sys._getframe(1), self._function):
            stack = traceback.format_stack(sys._getframe(2), limit=16)
            self._found.append(f"{self._function.full_name}:\n{''.join(stack)}")
        return True


def _is_ours(frame: FrameType | None, function: BlockBusterFunction) -> bool:
    """Whether code of ours is among the callers, and none of them may block."""
    is_ours = False
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if any(file.endswith(end) and name in names for end, names in function.can_block_functions):
            return False
        is_ours |= file.startswith(OURS)
        frame = frame.f_back
    return is_ours
