"""`python -m tests.transcripts --rewrite` writes the transcripts anew; commit what you understand."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

if __name__ == "__main__":
    from documents import replace_marked
    from transcripts.story import SHOWN_ON_PAGE, STORIES, page_part

    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--rewrite", action="store_true", required=True)
    parser.parse_args()
    for name, story in STORIES.items():
        (FOLDER / f"{name}.txt").write_text(story.told(), encoding="utf-8")
    replace_marked(SHOWN_ON_PAGE, "transcript", page_part())
