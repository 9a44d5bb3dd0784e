"""`make setup`, with a python3 that installs nothing: what a newcomer sees of the minutes it takes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON3 = """\
#!/bin/sh
case "$*" in
"-m venv "*)
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\necho "pip $*"\\n' > "$3/bin/pip"
    chmod +x "$3/bin/pip" ;;
esac
"""


def test_setup_says_what_it_does_and_how_far_it_is(tmp_path: Path) -> None:
    """Three steps in plain lines; pip names what it downloads, without a bar that nobody sees move."""
    for name in ("Makefile", "pyproject.toml", "demo-pair/pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    stand_in = tmp_path / "bin" / "python3"
    stand_in.parent.mkdir()
    stand_in.write_text(PYTHON3)
    stand_in.chmod(0o755)
    path = f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["make", "setup"],
        cwd=tmp_path,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("MAKE")}, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = done.stdout.splitlines()

    assert [line.partition(":")[0] for line in said if line.startswith("make setup, ")] == [
        f"make setup, {step} of 3" for step in (1, 2, 3)
    ]
    assert "TORCH_INDEX=" in said[1]
    assert [line for line in said if line.startswith("pip ")] == [
        f"pip install --disable-pip-version-check --progress-bar off {what}"
        for what in ("torch==2.13.0", "--editable .[dev] --editable ./demo-pair")
    ]
    assert said[-1] == "make setup: done"
