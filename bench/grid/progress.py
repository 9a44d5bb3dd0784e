"""How a run shows itself: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text


class RichProgress:
    """
    A bar on standard error under what runs now, a line each; plain lines where that is no terminal.

    Args:
        total_s: seconds of the estimate.
    """

    def __init__(self, total_s: float) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = BarColumn(30), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn()
        self._bar = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), auto_refresh=False)
        self._task = self._bar.add_task("", total=total_s)
        self._line = Text(no_wrap=True, overflow="ellipsis")
        self._live = Live(Group(self._line, self._bar), console=self._console)

    def __enter__(self) -> RichProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def advance(self, seconds: float) -> None:
        """So many seconds of the estimate are done, or were done before."""
        self._bar.advance(self._task, seconds)

    def say(self, line: str) -> None:
        """What runs now."""
        if not self._console.is_terminal or "FAILED" in line:
            self._console.print(line, markup=False, soft_wrap=True)
        else:
            self._line.plain = line
