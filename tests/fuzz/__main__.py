"""
Coverage-guided fuzzing with atheris: `python -m tests.fuzz TARGET --seconds N`, as `make fuzz` runs it.

New inputs that reach new code are kept in corpus/TARGET; a finding is written beside it and ends the run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["thinwire"], enable_loader_override=False):
    from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
_MAX_INPUT_BYTES = 4096
_INPUT_TIMEOUT_S = 5
_MAX_RSS_MB = 1024
"""Of the whole process; a decoder that allocates by what an input claims goes beyond it."""


def main() -> None:
    """Run one target."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    folder = CORPUS / given.target
    folder.mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [
            sys.argv[0],
            str(folder),
            f"-max_total_time={given.seconds}",
            f"-max_len={_MAX_INPUT_BYTES}",
            f"-timeout={_INPUT_TIMEOUT_S}",
            f"-rss_limit_mb={_MAX_RSS_MB}",
            f"-artifact_prefix={folder.parent}/finding-{given.target}-",
            "-print_final_stats=1",
        ],
        TARGETS[given.target],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
