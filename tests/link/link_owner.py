"""
A benchmark that has a link: `python -m tests.link.link_owner KIND WHAT`.

It starts a command at either end, each with a child in a session of its own, and then ends ("end"), fails
("raise") or waits to be ended ("wait").
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from link import runs
from link.description import LinkDescription
from link.link import NamespaceLink

COMMAND = ["sh", "-c", "setsid sleep 1000 & exec sleep 1000"]
PROCESSES = 5
"""The link's own, and two at either end."""


def main() -> None:
    """Own a link."""
    kind, what = sys.argv[1:]
    description = LinkDescription(rate_up_bps=1_000_000, rate_down_bps=1_000_000, rtt_s=0.01)
    with NamespaceLink(description, kind=kind, congestion_control="cubic", seed=0) as link:
        for end in (link.edge, link.cloud):
            end.popen(COMMAND, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while [run_id for _, run_id in runs.processes_of_runs()].count(link.run_id) < PROCESSES:
            time.sleep(0.01)
        facts = {"run_id": link.run_id, "inodes": link.namespace_inodes, "keeper": link.keeper_pid}
        print(json.dumps(facts), flush=True)
        if what == "raise":
            raise RuntimeError("the benchmark failed")
        if what == "wait":
            time.sleep(1000)


if __name__ == "__main__":
    main()
