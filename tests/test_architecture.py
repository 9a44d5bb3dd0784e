"""Who may import whom, which names are taken, and how long a module may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("common", "edge", "cloud")
MAX_LINES = 400
NOT_INSTALLED = ("tests", "bench", "link", "deploy", "training")
TAKEN_NAMES = {"types.py", "logging.py", "queue.py", "random.py", "grpc.py"}

MODULES = {
    path.relative_to(ROOT / side / "thinwire").with_suffix("").as_posix(): path
    for side in SIDES
    for path in sorted((ROOT / side / "thinwire" / side).rglob("*.py"))
    if path.parent.name != "pb"
}
"""Our modules by their path inside `thinwire` without suffix, such as "common/wire/status"."""

DOORS = {
    "torch": ("common/language_model",),
    "transformers": ("common/language_model",),
    "tokenizers": ("common/language_model",),
    "safetensors": ("common/language_model",),
    "huggingface_hub": ("common/language_model",),
    "grpc": (
        "common/wire",
        "cloud/daemon",
        "cloud/live_session",
        "cloud/cli",
        "edge/daemon",
        "edge/cloud_link",
        "edge/generation",
        "edge/client",
        "edge/cli",
    ),
    "grpc_health": ("common/wire",),
    "grpc_reflection": ("common/wire",),
    "grpc_status": ("common/wire",),
    "google.rpc": ("common/wire",),
    "google.protobuf": ("common/wire",),
    "thinwire.common.pb": ("common/wire",),
    "google_crc32c": ("common/session/checksum",),
    "cryptography": ("cloud/certificates", "common/door/security"),
    "prometheus_client": ("common/observe/metrics",),
    "opentelemetry": ("common/observe/tracing",),
}
"""Import → the only modules (or packages) that may have it."""

ROOMS: dict[str, set[str]] = {
    "law": set(),
    "schemes": {"law"},
    "session": {"schemes"},
    "language_model": {"session"},
    "observe": {"session"},
    "door": {"observe"},
    "wire": {"schemes", "session", "observe", "door"},
    "daemon": {"observe", "door", "wire", "language_model"},
}
"""A room of `common` → the rooms it may import from, besides the flat modules."""


def imports_of(source: str) -> set[str]:
    """Every dotted name a module imports, those inside functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


IMPORTS = {name: imports_of(path.read_text()) for name, path in MODULES.items()}


def is_within(name: str, package: str, separator: str = ".") -> bool:
    """Whether `name` is `package` or inside it."""
    return name == package or name.startswith(package + separator)


def importers_of(package: str) -> set[str]:
    """Our modules that import `package` or something inside it."""
    return {module for module, names in IMPORTS.items() if any(is_within(name, package) for name in names)}


@pytest.mark.parametrize(
    ("side", "forbidden"), [("common", "edge"), ("common", "cloud"), ("edge", "cloud"), ("cloud", "edge")]
)
def test_dependencies_point_towards_common(side: str, forbidden: str) -> None:
    """`common` imports neither side, and the two sides never import each other."""
    crossing = {module for module in importers_of(f"thinwire.{forbidden}") if is_within(module, side, "/")}

    assert crossing == set()


def test_what_is_installed_imports_nothing_that_is_not() -> None:
    """Neither tests nor bench, link, deploy or training."""
    assert set().union(*map(importers_of, NOT_INSTALLED)) == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_common_imports_only_from_the_rooms_below(room: str) -> None:
    """What a room may know stands in one table, and nothing in it is left over."""
    named = {
        name.split(".")[2]
        for module, names in IMPORTS.items()
        if is_within(module, f"common/{room}", "/")
        for name in names
        if name.startswith("thinwire.common.") and name.split(".")[2] in ROOMS
    }

    assert named - {room} == ROOMS[room]


def test_every_folder_of_common_is_a_room() -> None:
    """Generated code aside, a folder without a rule is none."""
    folders = {name.split("/")[1] for name in MODULES if name.count("/") > 1 and name.startswith("common/")}

    assert folders == set(ROOMS)


@pytest.mark.parametrize("package", DOORS)
def test_each_heavy_dependency_has_its_doors(package: str) -> None:
    """Models, wire, generated code and checksum each come in at one place."""
    outside = {
        module
        for module in importers_of(package)
        if not any(is_within(module, door, "/") for door in DOORS[package])
    }

    assert outside == set()


@pytest.mark.parametrize("package", ["torch", "grpc", "thinwire.common.pb", "google_crc32c"])
def test_the_doors_are_in_use(package: str) -> None:
    """The scan sees the imports it is there to see."""
    assert importers_of(package)


def test_no_module_shadows_the_standard_library_or_grpc() -> None:
    """Plain top-level packages make such names traps."""
    assert {name for name, path in MODULES.items() if path.name in TAKEN_NAMES} == set()


def test_modules_are_short() -> None:
    """No module and no test file is longer than 400 lines, generated code excepted."""
    tests = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "tests").rglob("*.py")}
    lines = {name: len(path.read_text().splitlines()) for name, path in (MODULES | tests).items()}

    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_every_module_says_what_it_is_for() -> None:
    """Each module that holds code begins with a docstring."""
    silent = {
        name
        for name, path in MODULES.items()
        if (text := path.read_text()).strip() and ast.get_docstring(ast.parse(text)) is None
    }

    assert silent == set()


@pytest.mark.parametrize(
    "module",
    [
        *(f"{side}/{module}" for side in SIDES[1:] for module in ("conversation", "session", "free_running")),
        *(
            "cloud/hint_store",
            "cloud/hint_patience",
            "cloud/stop_finder",
            "common/law/speculative",
            "edge/draft_block",
        ),
        *("common/session/copying", "common/session/hit_rate", "edge/hint_sources", "edge/expected_text"),
    ],
)
def test_the_core_does_no_io(module: str) -> None:
    """The sans-IO core imports no clock, no network, no event loop, no model and no source of randomness."""
    forbidden = {"time", "asyncio", "threading", "socket", "random", "secrets", "logging", "grpc", "torch"}

    assert {name.split(".")[0] for name in IMPORTS[module]} & forbidden == set()


def test_no_command_takes_an_abbreviated_option() -> None:
    """An abbreviation that works today is another option after the next release."""
    loose = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in (*SIDES, "bench", "deploy", "link", "tests", "training")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("ArgumentParser")
        and "allow_abbrev=False" not in ast.unparse(node)
    ]

    assert loose == []
