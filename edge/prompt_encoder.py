"""
Prompts → token ids, in a thread of their own.

A tokenizer cannot be interrupted and takes seconds for some megabytes, so a prompt is bounded before
it is tokenised, and none is tokenised in the draft model's thread, where every text would wait for it.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from common.config import MAX_PROMPT_BYTES
from common.prompt import check_text


class Tokenizer(Protocol):
    """What is needed here of a vocabulary."""

    @property
    def longest_token_bytes(self) -> int:
        """Bytes that one token stands for, at most."""

    def encode(self, text: str) -> list[int]:
        """Prompt text to token ids."""


class PromptEncoder:
    """
    One edge's; prompts wait their turn, as many as there are callers.

    Args:
        max_bytes: of a prompt in UTF-8; None takes what the context can hold, and never more than
            `MAX_PROMPT_BYTES`.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    async def encode(self, tokenizer: Tokenizer, prompt: str, *, context_length: int) -> tuple[int, ...]:
        """
        A prompt's ids; a caller that is cancelled while others are before it leaves no work behind.

        Args:
            context_length: of the draft model, in tokens.

        Raises:
            ConfigError: it is too long, before anything is done for it, or no text.
        """
        fitting = context_length * tokenizer.longest_token_bytes
        check_text("the prompt", prompt, self._max_bytes or min(fitting, MAX_PROMPT_BYTES))
        loop = asyncio.get_running_loop()
        return tuple(await loop.run_in_executor(self._thread, tokenizer.encode, prompt))

    def close(self) -> None:
        """Let the prompt in hand be finished, and drop the others."""
        self._thread.shutdown(cancel_futures=True)
