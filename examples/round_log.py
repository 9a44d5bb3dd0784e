"""
Acceptance by scheme and place in the block, from what `thinwire edge --round-log FILE` wrote.

python examples/round_log.py FILE
"""

import collections
import json
import pathlib
import sys

tested: collections.Counter = collections.Counter()
accepted: collections.Counter = collections.Counter()

for line in pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    record = json.loads(line)
    if record["kind"] == "round":
        # The first rejection was tested too; what was drafted after it was not.
        for place in range(min(record["accepted"] + 1, record["draft_length"])):
            tested[record["scheme"], place] += 1
            accepted[record["scheme"], place] += place < record["accepted"]

for (scheme, place), count in sorted(tested.items()):
    print(f"{scheme:10} place {place + 1:2}: {accepted[scheme, place] / count:.3f} of {count} accepted")
