"""What an installed Thinwire consists of, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOTS = ("common", "edge", "cloud")
MAX_WHEEL_BYTES = 1_000_000


def build_wheel(source: Path, out: Path) -> Path:
    """The wheel of the project in `source`."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that nothing is left in the tree."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for root in ROOTS:
        shutil.copytree(ROOT / root, source / root, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "golden", source / "tests")  # a folder that must stay outside
    return build_wheel(source, out)


def names_in(wheel: Path) -> set[str]:
    """Paths in a wheel, its own records left out."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_one_importable_name(wheel: Path) -> None:
    """No tests, no bench, no proto, and no name that belongs to somebody else."""
    assert {name.split("/")[0] for name in names_in(wheel)} == {"thinwire"}


def test_every_module_of_the_roots_is_in_the_wheel(wheel: Path) -> None:
    """Each root's part, under the one name."""
    modules = {
        path.relative_to(ROOT / root).as_posix() for root in ROOTS for path in (ROOT / root).rglob("*.py")
    }

    assert modules
    assert modules <= names_in(wheel)


def test_the_wheel_is_small(wheel: Path) -> None:
    """Models have a distribution of their own."""
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_the_pair_is_a_wheel_of_its_own(tmp_path: Path) -> None:
    """The weights and tokenizers of both, and their card."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "demo-pair", source, ignore=shutil.ignore_patterns("__pycache__"))
    needed = {
        f"thinwire_demo_pair/{role}/{name}"
        for role in ("target", "draft")
        for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json")
    }

    names = names_in(build_wheel(source, tmp_path / "out"))

    assert needed | {"thinwire_demo_pair/MODEL_CARD.md"} <= names
    assert {name.split("/")[0] for name in names} == {"thinwire_demo_pair"}


def test_an_installed_wheel_leaves_the_names_of_others_alone(wheel: Path, tmp_path: Path) -> None:
    """
    Beside a distribution `common`, and in a folder with a `common/` of the user's own, both keep theirs.

    The other distribution stands for PyPI's, which has a package of that name.
    """
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    (site,) = home.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("site-packages"))
    )
    theirs = tmp_path / "theirs"
    (theirs / "common").mkdir(parents=True)
    (theirs / "common" / "__init__.py").write_text("OWNER = 'the other distribution'\n")
    (theirs / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "common"\nversion = "1"\n[tool.hatch.build.targets.wheel]\npackages = ["common"]\n'
    )
    install = [
        *(
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
        ),
        *("--disable-pip-version-check", "--ignore-installed"),
    ]
    for each in (build_wheel(theirs, tmp_path / "other"), wheel):
        subprocess.run([*install, str(each)], check=True, capture_output=True, timeout=120)
    work = tmp_path / "work"
    (work / "common").mkdir(parents=True)
    (work / "common" / "__init__.py").write_text("OWNER = 'the user'\n")
    says = "import common, thinwire.edge.cli, thinwire.cloud.cli; print(common.OWNER, thinwire.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(folder: Path) -> str:
        done = subprocess.run(
            [python, "-c", says],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout.strip()

    face = site / "thinwire" / "__init__.py"
    assert run(work) == f"the user {face}"
    assert run(tmp_path) == f"the other distribution {face}"
