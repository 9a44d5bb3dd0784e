"""
One JSON line per round and one per generation, with a versioned schema; figures are made from these lines.

The fields are those of `RoundMeasured` and `GenerationStatistics` in `common.session.statistics`.
Field names carry their unit. NaN and infinity are written as null, so that every line is strict JSON.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from thinwire.common.session.statistics import GenerationStatistics, RoundMeasured

SCHEMA_VERSION = 1
"""Rises when a field changes its meaning or leaves; a new field does not raise it."""
_WARNING_EVERY_S = 60.0
_log = logging.getLogger(__name__)


def statistics_to_dict(statistics: GenerationStatistics) -> dict[str, Any]:
    """Every field and derived rate of `statistics`; NaN as None."""
    rates = [name for name, value in vars(GenerationStatistics).items() if isinstance(value, property)]
    values = asdict(statistics) | {name: getattr(statistics, name) for name in rates}
    return {name: _finite(value) for name, value in values.items()}


class RoundLog:
    """
    Appends records to a file, a line each, at once.

    A line that cannot be written is lost, and a warning says so: a text is worth more than its record.

    Args:
        path: created when missing, appended to otherwise; OSError if it cannot be opened.
        clock: monotonic seconds.
    """

    def __init__(self, path: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        # Without a buffer: one that could not be written would be tried again with every later line.
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        self._path = path
        self._clock = clock
        self._torn = b""
        self._lost = 0
        self._warned_s = -math.inf

    def round_measured(self, measured: RoundMeasured) -> None:
        self.write(_line("round", asdict(measured)))

    def generation_finished(
        self,
        session: str,
        reason: str,
        seed: int,
        statistics: GenerationStatistics,
        *,
        scheme: str = "",
        choice: str = "",
    ) -> None:
        """A text has ended; `choice` is why `scheme` was taken, empty where it was asked for."""
        head = {"session": session, "reason": reason, "seed": seed, "scheme": scheme, "choice": choice}
        self.write(_line("generation", head | statistics_to_dict(statistics)))

    def write(self, line: str) -> None:
        content = self._torn + line.encode("utf-8") + b"\n"
        try:
            written = self._file.write(content)
        except OSError as error:
            self._lose(error.strerror)
            return
        if written:
            self._torn = b"" if content[:written].endswith(b"\n") else b"\n"
        if written != len(content):
            self._lose("no room for the whole line")

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()

    def _lose(self, why: str | None) -> None:
        """Count a lost line; warn at the first, and then once a minute at most."""
        self._lost += 1
        now = self._clock()
        if now - self._warned_s < _WARNING_EVERY_S:
            return
        self._warned_s = now
        _log.warning("%d lines of the round log %s are lost so far (%s)", self._lost, self._path, why)


def _line(kind: str, values: dict[str, Any]) -> str:
    finite = {name: _finite(value) for name, value in values.items()}
    return json.dumps({"schema": SCHEMA_VERSION, "kind": kind, **finite}, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
