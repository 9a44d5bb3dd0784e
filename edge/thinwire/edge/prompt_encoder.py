"""
Prompts → token ids, in threads of their own.

A tokenizer cannot be interrupted and takes seconds for a megabyte, so a prompt is bounded before it is
tokenised, none is tokenised in the draft model's thread, where every text would wait for it, and short ones
have a line of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from thinwire.common.session.prompt import check_text

Encoded = TypeVar("Encoded")
SHORT_BYTES = 16 * 1024
"""Bytes of a prompt that takes some milliseconds, and waits for no longer one."""


class PromptEncoder:
    """One edge's, for prompts of at most `max_bytes` in UTF-8; they wait their turn, however many."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._short, self._long = (
            ThreadPoolExecutor(1, thread_name_prefix=f"tokenizer-{name}") for name in ("short", "long")
        )

    async def encode(self, prompt: str, tokenize: Callable[[], Encoded], *, beside: str = "") -> Encoded:
        """
        What `tokenize` makes of a prompt; a caller that is cancelled while it waits leaves no work.

        ConfigError if it is too long, before anything is done for it, or no text; `beside` is a text that is
        tokenised too, of a length that was checked.
        """
        check_text("the prompt", prompt, self._max_bytes)
        thread = self._short if len(prompt.encode()) + len(beside.encode()) <= SHORT_BYTES else self._long
        return await asyncio.get_running_loop().run_in_executor(thread, tokenize)

    def close(self) -> None:
        """Let the prompts in hand be finished, and drop the others."""
        for thread in (self._short, self._long):
            thread.shutdown(cancel_futures=True)
