"""
What the libraries say: bars become progress of ours, warnings while a model is loaded become sentences.

What they warn of later is a line of our log.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging as transformers_logging

OnProgress = Callable[[str], None]
_REPORT_EVERY_S = 2.0
_LIBRARIES = ("transformers", "huggingface_hub")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST = 400
"""Characters of a library's warning that are shown; some list every weight of a model."""

for _name in _LIBRARIES:  # each has made a handler of its own, for lines that no format of ours has
    logging.getLogger(_name).handlers.clear()
    logging.getLogger(_name).propagate = True


@contextmanager
def taken_from_libraries(report: OnProgress) -> Iterator[list[str]]:
    """
    Progress and refusals are ours to show: the libraries' bars and reports would bury our log.

    Calls `report` with a short phrase now and then; yields the warnings so far, one line each.
    """
    collected = _Collected()
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    former = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [collected], False
        logger.setLevel(logging.WARNING)
    hook = transformers_logging.set_tqdm_hook(
        lambda factory, args, kwargs: _Progress(report, *args, **kwargs)
    )
    try:
        yield collected.sentences
    finally:
        transformers_logging.set_tqdm_hook(hook)
        for logger, (handlers, level, propagate) in zip(loggers, former, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


class _Collected(logging.Handler):
    """Keeps each warning once, in one line."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(_COLOURS.sub("", record.getMessage()).split())
        if len(line) > _LONGEST:
            line = f"{line[:_LONGEST]} …"
        # A report of the weights tells what loading's own result tells too, and is not for one line.
        if line and "LOAD REPORT" not in line and line not in self.sentences:
            self.sentences.append(line)


class _Progress:
    """Stands in for a tqdm bar of transformers: reports how far the weights are, every other second."""

    def __init__(self, report: OnProgress, iterable: Any = None, **kwargs: Any) -> None:
        self._report = report
        self._iterable = iterable
        self._total = kwargs.get("total") or (len(iterable) if hasattr(iterable, "__len__") else 0)
        self._done = 0
        self._reported_s = time.monotonic()

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            yield item
            self.update()

    def update(self, count: int = 1) -> None:
        self._done += count
        if self._total and time.monotonic() - self._reported_s >= _REPORT_EVERY_S:
            self._reported_s = time.monotonic()
            self._report(f"weights, {100 * self._done // self._total} %")

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Every other method of a bar (set_description, close, ...) does nothing."""
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None
