"""Files that are written whole, by one writer at a time, and never through a link that somebody has laid."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from thinwire.common.errors import ConfigError

LOCK_TIMEOUT_S = 30.0
"""A writer holds the lock for milliseconds."""
_LOCK_RETRY_S = 0.01
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""A file that was not there, under this very name."""


def replace_file(path: str, content: str, *, mode: int) -> None:
    """
    Put a file in another's place, so that every reader sees one of the two, whole, also after a power cut.

    With an OSError what was there stays. `mode` are the permissions, less the umask.
    """
    partial = f"{path}.{secrets.token_hex(8)}.partial"  # of one writer alone, beside what it replaces
    with _written(partial, os.open(partial, _NEW, mode), final_path=path) as file:
        file.write(content)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def usable_file(setting: str, path: str, use: str) -> Iterator[None]:
    """Turn an OSError here into a ConfigError that names the setting; `use` is "read" or "written"."""
    try:
        yield
    except OSError as error:
        sentence = f"{setting} is {path!r}; expected a file that can be {use} ({error.strerror})."
        raise ConfigError(sentence, setting=setting) from None


@contextmanager
def new_private_file(path: str) -> Iterator[TextIO]:
    """
    A file that was not there, readable by its owner only; gone again if the context ends in an error.

    ConfigError if something is there, a link for example, or it cannot be written.
    """
    try:
        descriptor = os.open(path, _NEW, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{path!r} cannot be made ({error.strerror}); expected a name that is free, in a folder that can "
            "be written."
        ) from None
    with _written(path, descriptor) as file:
        yield file


@contextmanager
def _written(path: str, descriptor: int, *, final_path: str | None = None) -> Iterator[TextIO]:
    """A new file, on the disk, and renamed, at the end of the context; gone if that ends in an error."""
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        if final_path is not None:
            os.replace(path, final_path)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise


@contextmanager
def locked(path: str, *, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """
    One writer of a file at a time, over all processes of this machine; readers need no lock.

    The lock is the file `PATH.lock` beside it, which stays; ConfigError if another holds it for `timeout_s`,
    or it cannot be opened.
    """
    lock = f"{path}.lock"
    give_up_at_s = time.monotonic() + timeout_s
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{lock!r} cannot be opened ({error.strerror}); expected a file of ours, in a folder that can be "
            "written."
        ) from None
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up_at_s:
                    raise ConfigError(
                        f"another command has held {lock!r} for {timeout_s:g} s; expected it to end."
                    ) from None
                time.sleep(_LOCK_RETRY_S)
        yield
    finally:
        os.close(descriptor)
