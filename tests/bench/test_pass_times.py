"""A plan at several pass times: in which order, where, and what a second start finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench.grid.__main__ import main
from bench.grid.cells import FREE, Plan, grid
from bench.grid.methods import parse_method
from bench.grid.pass_times import FIRST_PROMPTS, coarse_first, estimate, run, visits
from bench.grid.records import MEASURED
from bench.grid.store import read_generations
from bench.peers.pacing import Pacing
from tests.bench.bench_data import FakeStages, Silent, run_settings
from thinwire.common.errors import ConfigError

PACED = Pacing(0.06, 0.002)
TINY = Plan(
    name="tiny",
    cells=grid((512_000, 64_000), (0.0,), (0.3, 1.0)),
    prompts=2,
    tokens=4,
    pacings=(Pacing(), PACED),
)
METHODS = [parse_method(name) for name in ("cloud-stream", "coupled", "k-sqs:K=8,gamma=2")]


def test_the_grid_has_every_cell_that_is_promised_at_every_pass_time() -> None:
    """3 pass times, 15 links, 3 temperatures; each link twice at each, first with two prompts, then three."""
    asked = list(visits(FREE))
    first = asked[: len(asked) // 2]

    assert [p.base_s for p in FREE.pacings] == [0, 0.06, 0.12]
    assert {visit.turns for visit in first} == {range(FIRST_PROMPTS)}
    assert {visit.turns for visit in asked[len(first) :]} == {range(FIRST_PROMPTS, FREE.prompts)}
    seen = Counter((visit.pacing, cell) for visit in asked for cell in visit.cells for _ in visit.turns)
    assert set(seen.values()) == {5}
    assert len(seen) == 3 * 45


def test_after_any_time_what_was_run_is_spread_over_the_grid() -> None:
    """First the tuning link at each; 13 of 45 visits see every rate, and every round trip at each."""
    order = coarse_first(len(FREE.pacings), FREE.links)
    early = [(pacing, *FREE.links[link][0].line) for pacing, link in order[:13]]

    assert sorted(order) == [(pacing, link) for pacing in range(3) for link in range(15)]
    assert order[:3] == [(0, 0), (1, 0), (2, 0)]
    assert {rate for _, rate, _ in early} == {cell.rate_up_bps for cell in FREE.cells}
    assert len({(pacing, rtt_s) for pacing, _, rtt_s in early}) == 9


def start(prompts: Path, out: Path, **options: object) -> tuple[FakeStages, Silent]:
    """One start over fakes."""
    stages, progress = FakeStages(**options), Silent()
    run(TINY, METHODS, run_settings(prompts), out, progress, open_=stages)
    return stages, progress


def test_each_pass_time_is_a_run_of_its_own_and_a_cut_one_goes_on(prompts: Path, tmp_path: Path) -> None:
    """In its folder, every text once with its pacing; a second start opens nothing."""
    with pytest.raises(KeyboardInterrupt):
        start(prompts, tmp_path, dies_after=9)
    start(prompts, tmp_path)

    for name, pacing in (("as-it-is", Pacing()), ("paced-60", PACED)):
        texts = read_generations(tmp_path / name)
        assert Counter(text.method for text in texts) == {method.name: 8 for method in METHODS}
        assert {text.purpose for text in texts} == {MEASURED}
        assert {(text.pacing_base_s, text.pacing_per_token_s) for text in texts} == {
            (pacing.base_s, pacing.per_token_s)
        }
    stages, progress = start(prompts, tmp_path)
    assert stages.opened == []
    assert progress.seconds == pytest.approx(estimate(TINY, METHODS).seconds)


def test_more_prompts_later_leave_what_is_there(prompts: Path, tmp_path: Path) -> None:
    """The first time round runs the first prompts alone, everywhere, before any other."""
    many = tmp_path / "prompts.jsonl"
    many.write_text("".join(f'{{"id": "p{n}", "prompt": "text {n}"}}\n' for n in range(4)))
    stages = FakeStages()
    run(replace(TINY, prompts=4), METHODS, run_settings(many), tmp_path, Silent(), open_=stages)

    order = [text.prompt for text in read_generations(tmp_path / "as-it-is")]
    assert set(order[:24]) == {"p0", "p1"}
    assert set(order[24:]) == {"p2", "p3"}
    assert len(stages.opened) == 2 * 2 * 2


def test_pass_times_are_chosen_like_rates_and_not_by_paced(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the plan alone; another plan has none."""
    assert FREE.part((), (), (), (0.06,)).pacings == (PACED,)
    for plan in (FREE, TINY):
        with pytest.raises(ConfigError, match="no pass time of"):
            plan.part((), (), (), (0.05,))

    assert main(["--free", "--paced", "60,2", "--estimate"]) == 2
    assert "expected --passes-ms with --free" in capsys.readouterr().err
