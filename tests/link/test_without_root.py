"""Without root's capabilities the link is made in a user namespace, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from link import linux

ROOT = Path(__file__).resolve().parents[2]
POWERLESS = ["setpriv", "--bounding-set=-sys_admin,-net_admin,-sys_nice"]
SCRIPT = """
import json, sys
from link.description import LinkDescription
from link.link import open_link

with open_link(LinkDescription(1_000_000, 4_000_000, 0.02), congestion_control="reno") as link:
    report = link.self_test(probes=3, flood_s=0.5)
    names = [link.edge.run(["cat", "/proc/net/dev"], capture_output=True, text=True, check=True).stdout]
    print(json.dumps({"link": link.describe(), "devices": names}))
"""


def run_powerless(script: str, *prefix: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a process that may do no more than an ordinary user's."""
    drop = POWERLESS if linux.has_capabilities(linux.CAP_SYS_ADMIN) else []
    return subprocess.run(
        [*prefix, *drop, sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=ROOT
    )


def test_the_wire_is_made_in_a_user_namespace() -> None:
    """And is as good; only real-time scheduling is not to be had there, which the report says."""
    result = run_powerless(SCRIPT)

    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["link"]["in_user_namespace"] is True
    assert told["link"]["real_time"] is False
    assert told["link"]["self_test"]["passed"] is True
    assert "link0" in told["devices"][0]


def test_where_no_user_namespace_can_be_had_the_sudo_line_is_said() -> None:
    """Nothing falls back to loopback: an error, and what would work."""
    script = "import os; os.geteuid = lambda: 1000\n" + SCRIPT
    # Inside a user namespace that may have no further one.
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    result = run_powerless(script, "unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh")

    assert result.returncode == 1
    assert "LinkUnavailableError: a user namespace cannot be made" in result.stderr
    assert f"Run it as root: sudo {sys.executable} -c" in result.stderr
