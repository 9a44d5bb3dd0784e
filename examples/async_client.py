"""Several texts at once over one connection: python examples/async_client.py "def add(" "def sub(" """

import asyncio
import os
import sys

import thinwire

EDGE = os.environ.get("THINWIRE_EDGE", "127.0.0.1:7072")
PROMPTS = sys.argv[1:] or ["def add(", "def sub(", "def mul("]


async def main() -> None:
    async with thinwire.AsyncClient(EDGE) as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.complete(prompt, max_tokens=32, seed=1)) for prompt in PROMPTS]
    for prompt, task in zip(PROMPTS, tasks, strict=True):
        print(f"{prompt}{task.result().text}\n--- {task.result().finish_reason.value}")


asyncio.run(main())
