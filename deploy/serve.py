"""
`python -m deploy.serve COMMAND ...`: become COMMAND once the link beside it has passed its test.

Nothing may use the link while it is tested, and nothing serves over a link that was refused.
A refused link is not the end: the side-cars may be started again with other figures.
"""

from __future__ import annotations

import os
import sys
import time

from deploy.link_report import SHARED_FOLDER, LinkState, devices, network_namespace, read_verdict

_POLL_S = 0.2


def main() -> None:
    """Wait, then exec; SIGTERM ends the waiting."""
    said = ""
    while True:
        verdict = read_verdict(SHARED_FOLDER, namespace=network_namespace(), present_devices=devices())
        if verdict.sentence != said:
            ends = "" if verdict.state is LinkState.PASSED else "; not serving"
            print(f"edge: {verdict.sentence}{ends}", file=sys.stderr, flush=True)
            said = verdict.sentence
        if verdict.state is LinkState.PASSED:
            os.execvp(sys.argv[1], sys.argv[1:])
        time.sleep(_POLL_S)


if __name__ == "__main__":
    main()
