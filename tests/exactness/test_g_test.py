"""
The text that comes out of real gRPC has the target's law: a G-test of two-token outputs against it.

False-alarm probability 1e-6 a test; the power against a total variation of 0.05 is computed, and a planted
shift of that size is caught.
Seeds are fixed, so a test that passes once passes always; draws are those of the shipped `KeyedDraws`.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy.stats import chi2, ncx2

from exactness.enumeration import PROMPT, Law, Rows, TokenIds, by_prefix, distance, fractions, target_law
from fakes import Reader, TableModel, TableVocabulary
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.common.causal_model import ServedModel
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import SchemeParameters, make_scheme
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.generation import GenerationRequest
from thinwire.edge.cloud_link import CloudLink
from thinwire.edge.drafter import Drafter
from thinwire.edge.generation import GenerationRun
from thinwire.edge.meter import EdgeMetrics, GenerationMeter
from thinwire.edge.session import EdgeSession
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.text_stream import TextStream

GENERATIONS = 12_000
FALSE_ALARM = 1e-6
CONTROL_STEP = 1_000
"""Texts between two looks at the planted shift."""
CONCURRENT = 16
SHIFT = Fraction(1, 20)

TARGET = by_prefix(fractions(2, 3, 3), fractions(3, 3, 2), fractions(4, 3, 3))
DRAFT = by_prefix(fractions(6, 3, 1), fractions(2, 5, 3), fractions(1, 2, 7), fractions(5, 1, 4))

K_SQS = KSqs.Parameters(lattice_resolution=5, support_size=2)
C_SQS = CSqs.Parameters(
    lattice_resolution=5,
    max_support_size=3,
    initial_threshold=0.3,
    threshold_step=0.5,
    target_dropped_mass=0.1,
)
SCHEMES = {
    "k-sqs": K_SQS,
    "c-sqs": C_SQS,
    "dense-qs": DenseQs.Parameters(lattice_resolution=5),
    "coupled": Coupled.Parameters(),
}


def shifted(rows: Rows) -> Rows:
    """A target whose first token's law is off by a total variation of 0.05, hence the pair's law as well."""

    def row(prefix: TokenIds) -> np.ndarray:
        law = rows(prefix)
        if prefix == PROMPT:
            law[0] -= SHIFT
            law[1] += SHIFT
        return law

    return row


def g_statistic(counts: Mapping[TokenIds, int], law: Law) -> float:
    """2 Σ O ln(O / E); infinite where something impossible was seen."""
    total = sum(counts.values())
    if any(cell not in law for cell in counts):
        return math.inf
    return 2 * sum(n * math.log(n / (total * float(law[cell]))) for cell, n in counts.items())


def critical_value(law: Law) -> float:
    """What the statistic exceeds with probability `FALSE_ALARM` under the law."""
    return float(chi2.isf(FALSE_ALARM, len(law) - 1))


def power(law: Law, generations: int, shift: float) -> float:
    """
    The smallest power over all laws at total variation `shift`.

    The statistic is noncentral chi-square with noncentrality 2 n KL(other ‖ law).
    A law at distance `shift` gains that much on some event; by data processing its KL is at least that of the
    event's two probabilities, which moving mass in proportion reaches. So the least is found over all events.
    """
    p = np.array([float(x) for x in law.values()])
    least = math.inf
    for signs in product((-1, 1), repeat=len(p)):
        up, down = p[np.array(signs) > 0].sum(), p[np.array(signs) < 0].sum()
        if not 0 < up < 1:
            continue
        other = p * np.where(np.array(signs) > 0, 1 + shift / up, 1 - shift / max(down, 1e-9))
        if (other > 0).all():
            least = min(least, float((other * np.log(other / p)).sum()))
    return float(ncx2.sf(critical_value(law), len(p) - 1, 2 * generations * least))


async def sample(
    scheme: SchemeParameters, generations: int, *, target: Rows = TARGET, first_seed: int = 0
) -> Counter[TokenIds]:
    """Two-token outputs of `generations` generations with consecutive seeds, over one gRPC channel."""
    vocabulary = TableVocabulary(3)
    cloud = CloudServer(
        ServedModel(
            model=TableModel(lambda prefix: target(prefix).astype(np.float64), vocabulary_size=3),
            vocabulary=vocabulary,
        ),
        settings=CloudSettings(max_sessions=4 * CONCURRENT),
    )
    port = await cloud.start("127.0.0.1:0")
    settings = EdgeSettings(keepalive_s=0)
    link = CloudLink(f"127.0.0.1:{port}", settings)
    model = TableModel(lambda prefix: DRAFT(prefix).astype(np.float64), vocabulary_size=3)
    metrics = EdgeMetrics(generations=lambda: CONCURRENT)  # as in a daemon, one for all its generations
    seeds = iter(range(first_seed, first_seed + generations))
    counts: Counter[TokenIds] = Counter()

    async def worker(executor: ThreadPoolExecutor) -> None:
        for seed in seeds:
            counts[await one(seed, executor)] += 1

    async def one(seed: int, executor: ThreadPoolExecutor) -> TokenIds:
        made = make_scheme(scheme, vocabulary_size=3)
        parameters = GenerationRequest("", seed=seed, scheme=scheme, max_tokens=2, draft_length=2)
        session = EdgeSession(
            parameters,
            PROMPT,
            vocabulary=vocabulary.identity,
            scheme=made,
            text=TextStream(vocabulary.decode),
            context_length=model.context_length,
            round_timeout_s=60.0,
            patience_s=0.0,
        )
        reader = Reader()
        finished = await GenerationRun(
            session,
            Drafter(model, made, parameters.sampling, KeyedDraws(seed)),
            link,
            executor=executor,
            settings=settings,
            client=reader,
            meter=GenerationMeter(made, session.statistics, started_s=0.0, metrics=metrics),
        ).run()
        assert finished.statistics.reconnects == 0
        return reader.token_ids

    try:
        with ThreadPoolExecutor(1) as executor:
            async with asyncio.TaskGroup() as group:
                for _ in range(CONCURRENT):
                    group.create_task(worker(executor))
    finally:
        await link.close()
        await cloud.stop(0)
    return counts


LAW = target_law(TARGET, 2)


def test_the_test_has_the_power_it_claims() -> None:
    """At 12 000 generations any shift of 0.05 in total variation is caught with probability 0.999 or more."""
    assert len(LAW) <= 9
    assert power(LAW, GENERATIONS, float(SHIFT)) >= 0.999


async def test_short_runs_over_grpc_have_the_targets_law() -> None:
    """1 500 generations of k-sqs pass the same test."""
    counts = await sample(K_SQS, 1500)

    assert sum(counts.values()) == 1500
    assert g_statistic(counts, LAW) < critical_value(LAW)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMES)
async def test_the_text_over_grpc_has_the_targets_law(name: str) -> None:
    """12 000 two-token texts a scheme, over one reused channel, against the exact joint law."""
    counts = await sample(SCHEMES[name], GENERATIONS)

    assert sum(counts.values()) == GENERATIONS
    assert g_statistic(counts, LAW) < critical_value(LAW)


@pytest.mark.slow
async def test_a_planted_shift_is_caught() -> None:
    """A target that is off by a total variation of 0.05 fails the test within two thirds of the texts."""
    assert distance(target_law(shifted(TARGET), 2), LAW) >= SHIFT
    counts: Counter[TokenIds] = Counter()
    for first_seed in range(0, 2 * GENERATIONS // 3, CONTROL_STEP):
        counts += await sample(K_SQS, CONTROL_STEP, target=shifted(TARGET), first_seed=first_seed)
        if g_statistic(counts, LAW) > critical_value(LAW):
            return
    pytest.fail(f"not caught in {sum(counts.values())} texts: {g_statistic(counts, LAW)}")
