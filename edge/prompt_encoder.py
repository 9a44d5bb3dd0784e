"""
Prompts → token ids, in a thread of their own.

A tokenizer cannot be interrupted and takes seconds for some megabytes, so a prompt is bounded before
it is tokenised, and none is tokenised in the draft model's thread, where every text would wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from common.prompt import check_text

Encoded = TypeVar("Encoded")


class PromptEncoder:
    """
    One edge's; prompts wait their turn, as many as there are callers.

    Args:
        max_bytes: of a prompt in UTF-8.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    async def encode(self, prompt: str, tokenize: Callable[[], Encoded]) -> Encoded:
        """
        What `tokenize` makes of a prompt; a caller that is cancelled while others are before it leaves no
        work behind.

        Raises:
            ConfigError: it is too long, before anything is done for it, or no text.
        """
        check_text("the prompt", prompt, self._max_bytes)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, tokenize)

    def close(self) -> None:
        """Let the prompt in hand be finished, and drop the others."""
        self._thread.shutdown(cancel_futures=True)
