"""How a run shows itself: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text


class RichProgress:
    """
    A bar on standard error; plain lines where that is no terminal.

    Args:
        total_s: seconds of the estimate.
    """

    def __init__(self, total_s: float) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (
            BarColumn(30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, auto_refresh=False)
        self._task: TaskID = self._bar.add_task("", total=total_s)
        self._line = ""
        self._live = Live(self, console=self._console, refresh_per_second=4)

    def __enter__(self) -> RichProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __rich__(self) -> Group:
        """The bar under what runs now, one line each on a terminal of any width."""
        return Group(Text(self._line, no_wrap=True, overflow="ellipsis"), self._bar.get_renderable())

    def advance(self, seconds: float) -> None:
        """So many seconds of the estimate are done."""
        self._bar.advance(self._task, seconds)

    def say(self, line: str) -> None:
        """What runs now."""
        if not self._console.is_terminal or "FAILED" in line:
            self._console.print(line, markup=False, soft_wrap=True)
        else:
            self._line = line
