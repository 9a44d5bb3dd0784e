"""A cell's link, tested, with its daemons on it; and what the runner needs of them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.grid.cells import Cell, Plan
from bench.grid.processes import Stage, StageSettings
from link.carrier import LinkCounters
from link.description import LinkDescription
from link.link import open_link


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run is made of besides its plan and methods."""

    stage: StageSettings
    prompts: Path
    work: Path
    """Folder of the daemons' logs and ports; emptied for every link, so what died last can be read there."""
    seed: int = 1
    """The first prompt's; the next prompt has the next."""
    link_kind: str = "wire"
    congestion_control: str = "cubic"
    revision: str = ""
    """The source's commit; written with each link, as a resumed run may have another."""


class OnLink(Protocol):
    """What the runner needs of a link."""

    description: LinkDescription

    def counters(self) -> LinkCounters:
        """Packets and bytes both ways so far."""

    def describe(self) -> dict[str, Any]:
        """For the results."""


class Daemons(Protocol):
    """What the runner needs of the daemons on a link; `processes.Stage`."""

    def fresh(self) -> Mapping[str, list[dict[str, Any]]]:
        """
        Lines of each log since they were read last.

        "cloud": passes of the cloud daemon's target. "peers": passes of the peers' models, and the server's
        seconds of each text. "edge": the edge daemon's round log.
        """

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """One command to the client at the edge."""


Open = Callable[[Cell], AbstractContextManager[tuple[OnLink, Daemons]]]
"""A cell's link, tested, with its daemons, serving."""


@contextlib.contextmanager
def link_with_daemons(
    cell: Cell, plan: Plan, settings: RunSettings, say: Callable[[str], None]
) -> Iterator[tuple[OnLink, Daemons]]:
    """
    The real ones.

    Raises:
        link.errors.LinkError: the link cannot be made, or is not what it says.
        DaemonError: a daemon does not come up.
    """
    options: dict[str, Any] = {"probes": plan.self_test_probes}
    if plan.self_test_flood_s is not None:
        options["flood_s"] = plan.self_test_flood_s
    say(f"{cell}: the link and its self-test")
    shutil.rmtree(settings.work, ignore_errors=True)
    settings.work.mkdir(parents=True)
    with open_link(
        cell.link, kind=settings.link_kind, congestion_control=settings.congestion_control
    ) as link:
        link.self_test(**options)
        say(f"{cell}: starting the daemons")
        with Stage(link, settings.work.resolve(), settings.stage) as stage:
            yield link, stage
