"""An input of the fuzzer's, taken apart from its front."""

from __future__ import annotations


class Bytes:
    """Integers and chunks off the front of an input; zeros when it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def integer(self, below: int) -> int:
        """0 to `below` - 1."""
        length = max(1, (below.bit_length() + 7) // 8)
        value = int.from_bytes(self.chunk(length), "little")
        return value % below

    def chunk(self, length: int) -> bytes:
        """The next bytes, at most `length`."""
        taken, self._data = self._data[:length], self._data[length:]
        return taken

    def rest(self) -> bytes:
        """Everything left."""
        return self.chunk(len(self._data))

    @property
    def empty(self) -> bool:
        """Whether nothing is left."""
        return not self._data
