"""
Which pages of a KV pool are free, and which belong to which sequence.

Plain bookkeeping, without tensors.
A sequence whose pages follow each other is read where it lies; one whose pages do not has to be gathered for
every pass. So a new sequence starts in the middle of the longest free run, where it and its neighbour have
the most room to grow.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right

from thinwire.common.errors import ResourceExhaustedError


class PageAllocator:
    """
    The free pages of one pool; safe to use from any thread.

    Args:
        pages: how many there are, at least 1.
    """

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self._lock = threading.Lock()
        self._starts = [0]
        """Of the free runs, ascending; no two runs touch."""
        self._ends = [pages]
        self._free = pages

    @property
    def free(self) -> int:
        """Pages that no sequence holds."""
        return self._free

    def take(self, count: int, *, behind: int | None = None) -> list[int]:
        """
        Take pages, all or none.

        Args:
            count: how many, at least 1.
            behind: the sequence's last page, which the new ones should follow; None for a new sequence.

        Raises:
            ResourceExhaustedError: fewer are free.
        """
        with self._lock:
            if count > self._free:
                raise ResourceExhaustedError(
                    f"{count} more pages of KV memory are asked for; expected at most the {self._free} free "
                    f"ones of {self.pages}."
                )
            taken: list[int] = []
            while len(taken) < count:
                last = taken[-1] if taken else behind
                run, first = (-1, 0) if last is None else (self._run_at(last + 1), last + 1)
                if run == -1:
                    run, first = self._roomiest(count - len(taken))
                taken += self._cut(run, first, count - len(taken))
            return taken

    def give_back(self, pages: list[int]) -> None:
        """Free pages that were taken."""
        with self._lock:
            for page in pages:
                self._give_back(page)

    def _run_at(self, page: int) -> int:
        """Index of the free run that holds `page`; -1 if it is not free."""
        run = bisect_right(self._starts, page) - 1
        return run if run >= 0 and page < self._ends[run] else -1

    def _roomiest(self, count: int) -> tuple[int, int]:
        """The longest free run, and where in it a sequence of `count` pages should begin."""
        run = max(range(len(self._starts)), key=lambda n: self._ends[n] - self._starts[n])
        start, end = self._starts[run], self._ends[run]
        if start == 0:
            return run, start  # nobody is in front who might want to grow
        return run, max(start, min((start + end) // 2, end - count))

    def _cut(self, run: int, first: int, count: int) -> list[int]:
        """Take up to `count` pages of a free run from `first` on."""
        start, end = self._starts[run], self._ends[run]
        last = min(first + count, end)
        remains = [(a, b) for a, b in ((start, first), (last, end)) if a < b]
        self._starts[run : run + 1] = [a for a, _ in remains]
        self._ends[run : run + 1] = [b for _, b in remains]
        self._free -= last - first
        return list(range(first, last))

    def _give_back(self, page: int) -> None:
        at = bisect_left(self._starts, page)
        assert self._run_at(page) == -1, f"page {page} is given back twice"
        joins_left = at > 0 and self._ends[at - 1] == page
        joins_right = at < len(self._starts) and self._starts[at] == page + 1
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends[at]
            del self._starts[at], self._ends[at]
        elif joins_left:
            self._ends[at - 1] = page + 1
        elif joins_right:
            self._starts[at] = page
        else:
            self._starts.insert(at, page)
            self._ends.insert(at, page + 1)
        self._free += 1
