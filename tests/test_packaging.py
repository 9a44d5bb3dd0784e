"""What an installed Thinwire consists of."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("common", "edge", "cloud")


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths in a wheel built from a copy of the sources, so that nothing is left in the tree."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "golden", source / "tests")  # a folder that must stay outside
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel_files: list[str]) -> None:
    """Plain top-level names must not multiply: no tests, no bench, no proto."""
    top = {name.split("/")[0] for name in wheel_files}

    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_the_bundled_pair(wheel_files: list[str]) -> None:
    """An installed wheel runs `thinwire demo`: the weights and tokenizers of both, and their card."""
    needed = {
        f"common/bundled/{role}/{name}"
        for role in ("target", "draft")
        for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json")
    }

    assert needed | {"common/bundled/MODEL_CARD.md"} <= set(wheel_files)


def test_every_module_of_the_packages_is_in_the_wheel(wheel_files: list[str]) -> None:
    """A folder without `__init__.py` would be left out in silence."""
    modules = {
        path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    }

    assert modules <= set(wheel_files)
