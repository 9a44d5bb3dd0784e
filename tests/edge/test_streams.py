"""Standard streams that are not what a program hopes for: full, closed, or not UTF-8."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from loopback import loopback
from tests.edge.test_cli import NOBODY, VOCABULARY, stream, table
from thinwire.common.daemon.standard_streams import read_input
from thinwire.edge.cli import main

ROOT = Path(__file__).resolve().parents[2]
FULL = "standard output cannot be written (No space left on device); expected room for all of it."


async def command(*argv: str, out: str, module: str = "thinwire.edge") -> tuple[int | None, str]:
    """`python -m MODULE ARGV > OUT`: its exit code and standard error."""
    with open(out, "wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        _, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, err.decode()


@pytest.mark.parametrize("form", [(), ("--json",)])
async def test_a_full_disk_is_said_in_one_sentence(form: tuple[str, ...]) -> None:
    """Exit code 1, in the middle of a text; Python has nothing to add at its end."""
    async with loopback(table(), table(), VOCABULARY) as both:
        options = ("--edge", both.edge_address, "--max-tokens", "12", *form)
        assert await command("generate", "ab", *options, out="/dev/full") == (1, f"thinwire: {FULL}\n")


@pytest.mark.parametrize("argv", [("status",), ("status", "--json"), ("health",)])
async def test_no_other_command_has_a_traceback_for_a_full_disk(argv: tuple[str, ...]) -> None:
    """Nor has the cloud's command, whose certificates are there all the same."""
    async with loopback(table(), table(), VOCABULARY) as both:
        said = await command(*argv, "--edge", both.edge_address, out="/dev/full")

    assert said == (1, f"thinwire: {FULL}\n")


@pytest.mark.parametrize(
    ("module", "program"), [("thinwire.edge", "thinwire"), ("thinwire.cloud", "thinwire-cloud")]
)
async def test_help_says_the_same(module: str, program: str) -> None:
    """Python itself would say it at its exit, and with another code."""
    assert await command("--help", out="/dev/full", module=module) == (1, f"{program}: {FULL}\n")


@pytest.mark.parametrize("argv", [("certs", "{folder}"), ("token", "acme", "--file", "{folder}/tokens")])
async def test_the_clouds_command_says_the_same(argv: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever it makes is made."""
    words = [word.format(folder=tmp_path) for word in argv]

    assert await command(*words, out="/dev/full", module="thinwire.cloud") == (1, f"thinwire-cloud: {FULL}\n")
    assert list(tmp_path.iterdir())


async def test_a_text_is_utf_8_wherever_it_is_not_for_a_terminal(tmp_path: Path) -> None:
    """A locale that cannot spell the text does not end it."""
    code = (
        "import sys; from thinwire.common.daemon.standard_streams import prepare_streams, writing_output\n"
        "prepare_streams()\n"
        "with writing_output(): print('γ = 6')"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        cwd=ROOT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)

    assert out.decode("utf-8") == "γ = 6\n"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("generate", "a\udcff"), "the prompt has byte 0xff; expected UTF-8."),
        (("generate", "a", "--stop", "\udce9"), "--stop has byte 0xe9; expected UTF-8."),
        (("generate", "a", "--scheme", "\udce9"), "--scheme has byte 0xe9; expected UTF-8."),
    ],
)
def test_an_argument_that_is_not_utf_8_is_a_usage_error(
    argv: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without asking any edge; Python has such bytes as lone surrogates."""
    assert main([*argv, "--edge", NOBODY]) == 2
    assert capsys.readouterr().err == f"thinwire: {sentence}\n"


def test_standard_input_that_is_not_utf_8_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the byte and where it stands."""
    monkeypatch.setattr("sys.stdin", stream(b"def f():\xff"))

    assert main(["generate", "-", "--edge", NOBODY]) == 2
    assert capsys.readouterr().err == (
        "thinwire: standard input has byte 0xff at offset 8; expected UTF-8.\n"
    )


def test_standard_input_that_is_closed_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python has None for it."""
    monkeypatch.setattr("sys.stdin", None)

    assert main(["generate", "-", "--edge", NOBODY]) == 2
    assert capsys.readouterr().err == "thinwire: standard input is closed; expected the prompt there.\n"


def test_a_prompt_keeps_its_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pipes a text of another system gets the continuation of that text."""
    monkeypatch.setattr("sys.stdin", stream(b"a\r\nb\r"))

    assert read_input(100) == "a\r\nb\r"


async def test_standard_output_that_is_closed_leads_nowhere() -> None:
    """Python has None for it; the text is made and shown to nobody."""
    async with loopback(table(), table(), VOCABULARY) as both:
        for form in ("--quiet", "--json"):
            words = f"generate ab --edge {both.edge_address} --max-tokens 4 {form}"
            process = await asyncio.create_subprocess_exec(
                *("sh", "-c", f"exec {sys.executable} -m thinwire.edge {words} >&-"),
                stderr=asyncio.subprocess.PIPE,
                cwd=ROOT,
            )
            _, err = await asyncio.wait_for(process.communicate(), 60)
            assert (process.returncode, err) == (0, b"")
