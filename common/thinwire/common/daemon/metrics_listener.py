"""
The page that Prometheus reads, on a port of its own: `GET /metrics`, and nothing else.

It asks for no token and has no TLS, so it listens on loopback only; a scraper elsewhere needs a tunnel.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from thinwire.common.door.peers import is_loopback
from thinwire.common.errors import ConfigError, TransportError

REQUEST_TIMEOUT_S = 5.0
"""From a connection to the last byte of its answer; a scraper on this machine takes milliseconds."""
MAX_REQUEST_BYTES = 8192
MAX_CONNECTIONS = 16
"""At once; one more is closed unread."""
_TEXT = "text/plain; charset=utf-8"


@asynccontextmanager
async def metrics_listener(
    listen: str, render: Callable[[], bytes], *, content_type: str = _TEXT
) -> AsyncIterator[int]:
    """
    Serve the page, which `render` makes in a thread, while the context lasts; yields the bound port.

    Raises:
        ConfigError: others could reach the address, for it is not on loopback.
        TransportError: the address cannot be bound.
    """
    if not is_loopback(listen):
        raise ConfigError(
            f"--metrics-listen is {listen}; expected a loopback address such as 127.0.0.1:9100, since the "
            "page has neither TLS nor tokens."
        )
    host, _, port = listen.rpartition(":")
    page = _Page(render, content_type)
    try:
        server = await asyncio.start_server(
            page.answer, host.strip("[]"), int(port), limit=MAX_REQUEST_BYTES, backlog=MAX_CONNECTIONS
        )
    except OSError:
        raise TransportError(
            f"metrics cannot listen on {listen}; expected a free port of this machine."
        ) from None
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        page.abort()


@dataclass(frozen=True, slots=True)
class _Page:
    """Answers connections, one request each."""

    _render: Callable[[], bytes]
    _content_type: str
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._response(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # whoever is so slow, or gone, gets nothing
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    def abort(self) -> None:
        """End every connection at once."""
        for writer in self._open:
            writer.transport.abort()

    async def _response(self, head: bytes) -> bytes:
        method, _, rest = head.split(b"\r\n", 1)[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        content_type = _TEXT
        if method not in (b"GET", b"HEAD"):
            status, body = "405 Method Not Allowed", b"expected GET\n"
        elif path != b"/metrics":
            status, body = "404 Not Found", b"expected /metrics\n"
        else:
            status, body = "200 OK", await asyncio.to_thread(self._render)
            content_type = self._content_type
        answer = (
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        with_body = status != "200 OK" or method == b"GET"
        return answer.encode("ascii") + (body if with_body else b"")
