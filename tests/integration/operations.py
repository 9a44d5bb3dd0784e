"""What an operator's tests share: two table models, and the metrics of a daemon over HTTP."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from fakes import TableModel, TableVocabulary, random_law
from loopback import WatchedModel
from thinwire.common.daemon.metrics_listener import metrics_listener
from thinwire.common.observe.metrics import CONTENT_TYPE, PREFIX, Metrics

SIZE = 12
VOCABULARY = TableVocabulary(SIZE)


Samples = dict[tuple[str, str], float]
"""Value by name without prefix, and by the one label's value, empty without a label."""


def models(*, context_length: int = 256) -> tuple[WatchedModel, TableModel]:
    """A target and a draft model that differ."""
    return (
        WatchedModel(random_law(SIZE, 1), context_length=context_length),
        TableModel(random_law(SIZE, 2), context_length=context_length),
    )


def read(page: str) -> Samples:
    """The samples of a page; histograms by their sum and count only."""
    samples: Samples = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if "le" not in sample.labels:
                label = "".join(sample.labels.values())
                samples[sample.name.removeprefix(PREFIX), label] = sample.value
    return samples


async def fetch(port: int) -> Samples:
    """What a scraper gets."""

    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            return str(answer.read().decode())

    return read(await asyncio.to_thread(get))


async def scraped(metrics: Metrics) -> Samples:
    """A daemon's metrics over real HTTP."""
    async with metrics_listener("127.0.0.1:0", metrics.render, content_type=CONTENT_TYPE) as port:
        return await fetch(port)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds; a client sees the end of its text before the daemons have tidied up."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
