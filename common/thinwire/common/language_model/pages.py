"""
Which pages of the KV pool are free, and which sequence takes which.

Plain bookkeeping, without tensors.
A sequence whose pages follow each other is read where it lies; one whose pages do not has to be gathered for
every pass. So a new sequence starts in the middle of the longest free run, where it and its neighbour have
the most room to grow.
"""

from __future__ import annotations

import threading

import numpy as np

from thinwire.common.errors import ResourceExhaustedError


class PageAllocator:
    """
    The free pages of one pool; safe to use from any thread.

    Args:
        pages: how many there are, at least 1.
    """

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.free = pages
        """Pages that no sequence holds."""
        self._lock = threading.Lock()
        self._is_free = np.ones(pages, dtype=bool)

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
            if count > self.free:
                raise ResourceExhaustedError(
                    f"{count} more pages of KV memory are asked for; expected at most the {self.free} free "
                    f"ones of {self.pages}."
                )
            taken: list[int] = []
            while len(taken) < count:
                first, end = self._place(count - len(taken), taken[-1] if taken else behind)
                taken += range(first, min(end, first + count - len(taken)))
                self._is_free[first : taken[-1] + 1] = False
            self.free -= count
            return taken

    def give_back(self, pages: list[int]) -> None:
        """Free pages that were taken."""
        with self._lock:
            assert not self._is_free[pages].any(), f"one of the pages {pages} is given back twice"
            self._is_free[pages] = True
            self.free += len(pages)

    def _place(self, count: int, behind: int | None) -> tuple[int, int]:
        """Where to take up to `count` pages from, and the end of the free run there."""
        edges = np.flatnonzero(np.diff(self._is_free, prepend=False, append=False))
        starts, ends = edges[::2], edges[1::2]
        if behind is not None and behind + 1 < self.pages and self._is_free[behind + 1]:
            return behind + 1, int(ends[np.searchsorted(ends, behind + 1, side="right")])
        longest = int(np.argmax(ends - starts))
        start, end = int(starts[longest]), int(ends[longest])
        if start == 0:
            return start, end  # nobody is in front who might want to grow
        return max(start, min((start + end) // 2, end - count)), end
